"""SFT on the chosen answers: where it ends, and what more of it can and cannot do."""

from __future__ import annotations

import torch

from dpo_lite.objectives.preference import sft_loss
from scripts.theory.frontier import place, shortfall
from scripts.theory.learners import Trained, descend, train_pairs
from scripts.theory.proof import Table, plain
from scripts.theory.toy import (
    LENGTH,
    Levels,
    World,
    all_pairs,
    answer_logps,
    optimal_policy,
    preferences,
)

ROUNDS = (2, 5)


def chosen_policy(world: World, logps: torch.Tensor) -> torch.Tensor:
    """log of how often an answer is the chosen one of two that were drawn from pi: (X, Y).

        p_w(y|x) = 2 pi(y|x) E_{y' ~ pi} sigma(r(x,y) - r(x,y'))

    The win probability is below 1, so p_w < 2 pi: no answer is ever doubled.
    """
    r = world.reward
    wins = (r[:, :, None] - r[:, None, :]).sigmoid()
    return logps + (2 * (wins * logps.exp()[:, None, :]).sum(-1)).log()


def train_on_chosen(world: World, updates: int) -> Trained:
    """SFT with endless data: each answer weighs how often it is chosen."""
    chosen = chosen_policy(world, world.reference).exp()
    lengths = torch.full_like(chosen, LENGTH)

    def loss(levels: Levels) -> torch.Tensor:
        return (chosen * sft_loss(answer_logps(levels), lengths)).sum(-1).mean()

    return descend(world.reference_levels, loss, updates, lr=0.1)


def train_on_drawn_pairs(world: World, beta: float) -> Trained:
    """DPO on the same data: pairs of two answers of the reference, as often as it draws them."""
    pairs, reference = all_pairs(), world.reference.exp()
    drawn = reference[:, pairs[:, 0]] * reference[:, pairs[:, 1]]
    weights = preferences(world.reward, pairs) * drawn[..., None]
    return train_pairs(world, beta, pairs, weights)


def rounds_of(world: World, rounds: int) -> torch.Tensor:
    """SFT on the chosen again and again, each time on answers drawn and judged anew: (X, Y)."""
    logps = world.reference
    for _ in range(rounds):
        logps = chosen_policy(world, logps)
    return logps


def imitation_table(world: World, beta: float) -> Table:
    """SFT on the chosen and DPO on the pairs, of two answers that the reference drew."""
    policies = {"π_ref": world.reference}
    for updates in (500, 2000):
        policies[f"SFT on the chosen, {updates:,} updates"] = train_on_chosen(world, updates).logps
    policies["how often each answer is chosen, p_w"] = rounds_of(world, 1)
    policies["DPO on the pairs, 500 updates"] = train_on_drawn_pairs(world, beta).logps
    policies["π\\*"] = optimal_policy(world.reward, world.reference, beta)
    for rounds in ROUNDS:
        policies[f"SFT, {rounds} rounds of new answers judged anew"] = rounds_of(world, rounds)
    rows: Table = [("policy", "expected reward", "KL to π_ref", "short of the frontier")]
    for name, logps in policies.items():
        values = (*place(world, logps), shortfall(world, logps))
        rows.append((name, *(plain(value, 3) for value in values)))
    return rows
