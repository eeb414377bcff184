"""The proofs of docs/theory.md, step by step: every line of the algebra is an expression here."""

from __future__ import annotations

import torch

from scripts.theory.toy import (
    ANSWERS,
    PROMPTS,
    World,
    all_pairs,
    kl,
    log_partition,
    optimal_policy,
    preferences,
    total_variation,
)

Table = list[tuple[str, ...]]

HALF = ANSWERS // 2


def plain(value: float, digits: int) -> str:
    """The number as a table shows it, without the sign of a zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def any_policy(seed: int = 4) -> torch.Tensor:
    """log pi(y|x) of a random policy, (X, Y): what holds for it was not made to hold."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(PROMPTS, ANSWERS, generator=generator, dtype=torch.float64)
    return noise.log_softmax(-1)


def lines(world: World, beta: float, logps: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """J(pi) = beta log Z - beta KL(pi || pi*) from line to line: DPO, App. A.1. (X,) each.

    There it is a minimum, so signs are turned and all is divided by beta. logps (X, Y) is any
    policy's. Z is the sum that it says, so no line takes for granted what another one shows.
    """
    r, ref, pi = world.reward, world.reference.exp(), logps.exp()
    weighed = ref * (r / beta).exp()
    z = weighed.sum(-1, keepdim=True)
    best = weighed / z

    def mean(f: torch.Tensor) -> torch.Tensor:
        return (pi * f).sum(-1)

    return [
        ("(1) E[r] − β KL(π ‖ π_ref)", mean(r) - beta * kl(logps, world.reference)),
        ("(2) E[r − β log(π / π_ref)]", mean(r - beta * (pi / ref).log())),
        ("(3) −β E[log(π / (π_ref e^(r/β)))]", -beta * mean((pi / weighed).log())),
        ("(4) −β E[log(π / (π_ref e^(r/β) / Z))] + β log Z",
         -beta * mean((pi / (weighed / z)).log()) + beta * z.log()[:, 0]),
        ("(5) −β KL(π ‖ π\\*) + β log Z",
         -beta * kl(logps, best.log()) + beta * log_partition(r, world.reference, beta)[:, 0]),
    ]  # fmt: skip


def proof_table(world: World, beta: float) -> Table:
    """The lines of the proof, evaluated at every prompt."""
    rows: Table = [("line", *(f"x = {x + 1}" for x in range(PROMPTS)))]
    for name, values in lines(world, beta, any_policy()):
        rows.append((name, *(f"{value:.6f}" for value in values.tolist())))
    return rows


def rarer(world: World, chance: float) -> torch.Tensor:
    """log pi_ref(y|x) with the first answer at `chance` and the others in proportion: (X, Y)."""
    reference = world.reference.exp()
    reference = reference * (1 - chance) / (1 - reference[:, :1])
    reference[:, 0] = chance
    return reference.log()


def reward_to_reach(world: World, beta: float, chance: float) -> torch.Tensor:
    """r(x, y) with which pi* gives the first answer in half of all cases, at pi_ref = `chance`.

    pi_ref exp(r / beta) must equal the others' share of Z, so r = beta log(that / pi_ref). (X,)
    """
    others = log_partition(world.reward[:, 1:], rarer(world, chance)[:, 1:], beta)[:, 0]
    return beta * (others - torch.tensor(chance, dtype=others.dtype).log())


def reach_table(world: World, beta: float) -> Table:
    """What the reference hardly ever says takes ever more reward; what it never says, any."""
    rows: Table = [("π_ref of an answer", "reward to make it half of π\\*", "π\\* at reward 10")]
    for chance in (1e-1, 1e-3, 1e-6, 1e-12, 0.0):
        reward = world.reward.clone()
        reward[:, 0] = 10
        share = optimal_policy(reward, rarer(world, chance), beta).exp()[0, 0].item()
        needed = reward_to_reach(world, beta, chance)[0].item()
        shown = "no finite one" if needed == float("inf") else f"{needed:.2f}"
        rows.append((f"{chance:g}" if chance else "never", shown, f"{share:.4f}"))
    return rows


def chain() -> torch.Tensor:
    """Every answer compared with the next: (Y - 1, 2), the fewest pairs that connect all."""
    return torch.arange(ANSWERS).unfold(0, 2, 1)


def rewards_from(chances: torch.Tensor) -> torch.Tensor:
    """r(x, y) - r(x, y_1) out of a chain's preferences (X, Y - 1, 2) alone: (X, Y).

    sigma is injective, so p gives back the difference, log p / (1 - p); along the chain they add
    up. This is the converse of Lemma 1.
    """
    falls = chances[..., 0].logit()  # r of one answer minus that of the next
    return torch.cat([torch.zeros_like(falls[:, :1]), -falls.cumsum(-1)], dim=-1)


def apart() -> torch.Tensor:
    """All pairs within either half of the answers, none across."""
    pairs = all_pairs()
    return pairs[(pairs < HALF).sum(-1) != 1]


def connected_table(world: World, beta: float) -> Table:
    """Equal preferences mean equivalent rewards, if comparisons connect all answers."""
    shift, half = any_policy(seed=5)[:, :1], (torch.arange(ANSWERS) < HALF).double()
    bridge = torch.cat([apart(), torch.tensor([[0, HALF]])])
    cases = [
        ("all pairs; r′ = r + f(x)", all_pairs(), shift),
        ("none across two halves; r′ = r + 1 on one", apart(), half),
        ("one across; r′ = r + 1 on one", bridge, half),
    ]
    best = optimal_policy(world.reward, world.reference, beta)
    rows: Table = [("pairs compared", "preferences differ by", "total variation of both π\\*")]
    for name, pairs, added in cases:
        other = world.reward + added
        change = (preferences(other, pairs) - preferences(world.reward, pairs)).abs().max().item()
        distance = total_variation(optimal_policy(other, world.reference, beta), best)
        rows.append((name, *(f"{value:.4f}" for value in (change, distance))))
    return rows
