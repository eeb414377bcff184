"""The losses: pure functions of scores, one per example. No model, no batch, no state.

A score says how much the policy prefers a response. For DPO and its kin it is the implicit reward

    r(x, y) = beta * (log pi(y | x) - log pi_ref(y | x))            (DPO, Eq. 5 without beta log Z)

The normaliser beta log Z(x) is the same for all responses to a prompt and cancels in every loss
here. All functions take responses best first: column 0 is the chosen one.

DPO: Rafailov et al. 2023, arXiv:2305.18290.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def implicit_rewards(
    policy_logps: torch.Tensor, reference_logps: torch.Tensor, beta: float
) -> torch.Tensor:
    """beta * log(pi / pi_ref) per response. Shapes: (R,) and (R,) -> (R,), in nats times beta."""
    return beta * (policy_logps - reference_logps)


def sigmoid_loss(rewards: torch.Tensor) -> torch.Tensor:
    """-log sigma(r_w - r_l): DPO, Eq. 7. rewards (E, 2) -> (E,)."""
    return -F.logsigmoid(rewards[:, 0] - rewards[:, 1])


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


def preference_losses(
    loss: str, rewards: torch.Tensor, lengths: torch.Tensor, group_sizes: list[int], beta: float
) -> torch.Tensor:
    """The named loss of every example: rewards (R,), lengths (R,), sum(group_sizes) = R -> (E,)."""
    if loss == "plackett_luce":
        groups = rewards.split(group_sizes)
        return torch.cat([plackett_luce_loss(group[None]) for group in groups])
    pairs = rewards.view(-1, 2)
    if loss == "sigmoid":
        return sigmoid_loss(pairs)
    if loss == "hinge":
        return hinge_loss(pairs)
    if loss == "ipo":
        return ipo_loss(pairs, lengths.view(-1, 2), beta)
    raise ValueError(f"unknown loss {loss}")


def loss_at_start(loss: str, responses: int, beta: float) -> float:
    """The loss while policy and reference are equal and all rewards are zero.

    ln 2 for DPO, ln K! for Plackett-Luce, 1 for hinge, (1 / 2 beta)^2 for IPO.
    """
    zeros = torch.zeros(responses, dtype=torch.float64)
    lengths = torch.ones(responses, dtype=torch.float64)
    return preference_losses(loss, zeros, lengths, [responses], beta).item()
