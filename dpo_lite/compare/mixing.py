"""The strength dial: policy and reference mixed token by token while they answer.

With strength s the next token is drawn from softmax((1 - s) h_ref + s h), of the logits h of both
on the text so far: log pi_s = (1 - s) log pi_ref + s log pi + const. Strength 1 is the policy, 0
the reference, and above 1 it goes on beyond the policy. It stands for a policy that was trained
with beta / s, token by token and not over whole answers (decoding-time realignment, Liu et al.
2024, arXiv:2402.02992). Both wear the same base, so a mixed column is two rows of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Mix:
    """PEFT's names of the two adapters, and how far the policy's counts."""

    policy: str
    reference: str
    strength: float


def mixed(policy: torch.Tensor, reference: torch.Tensor, strength: float) -> torch.Tensor:
    """Logits (V,) of the mixture: bit by bit the policy's at 1 and the reference's at 0.

    A token that either of them rules out stays ruled out.
    """
    ruled_out = torch.isneginf(policy) | torch.isneginf(reference)
    return torch.lerp(reference, policy, strength).masked_fill(ruled_out, -torch.inf)


def divergence(logits: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """KL of the next token in nats, from the first (V,) to the second (V,); a scalar."""
    own, other = logits.log_softmax(-1), reference.log_softmax(-1)
    return (own.exp() * (own - other)).nan_to_num(0.0).sum()  # NaN where both are ruled out


class Mixer:
    """A logits processor: both rows of a pair get the mixture, and so the same next token.

    ``pairs``: (row of the policy, row of the reference, strength). ``moved`` has for every step the
    KL (M,) of each pair's mixture to its reference, over the whole vocabulary.
    """

    def __init__(self, pairs: Sequence[tuple[int, int, float]]):
        self.pairs = pairs
        self.moved: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores, moved = scores.clone(), []
        for own, held_to, strength in self.pairs:
            logits = mixed(scores[own], scores[held_to], strength)
            moved.append(divergence(logits, scores[held_to]))
            scores[own] = scores[held_to] = logits
        self.moved.append(torch.stack(moved))
        return scores
