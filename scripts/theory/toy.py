"""A language of 64 answers: every expectation is a sum, every optimum a formula.

X prompts, answers of T letters from an alphabet of V, so Y = V**T answers. A policy is what a
language model is, a distribution over the next letter for each prefix, except that it is a table:
``levels[t]`` are the logits of letter t, shape (X, V**t, V). Answers are numbered in dictionary
order. Log-probabilities of whole answers have shape (X, Y); rewards too.

DPO: Rafailov et al. 2023, arXiv:2305.18290.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

PROMPTS, ALPHABET, LENGTH = 4, 4, 3
ANSWERS = ALPHABET**LENGTH

Levels = list[torch.Tensor]


@dataclass(frozen=True)
class World:
    """A reference policy that is not uniform and a true reward (X, Y) of unit variance."""

    reference_levels: Levels
    reference: torch.Tensor
    reward: torch.Tensor


def make_world(seed: int = 0) -> World:
    """The world of docs/theory.md; in float64, so that identities show as 1e-15 and not as 1e-6."""
    generator = torch.Generator().manual_seed(seed)
    levels = [
        torch.randn(PROMPTS, ALPHABET**t, ALPHABET, generator=generator, dtype=torch.float64)
        for t in range(LENGTH)
    ]
    reward = torch.randn(PROMPTS, ANSWERS, generator=generator, dtype=torch.float64)
    return World(levels, answer_logps(levels), reward)


def token_logps(levels: Levels) -> torch.Tensor:
    """log pi(y_t | x, y_<t) for every letter of every answer: (X, Y, T)."""
    columns = []
    for logits in levels:
        logps = logits.log_softmax(-1).flatten(1)  # (X, V**(t+1)): one per prefix
        columns.append(logps.repeat_interleave(ANSWERS // logps.shape[1], dim=1))
    return torch.stack(columns, dim=-1)


def answer_logps(levels: Levels) -> torch.Tensor:
    """log pi(y | x), the sum over the letters: (X, Y)."""
    return token_logps(levels).sum(-1)


def log_partition(reward: torch.Tensor, reference: torch.Tensor, beta: float) -> torch.Tensor:
    """log Z(x) = log sum_y pi_ref(y|x) exp(r(x,y) / beta): (X, 1)."""
    return (reference + reward / beta).logsumexp(-1, keepdim=True)


def optimal_policy(reward: torch.Tensor, reference: torch.Tensor, beta: float) -> torch.Tensor:
    """log pi*(y|x), pi* = pi_ref exp(r / beta) / Z: DPO, Eq. 4 and App. A.1. (X, Y)."""
    return reference + reward / beta - log_partition(reward, reference, beta)


def project(reward: torch.Tensor, reference: torch.Tensor, beta: float) -> torch.Tensor:
    """r - beta log Z: the reward of r's class that is a beta log(pi / pi_ref): Eq. 8. (X, Y)."""
    return reward - beta * log_partition(reward, reference, beta)


def kl(logps: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """KL(p || q) in nats, per prompt: (X,)."""
    return (logps.exp() * (logps - other)).sum(-1)


def expected_reward(logps: torch.Tensor, reward: torch.Tensor) -> torch.Tensor:
    """E_{y ~ pi} r(x, y), per prompt: (X,)."""
    return (logps.exp() * reward).sum(-1)


def objective(
    logps: torch.Tensor, reward: torch.Tensor, reference: torch.Tensor, beta: float
) -> torch.Tensor:
    """E r - beta KL(pi || pi_ref), what RLHF maximises: DPO, Eq. 3, per prompt: (X,)."""
    return expected_reward(logps, reward) - beta * kl(logps, reference)


def total_variation(logps: torch.Tensor, other: torch.Tensor) -> float:
    """max_x of half the sum of |p - q|: the probability that must be moved at the worst prompt."""
    return (logps.exp() - other.exp()).abs().sum(-1).max().item() / 2


def all_pairs() -> torch.Tensor:
    """Every pair of answers once: (Y (Y-1) / 2, 2)."""
    return torch.combinations(torch.arange(ANSWERS), 2)


def preferences(reward: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    """Bradley-Terry, Eq. 1: the chance that either answer of a pair is preferred: (X, N, 2).

    [..., 0] is sigma(r_i - r_j), [..., 1] is sigma(r_j - r_i); they sum to 1.
    """
    first, second = reward[:, pairs[:, 0]], reward[:, pairs[:, 1]]
    return torch.stack([first - second, second - first], dim=-1).sigmoid()


def sample_preferences(
    reward: torch.Tensor, pairs: torch.Tensor, count: int, seed: int
) -> torch.Tensor:
    """The shares of `count` judged comparisons per prompt that each direction of each pair won.

    Pairs are drawn evenly, judges by Bradley-Terry. Laid out as `preferences`, summing to 1 per
    prompt: (X, N, 2).
    """
    generator = torch.Generator().manual_seed(seed)
    chances = preferences(reward, pairs).flatten(1)
    drawn = torch.multinomial(chances, count, replacement=True, generator=generator)
    wins = torch.zeros_like(chances).scatter_add_(
        1, drawn, torch.ones_like(drawn, dtype=chances.dtype)
    )
    return wins.view(*wins.shape[:1], -1, 2) / count
