"""Everything that docs/theory.md claims in numbers, measured: tables of text and curves to draw."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dpo_lite.objectives.preference import implicit_rewards
from scripts.theory.frontier import place, shortfall
from scripts.theory.identities import EXACT, identities
from scripts.theory.imitation import imitation_table
from scripts.theory.learners import Trained, pair_loss, train_pairs, train_ppo, train_rankings
from scripts.theory.proof import Table, connected_table, proof_table, reach_table
from scripts.theory.reward_model import reward_table
from scripts.theory.toy import (
    ANSWERS,
    World,
    all_pairs,
    make_world,
    optimal_policy,
    preferences,
    sample_preferences,
    total_variation,
)

BETA = 0.5
IPO_BETA = 0.1  # at which IPO with endless data moves about as far as DPO does at BETA
FRONTIER_BETAS = [0.2, 0.5, 1.0, 2.0]
COMPARISONS = [30, 300, 1000, 10000]  # judged, per prompt


@dataclass(frozen=True)
class Measured:
    """`tables` by name, header first. Policies for the pictures are log pi(y|x), (X, Y)."""

    world: World
    tables: dict[str, Table]
    learners: dict[str, Trained]
    frontier: dict[str, list[torch.Tensor]]
    few: dict[str, list[Trained]]
    long: dict[str, Trained]
    long_weights: torch.Tensor


def measure() -> Measured:
    """All of it, in a minute on one core; the same numbers every time."""
    world = make_world()
    learners = train_all(world)
    frontier = {"DPO": [], "PPO": []}
    for beta in FRONTIER_BETAS:
        frontier["DPO"].append(train_on_truth(world, beta).logps)
        frontier["PPO"].append(train_ppo(world, beta).logps)
    few = {"DPO": [], "IPO": []}
    for count in COMPARISONS:
        weights = sample_preferences(world.reward, all_pairs(), count, seed=3)
        few["DPO"].append(train_pairs(world, BETA, all_pairs(), weights))
        few["IPO"].append(train_pairs(world, IPO_BETA, all_pairs(), weights, loss="ipo"))
    weights = sample_preferences(world.reward, all_pairs(), COMPARISONS[0], seed=3)
    long = {
        f"{loss.upper()}, β = {beta}": train_pairs(
            world, beta, all_pairs(), weights, updates=1001, loss=name, decay=False
        )
        for loss, name in (("dpo", "sigmoid"), ("ipo", "ipo"))
        for beta in (IPO_BETA, BETA)
    }
    tables = {
        "proof": proof_table(world, BETA),
        "reach": reach_table(world, BETA),
        "frontier": frontier_table(world, frontier),
        "connected": connected_table(world, BETA),
        "identities": identities_table(world),
        "learners": learners_table(world, learners),
        "reward": reward_table(world, BETA),
        "imitation": imitation_table(world, BETA),
        "few": few_table(world, few),
        "long": long_table(world, long, weights),
    }
    return Measured(world, tables, learners, frontier, few, long, weights)


def train_on_truth(world: World, beta: float) -> Trained:
    """DPO with endless data: every pair, weighed by its true Bradley-Terry probabilities."""
    return train_pairs(world, beta, all_pairs(), preferences(world.reward, all_pairs()))


def train_all(world: World) -> dict[str, Trained]:
    """Every way of the document to learn from endless data, by name."""
    ring = torch.stack([torch.arange(ANSWERS), torch.arange(1, ANSWERS + 1) % ANSWERS], dim=-1)
    return {
        "DPO, all pairs": train_on_truth(world, BETA),
        "DPO, each answer in two pairs": train_pairs(
            world, BETA, ring, preferences(world.reward, ring), updates=1000
        ),
        "Plackett–Luce, 64 sets of four": train_rankings(world, BETA),
        "PPO, exact expectations": train_ppo(world, BETA),
        "PPO, 256 sampled answers": train_ppo(world, BETA, samples=256),
    }


def identities_table(world: World) -> Table:
    rows: Table = [("identity", "largest error")]
    for name, one_side, other_side in identities(world, BETA):
        error = (one_side - other_side).abs().max().item()
        rows.append((name, "< 1e-12" if error < EXACT else f"{error:.0e}"))
    return rows


def learners_table(world: World, learners: dict[str, Trained]) -> Table:
    """How near each learner came to pi*."""
    best = optimal_policy(world.reward, world.reference, BETA)
    policies = {"π_ref": (0, world.reference)}
    policies |= {name: (max(trained.path), trained.logps) for name, trained in learners.items()}
    policies["π\\*, closed form"] = ("", best)
    rows = [("policy", "updates", "total variation to π\\*", "expected reward", "KL to π_ref")]
    for name, (updates, logps) in policies.items():
        distance = total_variation(logps, best)
        reward, distance_kl = place(world, logps)
        shown = "< 0.0001" if distance < 1e-4 else f"{distance:.4f}"
        rows.append((name, str(updates), shown, f"{reward:.3f}", f"{distance_kl:.3f}"))
    return rows


def frontier_table(world: World, frontier: dict[str, list[torch.Tensor]]) -> Table:
    """The closed form beside the trained policies, over beta."""
    rows = [("β", "KL of π\\*", "reward of π\\*", "reward, DPO", "reward, PPO")]
    for i, beta in enumerate(FRONTIER_BETAS):
        reward, distance = place(world, optimal_policy(world.reward, world.reference, beta))
        trained = [place(world, frontier[name][i])[0] for name in ("DPO", "PPO")]
        rows.append((str(beta), *(f"{v:.3f}" for v in (distance, reward, *trained))))
    return rows


def few_table(world: World, few: dict[str, list[Trained]]) -> Table:
    """What few comparisons cost, at the end of training and where the held-out loss was lowest."""
    pairs, truth = all_pairs(), preferences(world.reward, all_pairs())

    def held_out(logps: torch.Tensor) -> float:
        return pair_loss(implicit_rewards(logps, world.reference, BETA), pairs, truth).item()

    rows = [
        (
            "comparisons per prompt",
            "KL, DPO",
            "short of the frontier, DPO",
            "DPO stopped by held-out loss",
            "KL, IPO",
            "short of the frontier, IPO",
        )
    ]
    for i, count in enumerate(COMPARISONS):
        dpo, ipo = few["DPO"][i], few["IPO"][i]
        stopped = min(dpo.path.values(), key=held_out)
        values = (
            place(world, dpo.logps)[1],
            shortfall(world, dpo.logps),
            shortfall(world, stopped),
            place(world, ipo.logps)[1],
            shortfall(world, ipo.logps),
        )
        rows.append((f"{count:,}", *(f"{v:.2f}" for v in values)))
    return rows


def margin(world: World, logps: torch.Tensor, weights: torch.Tensor) -> float:
    """Mean log-ratio of the chosen minus that of the rejected answer, in nats, over the data."""
    ratios = (logps - world.reference)[:, all_pairs()]
    signed = (ratios[..., 0] - ratios[..., 1]) * (weights[..., 0] - weights[..., 1])
    return (signed.sum() / weights.sum()).item()


def long_table(world: World, long: dict[str, Trained], weights: torch.Tensor) -> Table:
    """Margins of pairs that were each judged once, as training goes on."""
    shown = [10, 100, 1000]
    rows = [("loss", *(f"margin after {u} updates" for u in shown), "target 1/(2β)")]
    for name, trained in long.items():
        beta = float(name.rpartition("= ")[2])
        target = "none" if name.startswith("DPO") else f"{1 / (2 * beta):.1f}"
        margins = [f"{margin(world, trained.path[u], weights):.1f}" for u in shown]
        rows.append((name, *margins, target))
    return rows
