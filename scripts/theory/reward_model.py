"""A reward model that is a table, fitted by Eq. 2 with the functions that train real ones."""

from __future__ import annotations

import torch

from dpo_lite.objectives.preference import centering_penalties
from scripts.theory.learners import pair_loss
from scripts.theory.proof import Table, plain
from scripts.theory.toy import (
    ANSWERS,
    PROMPTS,
    World,
    all_pairs,
    optimal_policy,
    preferences,
    total_variation,
)


def fit_rewards(world: World, centering: float = 0.0, updates: int = 400) -> torch.Tensor:
    """r_phi (X, Y) by Adam on Eq. 2 over all pairs, weighed by how often each is preferred.

    It begins with another level at each prompt, as an untrained head would. `centering` weighs the
    penalty of `train.centering`.
    """
    generator = torch.Generator().manual_seed(6)
    level = torch.randn(PROMPTS, 1, generator=generator, dtype=torch.float64)
    rewards = level.repeat(1, ANSWERS).requires_grad_()
    pairs, lr = all_pairs(), 0.1
    chances = preferences(world.reward, pairs)
    optimizer = torch.optim.Adam([rewards], lr=lr)
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = lr * (1 - update / updates)
        optimizer.zero_grad()
        loss = pair_loss(rewards, pairs, chances)
        if centering:
            both = rewards[:, pairs].flatten()
            loss = loss + centering * centering_penalties(both, [2] * (len(both) // 2)).mean()
        loss.backward()
        optimizer.step()
    return rewards.detach()


def reward_table(world: World, beta: float) -> Table:
    """What Eq. 2 settles and what it leaves open, without and with centring."""
    free = fit_rewards(world)
    models = {
        "Eq. 2": free,
        "Eq. 2, then the mean subtracted": free - free.mean(),
        "Eq. 2 and the penalty, weight 0.001": fit_rewards(world, centering=0.001),
        "Eq. 2 and the penalty, weight 0.01": fit_rewards(world, centering=0.01),
    }
    pairs = all_pairs()
    truth = preferences(world.reward, pairs)
    best = optimal_policy(world.reward, world.reference, beta)
    rows: Table = [
        (
            "reward model",
            "loss of Eq. 2",
            "mean of all",
            "means of the prompts",
            "off from r + f(x) by up to",
            "total variation of its π\\* to π\\*",
        )
    ]
    for name, rewards in models.items():
        lowest, highest = (plain(level.item(), 2) for level in rewards.mean(-1).aminmax())
        off = rewards - world.reward
        off = (off - off.mean(-1, keepdim=True)).abs().max().item()
        distance = total_variation(optimal_policy(rewards, world.reference, beta), best)
        rows.append(
            (
                name,
                f"{pair_loss(rewards, pairs, truth).item():.4f}",
                plain(rewards.mean().item(), 2),
                f"{lowest} to {highest}",
                plain(off, 3),
                plain(distance, 3),
            )
        )
    return rows
