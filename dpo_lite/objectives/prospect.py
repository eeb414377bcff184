"""KTO's loss: answers that are good or bad by themselves, held against a reference point.

Ethayarajh et al. 2024, arXiv:2402.01306, Eqs. 7 and 8. No model, no batch, no state.
"""

from __future__ import annotations

import torch


def reference_point(log_ratios: torch.Tensor) -> torch.Tensor:
    """z0 = max(0, mean of log pi/pi_ref) over mismatched pairs, (M,) -> (), in nats.

    The paper's estimate of KL(pi || pi_ref) (Section 4): biased, for the answers were not drawn
    from the policy, but alike for all answers, and cheap. No gradient goes through it.
    """
    return log_ratios.detach().mean().clamp(min=0)


def kto_losses(
    rewards: torch.Tensor,
    desirable: torch.Tensor,
    anchor: float | torch.Tensor,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> torch.Tensor:
    """lambda_y - v(x, y) of each answer: rewards (E,), desirable (E,) of bool -> (E,).

        v = lambda_D sigma(r - beta z0)    of a good answer
            lambda_U sigma(beta z0 - r)    of a bad one

    with r = beta log pi/pi_ref; ``anchor`` = beta z0, in units of the rewards. A good answer is
    worth the more the further it lies above the point, a bad one below, and both saturate.
    """
    gains = torch.where(desirable, rewards - anchor, anchor - rewards)
    weights = torch.where(desirable, desirable_weight, undesirable_weight).to(gains)
    return weights * (1 - torch.sigmoid(gains))


def kto_at_start(
    desirable: torch.Tensor, desirable_weight: float = 1.0, undesirable_weight: float = 1.0
) -> float:
    """The mean loss while policy and reference are equal: half of each answer's weight."""
    zeros = torch.zeros(len(desirable), dtype=torch.float64)
    return kto_losses(zeros, desirable, 0.0, desirable_weight, undesirable_weight).mean().item()
