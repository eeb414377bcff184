"""DPO, Plackett-Luce and PPO on the toy, by the functions that train language models.

Each starts at the reference and returns a `Trained`: the policy and where it was on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import permutations

import torch

from dpo_lite.objectives.policy_gradient import (
    clipped_surrogate,
    generalized_advantages,
    kl_shaped_rewards,
)
from dpo_lite.objectives.preference import (
    implicit_rewards,
    ipo_loss,
    plackett_luce_loss,
    sigmoid_loss,
)
from scripts.theory.toy import ALPHABET, ANSWERS, LENGTH, Levels, World, answer_logps, token_logps


@dataclass
class Trained:
    """The trained policy's log pi(y|x) (X, Y), and log pi(y|x) after some of the updates."""

    logps: torch.Tensor
    path: dict[int, torch.Tensor] = field(default_factory=dict)


def descend(
    levels: Levels,
    loss: Callable[[Levels], torch.Tensor],
    updates: int,
    lr: float,
    decay: bool = True,
    before_update: Callable[[int, Levels], None] | None = None,
) -> Trained:
    """Adam on `loss`, its rate falling linearly to zero; without `decay` it stays."""
    levels = [logits.clone().requires_grad_() for logits in levels]
    optimizer = torch.optim.Adam(levels, lr=lr)
    path = {}
    watched = {0} | {round(10 ** (i / 20)) for i in range(81)}  # evenly on a logarithmic axis
    for update in range(updates):
        if update in watched:
            path[update] = answer_logps(levels).detach()
        if before_update:
            before_update(update, levels)
        if decay:
            optimizer.param_groups[0]["lr"] = lr * (1 - update / updates)
        optimizer.zero_grad()
        loss(levels).backward()
        optimizer.step()
    path[updates] = answer_logps(levels).detach()
    return Trained(path[updates], path)


def pair_loss(
    rewards: torch.Tensor, pairs: torch.Tensor, weights: torch.Tensor, loss=sigmoid_loss
) -> torch.Tensor:
    """The expected loss per prompt: both directions of each pair, by how often each is preferred.

    rewards (X, Y), pairs (N, 2), weights (X, N, 2) as from `preferences` -> a scalar.
    """
    both = rewards[:, pairs].flatten(0, 1)  # (X * N, 2)
    won = loss(both) * weights[..., 0].flatten() + loss(both.flip(-1)) * weights[..., 1].flatten()
    return won.sum() / weights.sum()


def train_pairs(
    world: World,
    beta: float,
    pairs: torch.Tensor,
    weights: torch.Tensor,
    updates: int = 500,
    lr: float = 0.1,
    loss: str = "sigmoid",
    decay: bool = True,
) -> Trained:
    """DPO (`sigmoid`) or IPO (`ipo`, log-ratios of whole answers) on weighted pairs."""

    def one_length(both: torch.Tensor) -> torch.Tensor:
        return ipo_loss(both, torch.ones_like(both), beta)

    compare = {"sigmoid": sigmoid_loss, "ipo": one_length}[loss]
    judged = weights.sum((0, 2)) > 0
    pairs, weights = pairs[judged], weights[:, judged]

    def total(levels: Levels) -> torch.Tensor:
        rewards = implicit_rewards(answer_logps(levels), world.reference, beta)
        return pair_loss(rewards, pairs, weights, compare)

    return descend(world.reference_levels, total, updates, lr, decay)


def train_rankings(
    world: World, beta: float, rounds: int = 4, size: int = 4, updates: int = 600
) -> Trained:
    """Plackett-Luce on sets of `size` answers; each order weighs what the true reward gives it.

    A round deals all answers into sets, so that every one is compared `rounds` times.
    """
    generator = torch.Generator().manual_seed(1)
    dealt = [torch.randperm(ANSWERS, generator=generator).view(-1, size) for _ in range(rounds)]
    sets = torch.cat(dealt)
    orders = sets[:, torch.tensor(list(permutations(range(size))))].flatten(0, 1)  # (sets*K!, K)

    def losses(rewards: torch.Tensor) -> torch.Tensor:
        return plackett_luce_loss(rewards[:, orders].flatten(0, 1))

    chances = (-losses(world.reward)).exp()

    def total(levels: Levels) -> torch.Tensor:
        rewards = implicit_rewards(answer_logps(levels), world.reference, beta)
        return (losses(rewards) * chances).sum() / chances.sum()

    return descend(world.reference_levels, total, updates, lr=0.1)


def prefix_values(rewards: torch.Tensor, logps: torch.Tensor) -> torch.Tensor:
    """The exact critic: the expected reward to come, before each letter. (X, Y, T) -> same."""
    to_go = rewards.flip(-1).cumsum(-1).flip(-1)
    columns = []
    for t in range(LENGTH):
        by_prefix = (len(rewards), ALPHABET**t, -1)  # all answers that start alike
        chances = logps.reshape(by_prefix).softmax(-1)
        value = (chances * to_go[..., t].reshape(by_prefix)).sum(-1, keepdim=True)
        columns.append(value.expand(-1, -1, ANSWERS // ALPHABET**t).flatten(1))
    return torch.stack(columns, dim=-1)


def train_ppo(
    world: World,
    beta: float,
    rollouts: int = 250,
    epochs: int = 4,
    lr: float = 0.1,
    clip: float = 0.2,
    lam: float = 0.95,
    samples: int | None = None,
) -> Trained:
    """PPO on the true reward: `rollouts` times fix the old policy, then `epochs` clipped updates.

    Without `samples` the expectation over answers is exact: each weighs its probability under the
    old policy. With it, that many answers are drawn per prompt and rollout. The critic is exact.
    """
    generator = torch.Generator().manual_seed(2)
    old: dict[str, torch.Tensor] = {}

    def roll_out(update: int, levels: Levels) -> None:
        if update % epochs:
            return
        logps = token_logps(levels).detach()
        whole = logps.sum(-1)
        flat, reference = logps.flatten(0, 1), token_logps(world.reference_levels).flatten(0, 1)
        mask = torch.ones_like(flat)
        rewards = kl_shaped_rewards(world.reward.flatten(), flat, reference, mask, beta)
        values = prefix_values(rewards.view_as(logps), whole).flatten(0, 1)
        advantages, _ = generalized_advantages(rewards, values, mask, gamma=1.0, lam=lam)
        weights = whole.exp()
        if samples is not None:
            drawn = torch.multinomial(weights, samples, replacement=True, generator=generator)
            share = torch.full_like(drawn, 1 / samples, dtype=weights.dtype)
            weights = torch.zeros_like(weights).scatter_add_(1, drawn, share)
        old.update(logps=logps, advantages=advantages.view_as(logps), weights=weights)

    def surrogate(levels: Levels) -> torch.Tensor:
        losses = clipped_surrogate(token_logps(levels) - old["logps"], old["advantages"], clip)
        return (old["weights"] * losses.sum(-1)).sum(-1).mean()

    return descend(world.reference_levels, surrogate, rollouts * epochs, lr, before_update=roll_out)
