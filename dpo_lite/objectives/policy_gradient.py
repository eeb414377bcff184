"""Policy gradients on answers: the pure functions of PPO. No model, no sampling, no optimiser.

An answer is an episode, a token is an action. The reward model's score arrives with the last token;
every token pays for its step away from the reference. Batches are (B, T): B answers of up to T
tokens, padded on the right, with a mask that is true on the answer's tokens.

Besides PPO's advantages there are those of leave-one-out (RLOO), where an answer is one action and
the other answers to its prompt say what was to be expected, and those of the group (GRPO).

PPO: Schulman et al. 2017, arXiv:1707.06347. GAE: Schulman et al. 2015, arXiv:1506.02438.
The reward with a KL term for language models: Ziegler et al. 2019, arXiv:1909.08593.
RLOO: Ahmadian et al. 2024, arXiv:2402.14740. GRPO: Shao et al. 2024, arXiv:2402.03300.
"""

from __future__ import annotations

import torch


def kl_shaped_rewards(
    scores: torch.Tensor,
    policy_logps: torch.Tensor,
    reference_logps: torch.Tensor,
    mask: torch.Tensor,
    beta: float,
) -> torch.Tensor:
    """-beta * (log pi - log pi_ref) per token, the score added on the last: Ziegler, Eq. 2.

    Summed over an answer it is r(x, y) - beta * log(pi(y|x) / pi_ref(y|x)), whose expectation under
    pi is DPO's Eq. 3. policy_logps are those of the policy that sampled the answer, without
    gradient. scores (B,), the others (B, T) -> (B, T), zero on padding.
    """
    rewards = -beta * (policy_logps - reference_logps) * mask
    tokens_left = mask.long().flip(-1).cumsum(-1).flip(-1)
    return rewards + scores[:, None] * (mask.bool() & (tokens_left == 1))


