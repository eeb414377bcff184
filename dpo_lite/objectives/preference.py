"""The losses: pure functions of scores, one per example. No model, no batch, no state.

A score says how much the policy prefers a response. For DPO and its kin it is the implicit reward

    r(x, y) = beta * (log pi(y | x) - log pi_ref(y | x))            (DPO, Eq. 5 without beta log Z)

The normaliser beta log Z(x) is the same for all responses to a prompt and cancels in every loss
here. All functions take responses best first: column 0 is the chosen one. Every loss is a function
of one sum per response, its log-ratio, so none needs more than the frozen head keeps.

What beta means differs from loss to loss, and so does its default. That, and which losses there
are, stands in dpo_lite.objectives.losses.

DPO: Rafailov et al. 2023, arXiv:2305.18290.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from dpo_lite.objectives.losses import LOSSES

MOMENTUM = 0.9  # of the mean margin that a moving beta is held against
LOWEST = 0.01  # of the recipe's beta


def implicit_rewards(
    policy_logps: torch.Tensor,
    reference_logps: torch.Tensor,
    beta: float,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """beta * log(pi / pi_ref) per response, with ``lengths`` divided by its number of tokens.

    Shapes: (R,) each -> (R,), in nats (per token) times beta. Per token it is the reward of
    ``sigmoid_norm``, the length-normalised DPO of Tulu 3, arXiv:2411.15124, Section 5.1: otherwise
    its loss is ``sigmoid_loss``. A log-ratio per token is small, so beta is large: 5 in the paper.
    """
    rewards = beta * (policy_logps - reference_logps)
    return rewards if lengths is None else rewards / lengths


def sigmoid_loss(rewards: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """-log sigma(r_w - r_l): DPO, Eq. 7. rewards (E, 2) -> (E,).

    With ``label_smoothing`` = e it is the conservative DPO of Mitchell 2023 (a note on DPO with
    noisy preferences, https://ericmitchell.ai/cdpo.pdf, Eq. 3):

        -(1 - e) log sigma(r_w - r_l) - e log sigma(r_l - r_w)

    the cross-entropy to a label that is right with probability 1 - e. It is least where the margin
    is log((1 - e) / e), so no pair is pulled further apart than that.
    """
    margins = rewards[:, 0] - rewards[:, 1]
    right, flipped = -F.logsigmoid(margins), -F.logsigmoid(-margins)
    return (1 - label_smoothing) * right + label_smoothing * flipped


def robust_loss(rewards: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """DPO's loss without the bias of wrong labels: rDPO, Chowdhury et al. 2024, arXiv:2403.00409,
    Section 3. rewards (E, 2) -> (E,).

        [(1 - e) l(r_w - r_l) - e l(r_l - r_w)] / (1 - 2e),    l(m) = -log sigma(m)

    ``label_smoothing`` = e is the share of labels that are the wrong way round, below 1/2. In
    expectation over such flips it is ``sigmoid_loss`` on the true labels. It has no lower bound:
    beyond a large margin it falls by e / (1 - 2e) per unit of it.
    """
    margins = rewards[:, 0] - rewards[:, 1]
    right, flipped = -F.logsigmoid(margins), -F.logsigmoid(-margins)
    return ((1 - label_smoothing) * right - label_smoothing * flipped) / (1 - 2 * label_smoothing)


def hinge_loss(rewards: torch.Tensor) -> torch.Tensor:
    """max(0, 1 - (r_w - r_l)): SLiC-HF on implicit rewards, arXiv:2305.10425, Eq. 1; 1 / beta is
    the margin in nats. rewards (E, 2) -> (E,)."""
    return torch.relu(1 - (rewards[:, 0] - rewards[:, 1]))


def ipo_loss(rewards: torch.Tensor, lengths: torch.Tensor, beta: float) -> torch.Tensor:
    """(h_w - h_l - 1 / (2 beta))^2 with h the log-ratio per token: IPO, arXiv:2310.12036, Eq. 17.

    beta is the paper's tau. The division by length is the authors' own in their experiments; it
    keeps the target 1 / (2 beta) comparable across lengths. rewards, lengths (E, 2) -> (E,).
    """
    per_token = rewards / beta / lengths
    return (per_token[:, 0] - per_token[:, 1] - 1 / (2 * beta)) ** 2


def apo_zero_loss(rewards: torch.Tensor) -> torch.Tensor:
    """1 - sigma(r_w) + sigma(r_l): anchored preference optimisation, D'Oosterlinck et al. 2024,
    arXiv:2408.06266, Section 3 (APO-zero). rewards (E, 2) -> (E,).

    The chosen response is made likelier and the rejected one less likely, each for itself; for
    answers that are better than what the model says now.
    """
    return 1 - torch.sigmoid(rewards[:, 0]) + torch.sigmoid(rewards[:, 1])


def apo_down_loss(rewards: torch.Tensor) -> torch.Tensor:
    """sigma(r_w) + 1 - sigma(r_w - r_l): the same paper's APO-down, for answers of which both are
    worse than what the model says now. rewards (E, 2) -> (E,)."""
    return torch.sigmoid(rewards[:, 0]) + 1 - torch.sigmoid(rewards[:, 0] - rewards[:, 1])


def bco_pair_loss(rewards: torch.Tensor) -> torch.Tensor:
    """-log sigma(r_w) - log sigma(-r_l): binary classifier optimisation, Jung et al. 2024,
    arXiv:2404.04656, on pairs; in MPO (arXiv:2411.10442) the quality loss. rewards (E, 2) -> (E,).

    Each response is good or bad by itself. The papers take a shift delta off both rewards, a moving
    mean of earlier ones; here, as in TRL's loss of this name, it is 0.
    """
    return -F.logsigmoid(rewards[:, 0]) - F.logsigmoid(-rewards[:, 1])


def dpop_loss(rewards: torch.Tensor, dpop_lambda: float) -> torch.Tensor:
    """-log sigma(r_w - r_l - lambda max(0, -r_w)): DPO-Positive, Pal et al. 2024 (Smaug),
    arXiv:2402.13228, Eq. 3. rewards (E, 2) -> (E,).

    The last term is paid where the chosen response is less likely than under the reference.
    """
    chosen, rejected = rewards.unbind(1)
    return -F.logsigmoid(chosen - rejected - dpop_lambda * torch.relu(-chosen))


def simpo_loss(rewards: torch.Tensor, simpo_gamma: float) -> torch.Tensor:
    """-log sigma(r_w - r_l - gamma) with r = beta log pi / |y|: SimPO, Meng et al. 2024,
    arXiv:2405.14734, Eq. 6. rewards (E, 2) -> (E,)."""
    return -F.logsigmoid(rewards[:, 0] - rewards[:, 1] - simpo_gamma)


def orpo_loss(rewards: torch.Tensor, beta: float) -> torch.Tensor:
    """-beta log sigma(log odds_w - log odds_l): ORPO's second term, Hong et al. 2024,
    arXiv:2403.07691, Eqs. 4 and 7; beta is the paper's lambda. rewards (E, 2) -> (E,).

    odds = p / (1 - p), where p = exp(log pi / |y|) is the mean probability of a response's token.
    Rewards are beta log p. The first term is the likelihood of the chosen one: ``sft_loss``.
    """
    logps = (rewards / beta).clamp(max=-1e-6)  # p = 1 has no odds
    log_odds = logps - torch.log(-torch.expm1(logps))
    return -beta * F.logsigmoid(log_odds[:, 0] - log_odds[:, 1])


def plackett_luce_loss(rewards: torch.Tensor) -> torch.Tensor:
    """-sum_k [r_k - log sum_{j >= k} exp r_j]: DPO, Appendix A.3, Eq. 20. rewards (E, K) -> (E,).

    The probability of the whole ranking, best first: at each place the response that stands there
    is drawn from those that are left. With K = 2 it is ``sigmoid_loss`` exactly.
    """
    left = rewards.flip(-1).logcumsumexp(-1).flip(-1)
    return (left - rewards)[:, :-1].sum(-1)


def sft_loss(chosen_logps: torch.Tensor, chosen_lengths: torch.Tensor) -> torch.Tensor:
    """-log pi(y_w | x) / |y_w|: the term that RPO adds to DPO, arXiv:2404.19733, Eq. 1.

    It holds up the chosen response, whose likelihood DPO alone may push down together with the
    rejected one. chosen_logps, chosen_lengths (E,) -> (E,).
    """
    return -chosen_logps / chosen_lengths


def centering_penalties(scores: torch.Tensor, group_sizes: list[int]) -> torch.Tensor:
    """(r_w + r_l)^2 of every pair, (R,) -> (E,); of K responses twice their mean, squared.

    Added to a reward model's loss it keeps rewards around 0, where Eq. 2 leaves open what is added
    to all answers to a prompt: Eisenstein et al. 2023, arXiv:2312.09244. It is paid for by rewards
    that lie somewhat closer together.
    """
    sizes = torch.tensor(group_sizes)
    groups = torch.repeat_interleave(sizes)  # on the host, which would wait for a card's
    sizes, groups = (x.to(scores.device, non_blocking=True) for x in (sizes, groups))
    sums = scores.new_zeros(len(sizes)).index_add(0, groups, scores)
    return (2 * sums / sizes) ** 2


def shared_weights(response: torch.Tensor, lengths: torch.Tensor, ld_alpha: float) -> torch.Tensor:
    """What each token of pairs counts for: 1 up to the shorter answer's length, then ``ld_alpha``.

    LD-DPO, Liu et al. 2024, arXiv:2409.06411: log pi of an answer is the sum of its tokens'
    log-probabilities with these weights, so the tokens that the other answer has none of count
    less. 1 is DPO; 0 compares the two as far as both go. ``response`` (N,): which response a token
    is of, all of one in a row; ``lengths`` (R,), chosen and rejected by turns -> (N,).
    """
    starts = lengths.cumsum(0) - lengths
    place = torch.arange(len(response), device=response.device) - starts[response]
    shared = lengths.view(-1, 2).amin(1).repeat_interleave(2)
    return torch.where(place < shared[response], 1.0, ld_alpha)


def moved_beta(beta: float, weight: float, margin: float, mean_margin: float) -> float:
    """[1 + weight (M - M_0)] beta: the beta of an update, beta-DPO, Wu et al. 2024,
    arXiv:2407.08639.

    ``margin``: M, the update's mean margin of rewards under ``beta``; ``mean_margin``: M_0, the
    moving mean of those before. Pairs that are far apart already get a higher beta. It is kept
    above 0, which the formula alone does not do.
    """
    return beta * max(1 + weight * (margin - mean_margin), LOWEST)


def moved_mean(mean_margin: float, margin: float) -> float:
    """The moving mean M_0 after an update whose mean margin was M; the paper's momentum of 0.9."""
    return MOMENTUM * mean_margin + (1 - MOMENTUM) * margin


def preference_losses(
    loss: str,
    rewards: torch.Tensor,
    lengths: torch.Tensor,
    group_sizes: list[int],
    beta: float,
    label_smoothing: float = 0.0,
    options: Mapping[str, float] | None = None,
) -> torch.Tensor:
    """The named loss of every example: rewards (R,), lengths (R,), sum(group_sizes) = R -> (E,).

    ``rewards`` are those of the loss: per token where it says so. ``options`` that are not given
    are the loss's own.
    """
    spec = LOSSES[loss]
    others = {"beta": beta, "label_smoothing": label_smoothing} | {
        **spec.options,
        **(options or {}),
    }

    def of(rewards: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return spec(rewards, lengths=lengths, **others)

    if not spec.listwise:
        return of(rewards.view(-1, 2), lengths.view(-1, 2))
    groups = zip(rewards.split(group_sizes), lengths.split(group_sizes), strict=True)
    return torch.cat([of(own[None], tokens[None]) for own, tokens in groups])


def loss_at_start(loss: str, responses: int, beta: float) -> float:
    """The loss while policy and reference are equal and all rewards are zero.

    ln 2 for DPO, also smoothed, robust, positive or per token; ln K! for Plackett-Luce, 1 for hinge
    and APO, (1 / 2 beta)^2 for IPO.
    """
    zeros = torch.zeros(responses, dtype=torch.float64)
    lengths = torch.ones(responses, dtype=torch.float64)
    return preference_losses(loss, zeros, lengths, [responses], beta).item()
