"""What the theory says is equal, computed both ways."""

from __future__ import annotations

import torch

from dpo_lite.objectives.policy_gradient import kl_shaped_rewards
from dpo_lite.objectives.preference import implicit_rewards, plackett_luce_loss, sigmoid_loss
from scripts.theory.proof import any_policy, chain, lines, rewards_from
from scripts.theory.toy import (
    ANSWERS,
    LENGTH,
    PROMPTS,
    World,
    all_pairs,
    answer_logps,
    kl,
    log_partition,
    objective,
    optimal_policy,
    preferences,
    project,
    token_logps,
)

EXACT = 1e-12  # below this, rounding of float64 is all there is

Identity = tuple[str, torch.Tensor, torch.Tensor]


def identities(world: World, beta: float) -> list[Identity]:
    """(what is equal, one side, the other side), on a random policy, shift and rankings."""
    generator = torch.Generator().manual_seed(4)
    shift = 10 * torch.randn(PROMPTS, 1, generator=generator, dtype=torch.float64)
    pi = any_policy()
    return [
        *of_the_optimum(world, beta, pi),
        *of_equivalent_rewards(world, beta, shift),
        *of_the_implicit_reward(world, beta, pi, shift),
        ("App. A.3: Plackett–Luce with K = 2 is DPO", *two_are_a_pair(generator)),
        ("App. A.4: the gradient of the DPO loss", *gradients(world, beta)),
        ("Ziegler, Eq. 2: letters' rewards sum to r − β log(π/π_ref)", *by_letter(world, beta)),
    ]


def of_the_optimum(world: World, beta: float, pi: torch.Tensor) -> list[Identity]:
    """App. A.1: the objective is a KL to pi* in disguise. pi (X, Y) is any policy."""
    r, ref = world.reward, world.reference
    best, log_z = optimal_policy(r, ref, beta), log_partition(r, ref, beta)[:, 0]
    top = objective(best, r, ref, beta)
    lost = top - objective(pi, r, ref, beta)
    first, *others = (values for _, values in lines(world, beta, pi))
    return [
        ("App. A.1: lines 2 to 5 of the proof = line 1", torch.stack(others), first),
        ("App. A.1: J(π\\*) = β log Z", top, beta * log_z),
        ("App. A.1: J(π\\*) − J(π) = β KL(π ‖ π\\*), any π", lost, beta * kl(pi, best)),
    ]


def of_equivalent_rewards(world: World, beta: float, shift: torch.Tensor) -> list[Identity]:
    """Lemmas 1 and 2, App. A.5: r and r + f(x); shift (X, 1) is f."""
    r, ref, pairs = world.reward, world.reference, all_pairs()
    orders = torch.rand(100, ANSWERS, generator=torch.Generator().manual_seed(5)).topk(5).indices

    def ranked(rewards: torch.Tensor) -> torch.Tensor:
        return (-plackett_luce_loss(rewards[:, orders].flatten(0, 1))).exp()

    def best(rewards: torch.Tensor) -> torch.Tensor:
        return optimal_policy(rewards, ref, beta)

    chosen, chosen_shifted = preferences(r, pairs), preferences(r + shift, pairs)
    found, differences = rewards_from(preferences(r, chain())), r - r[:, :1]
    return [
        ("Lemma 1: r and r + f(x), Bradley–Terry", chosen, chosen_shifted),
        ("Lemma 1: r and r + f(x), Plackett–Luce, K = 5", ranked(r), ranked(r + shift)),
        ("Converse of Lemma 1: r up to f(x), from a chain's preferences", found, differences),
        ("Lemma 2: r and r + f(x), optimal policy", best(r), best(r + shift)),
    ]


def of_the_implicit_reward(
    world: World, beta: float, pi: torch.Tensor, shift: torch.Tensor
) -> list[Identity]:
    """Eq. 5, 6, 8 and 9, Theorem 1 and Proposition 1 (App. A.6)."""
    r, ref, pairs = world.reward, world.reference, all_pairs()
    log_z, projected = log_partition(r, ref, beta), project(r, ref, beta)
    implicit = implicit_rewards(optimal_policy(r, ref, beta), ref, beta)
    own = implicit_rewards(pi, ref, beta)
    chosen, chosen_implicit = preferences(r, pairs), preferences(implicit, pairs)
    total, one = (ref + projected / beta).exp().sum(-1), torch.ones(PROMPTS)
    return [
        ("Eq. 5: r = β log(π\\*/π_ref) + β log Z", r, implicit + beta * log_z),
        ("Eq. 6: preferences of r and of β log(π\\*/π_ref)", chosen, chosen_implicit),
        ("Theorem 1, Eq. 8: projection of r = β log(π\\*/π_ref)", projected, implicit),
        ("Theorem 1: projections of r and r + f(x)", projected, project(r + shift, ref, beta)),
        ("Eq. 9: Σ π_ref exp(projection/β) = 1", total, one),
        ("Prop. 1: β log(π/π_ref) is its own projection, any π", own, project(own, ref, beta)),
        ("any π is optimal for its own implicit reward", pi, optimal_policy(own, ref, beta)),
    ]


def two_are_a_pair(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Plackett-Luce with K = 2 and DPO's loss on a thousand pairs of rewards."""
    rewards = 5 * torch.randn(1000, 2, generator=generator, dtype=torch.float64)
    return plackett_luce_loss(rewards), sigmoid_loss(rewards)


def gradients(world: World, beta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of one pair differentiated by autograd and by App. A.4, away from the reference."""
    levels = [(1.5 * logits).requires_grad_() for logits in world.reference_levels]
    logps, reference = answer_logps(levels)[0, [5, 40]], world.reference[0, [5, 40]]
    rewards = implicit_rewards(logps, reference, beta)

    def gradient(of: torch.Tensor) -> torch.Tensor:
        parts = torch.autograd.grad(of, levels, retain_graph=True)
        return torch.cat([part.flatten() for part in parts])

    weight = (rewards[1] - rewards[0]).sigmoid()
    by_hand = -beta * weight * (gradient(logps[0]) - gradient(logps[1]))
    return gradient(sigmoid_loss(rewards[None])[0]), by_hand.detach()


def by_letter(world: World, beta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The letters' KL-shaped rewards summed, and the answer's: a sharper policy than pi_ref."""
    sharp = token_logps([2 * logits for logits in world.reference_levels])
    reference, mask = token_logps(world.reference_levels), torch.ones(PROMPTS * ANSWERS, LENGTH)
    shaped = kl_shaped_rewards(
        world.reward.flatten(), sharp.flatten(0, 1), reference.flatten(0, 1), mask, beta
    )
    whole = world.reward - beta * (sharp.sum(-1) - world.reference)
    return shaped.sum(-1), whole.flatten()
