"""Reward against KL: where a policy lies, and how far it is from the best that its KL can buy."""

from __future__ import annotations

from bisect import bisect

import torch

from scripts.theory.toy import World, expected_reward, kl, optimal_policy


def place(world: World, logps: torch.Tensor) -> tuple[float, float]:
    """(expected reward, KL to the reference), averaged over the prompts."""
    reward = expected_reward(logps, world.reward).mean().item()
    return reward, kl(logps, world.reference).mean().item()


def frontier_curve(world: World) -> tuple[torch.Tensor, torch.Tensor]:
    """KL and expected reward of pi_ref, and of pi* for 400 betas from 1000 to 0.01; both rise."""
    betas = torch.logspace(3, -2, 400, dtype=torch.float64)[:, None, None]
    policies = optimal_policy(world.reward, world.reference, betas)
    policies = torch.cat([world.reference[None], policies])  # (401, X, Y)
    distances = kl(policies, world.reference).mean(-1)
    return distances, expected_reward(policies, world.reward).mean(-1)


def shortfall(world: World, logps: torch.Tensor) -> float:
    """How much more reward the best policy of the same KL gets: 0 on the frontier.

    It compares losses whose betas mean different things.
    """
    reward, distance = place(world, logps)
    distance = max(distance, 0.0)  # that of pi_ref may be rounded to less
    distances, rewards = (curve.tolist() for curve in frontier_curve(world))
    after = bisect(distances, distance)
    if after == len(distances):  # further away than always giving the best answer
        return rewards[-1] - reward
    share = (distance - distances[after - 1]) / (distances[after] - distances[after - 1])
    best = rewards[after - 1] + share * (rewards[after] - rewards[after - 1])
    return best - reward