def generalized_advantages(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gamma: float, lam: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Advantages A_t = sum_l (gamma lam)^l delta_{t+l} (GAE, Eq. 16; PPO, Eq. 11 and 12) and
    returns A_t + V_t, what the values are fitted to.

    delta_t = r_t + gamma V_{t+1} - V_t, where V_t is the value before token t and the value after
    the last token is 0. lam 1 trusts the rewards that followed, lam 0 the values. All (B, T) ->
    two (B, T), zero on padding.
    """
    advantages = torch.zeros_like(rewards)
    advantage = next_value = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = (delta + gamma * lam * advantage) * mask[:, t]
        next_value = values[:, t] * mask[:, t]
        advantages[:, t] = advantage
    return advantages, advantages + values * mask


def clipped_surrogate(
    log_ratios: torch.Tensor, advantages: torch.Tensor, clip: float, clip_high: float | None = None
) -> torch.Tensor:
    """-min(rho A, clip(rho, 1 - clip, 1 + clip) A) with rho = pi / pi_old: PPO, Eq. 7, as a loss.

    The gradient is zero where the ratio has already gone further than `clip` in the direction that
    the advantage asks for, and never where it has gone the wrong way. ``clip_high``: how far up,
    where that is another number than down (clip-higher: DAPO, arXiv:2503.14476, Eq. 8).
    ``log_ratios`` are log pi - log pi_old. Any one shape -> that shape.
    """
    ratio = log_ratios.exp()
    near = ratio.clamp(1 - clip, 1 + (clip if clip_high is None else clip_high))
    return -torch.minimum(ratio * advantages, near * advantages)


def kl_penalties(
    policy_logps: torch.Tensor, old_logps: torch.Tensor, reference_logps: torch.Tensor
) -> torch.Tensor:
    """rho (pi_ref / pi - log(pi_ref / pi) - 1) of each token: GRPO, Eq. 4, with rho = pi / pi_old.

    Never negative, and in expectation under pi_old, who drew the tokens, the KL of pi to the
    reference; so is its gradient. Without rho neither is, though GRPO has none (DeepSeek-V3.2,
    arXiv:2512.02556, Section 3.1). Any one shape -> that shape.
    """
    over = reference_logps - policy_logps
    return (policy_logps - old_logps).exp() * (over.exp() - over - 1)


def value_losses(
    values: torch.Tensor,
    old_values: torch.Tensor,
    returns: torch.Tensor,
    clip: float | None = None,
) -> torch.Tensor:
    """(V - R)^2 / 2, any one shape -> that shape: PPO, Eq. 9's second term.

    With ``clip`` max((V - R)^2, (clip(V, V_old - clip, V_old + clip) - R)^2) / 2. That is not in
    the paper but in OpenAI's code (openai/baselines, ppo2), so that values go no further in one
    rollout than ratios; Andrychowicz et al. 2020, arXiv:2006.05990, find that it does harm.
    """
    if clip is None:
        return (values - returns) ** 2 / 2
    near = old_values + (values - old_values).clamp(-clip, clip)
    return torch.maximum((values - returns) ** 2, (near - returns) ** 2) / 2


def whitened(values: torch.Tensor, mask: torch.Tensor, shift: bool = True) -> torch.Tensor:
    """Scaled to unit variance over the masked places; ``shift`` also to zero mean. Padding is 0."""
    chosen = values[mask.bool()]
    mean = chosen.mean()
    deviation = chosen.std(unbiased=False) + 1e-8
    moved = (values - mean) / deviation
    return (moved if shift else moved + mean) * mask


def leave_one_out(rewards: torch.Tensor) -> torch.Tensor:
    """r_i - the mean of the other answers' rewards: RLOO, Section 3. (P, K) -> (P, K).

    K answers to each of P prompts, K > 1. The mean of the others does not depend on answer i, so it
    takes variance out of the gradient and no bias in.
    """
    count = rewards.shape[1]
    others = (rewards.sum(1, keepdim=True) - rewards) / (count - 1)
    return rewards - others


def group_advantages(rewards: torch.Tensor, scale: str = "group") -> torch.Tensor:
    """(r_i - mean) / deviation over the answers to one prompt: GRPO, Section 4.1.2. (P, K) -> same.

    ``scale``: whose deviation, the prompt's own ("group"), the whole rollout's ("batch"), or no
    division at all ("none"), so that prompts on which nearly all answers earn the same do not count
    for more (Dr. GRPO, arXiv:2503.20783, Section 3.1). Where all earn the same it is 0.
    """
    above = rewards - rewards.mean(1, keepdim=True)
    if scale == "none":
        return above
    deviation = rewards.std(1, keepdim=True) if scale == "group" else rewards.std()
    return above / (deviation + 1e-4)


def token_weights(mask: torch.Tensor, average: str, answers: int, longest: int) -> torch.Tensor:
    """What each token of a minibatch counts: (A, T) -> (A, T), zero on padding.

    ``average``: "tokens": the mean over all tokens (DAPO, arXiv:2503.14476, Eq. 8). "answers": over
    each answer's tokens, then over ``answers`` (GRPO, Eq. 3): a token of a long answer counts less.
    "constant": the sum by ``answers`` times ``longest``, the most tokens that an answer may have
    (Dr. GRPO, arXiv:2503.20783). mask: of the whole minibatch.
    """
    whole = mask.float()
    if average == "tokens":
        return whole / whole.sum()
    if average == "answers":
        return whole / whole.sum(-1, keepdim=True) / answers
    return whole / (answers * longest)


def steered_beta(beta: float, kl: float, target: float) -> float:
    """The next KL coefficient: higher where the KL was over the target. Ziegler, Section 2.2.

    e = clip((KL - target) / target, -0.2, 0.2), then beta (1 + 0.1 e).
    """
    error = min(max((kl - target) / target, -0.2), 0.2)
    return beta * (1 + 0.1 * error)
