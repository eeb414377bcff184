"""Policy gradients on answers: the pure functions of PPO. No model, no sampling, no optimiser.

An answer is an episode, a token is an action. The reward model's score arrives with the last token;
every token pays for its step away from the reference. Batches are (B, T): B answers of up to T
tokens, padded on the right, with a mask that is true on the answer's tokens.

PPO: Schulman et al. 2017, arXiv:1707.06347. GAE: Schulman et al. 2015, arXiv:1506.02438.
The reward with a KL term for language models: Ziegler et al. 2019, arXiv:1909.08593.
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
    policy_logps: torch.Tensor, old_logps: torch.Tensor, advantages: torch.Tensor, clip: float
) -> torch.Tensor:
    """-min(rho A, clip(rho, 1 - clip, 1 + clip) A) with rho = pi / pi_old: PPO, Eq. 7, as a loss.

    The gradient is zero where the ratio has already gone further than `clip` in the direction that
    the advantage asks for, and never where it has gone the wrong way. Any one shape -> that shape.
    """
    ratio = (policy_logps - old_logps).exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
