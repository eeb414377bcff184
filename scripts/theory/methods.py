"""SimPO, KTO, BCO and GRPO on the toy: where each of them ends, in closed form.

What docs/theory-methods.md says. Each function is a formula, or the loss that trains language
models, taken in expectation over all answers.

SimPO: Meng et al. 2024, arXiv:2405.14734. KTO: Ethayarajh et al. 2024, arXiv:2402.01306. BCO: Jung
et al. 2024, arXiv:2404.04656. GRPO: Shao et al. 2024, arXiv:2402.03300; Dr. GRPO: Liu et al. 2025,
arXiv:2503.20783.
"""

from __future__ import annotations

import torch

from dpo_lite.objectives.policy_gradient import group_advantages, kl_penalties
from dpo_lite.objectives.preference import bco_pair_loss, simpo_loss
from dpo_lite.objectives.prospect import kto_losses
from scripts.theory.frontier import place, shortfall
from scripts.theory.learners import Trained, descend, pair_loss
from scripts.theory.proof import Table, plain
from scripts.theory.toy import (
    LENGTH,
    PROMPTS,
    Levels,
    World,
    all_pairs,
    answer_logps,
    optimal_policy,
    preferences,
    token_logps,
    total_variation,
)

BETA = 0.5
SIMPO_BETA = 2.0
GAMMA = 1.0


# --- SimPO ----------------------------------------------------------------------------------------


def simpo_optimum(world: World, beta: float) -> torch.Tensor:
    """log pi(y|x) where SimPO without gamma ends on endless pairs of answers of LENGTH letters.

    Its reward is beta / LENGTH log pi, so pi is proportional to exp(LENGTH r / beta): the optimal
    policy of a uniform reference. (X, Y)
    """
    uniform = torch.zeros_like(world.reference).log_softmax(-1)
    return optimal_policy(world.reward, uniform, beta / LENGTH)


def train_simpo(world: World, beta: float, gamma: float, updates: int = 500) -> Trained:
    """SimPO on endless pairs, from the reference policy."""
    pairs = all_pairs()
    weights = preferences(world.reward, pairs)

    def loss(levels: Levels) -> torch.Tensor:
        rewards = beta * answer_logps(levels) / LENGTH
        return pair_loss(rewards, pairs, weights, lambda both: simpo_loss(both, gamma))

    return descend(world.reference_levels, loss, updates, lr=0.1)


def simpo_margin(chance: torch.Tensor, gamma: float) -> torch.Tensor:
    """The margin at which a pair rests that the first answer wins with this chance.

    chance · sigma(gamma - m) = (1 - chance) · sigma(gamma + m) is, with a = e^m and g = e^gamma,
    (1 - p) a² + g (1 - 2p) a - p = 0. Without gamma it is the log odds. Any shape -> that shape.
    """
    g, p = torch.exp(torch.tensor(gamma, dtype=chance.dtype)), chance
    linear = g * (1 - 2 * p)
    return ((-linear + (linear**2 + 4 * p * (1 - p)).sqrt()) / (2 * (1 - p))).log()


# --- KTO and BCO ----------------------------------------------------------------------------------


def expected_kto(
    rewards: torch.Tensor, good: torch.Tensor, anchor: float, weights: tuple[float, float]
) -> torch.Tensor:
    """KTO's loss of answers that are called good with chance ``good``, in expectation: (N,)."""
    yes = torch.ones_like(good, dtype=torch.bool)
    up, down = (kto_losses(rewards, label, anchor, *weights) for label in (yes, ~yes))
    return good * up + (1 - good) * down


def kto_closed(
    rewards: torch.Tensor, good: torch.Tensor, anchor: float, weights: tuple[float, float]
) -> torch.Tensor:
    """The same as one sigmoid: A + (B - A) sigma(r - z), A = λ_D g and B = λ_U (1 - g)."""
    a, b = weights[0] * good, weights[1] * (1 - good)
    return a + (b - a) * (rewards - anchor).sigmoid()


def expected_bco(rewards: torch.Tensor, good: torch.Tensor) -> torch.Tensor:
    """BCO's loss of such answers: -g log sigma(r) - (1 - g) log sigma(-r): (N,)."""
    aside = torch.zeros_like(rewards)  # at 0 the other half of the pair's loss is ln 2
    up = bco_pair_loss(torch.stack([rewards, aside], -1))
    down = bco_pair_loss(torch.stack([aside, rewards], -1))
    return good * up + (1 - good) * down - torch.log(torch.tensor(2.0, dtype=rewards.dtype))


# --- GRPO -----------------------------------------------------------------------------------------


def grpo_gradient(logits: torch.Tensor, rewards: torch.Tensor, scale: str) -> torch.Tensor:
    """The gradient that GRPO climbs, of logits (Y,), exact over all ordered pairs of answers.

    Two answers are drawn, each weighs its group advantage, and at pi = pi_old the ratio's gradient
    is that of log pi: E[1/2 sum_i A_i grad log pi(y_i)].
    """
    logits = logits.detach().requires_grad_()
    logps = logits.log_softmax(-1)
    chances = (logps[:, None] + logps[None, :]).exp().detach()
    count = len(rewards)
    pairs = torch.stack([rewards[:, None].expand(-1, count), rewards.expand(count, -1)], -1)
    advantages = group_advantages(pairs.reshape(-1, 2), scale).view(count, count, 2)
    summed = (chances * (advantages[..., 0] * logps[:, None] + advantages[..., 1] * logps)).sum()
    return torch.autograd.grad(summed / 2, logits)[0]


def ascent_of(logits: torch.Tensor, value) -> torch.Tensor:
    """The gradient of ``value(log pi)`` with respect to logits (Y,)."""
    logits = logits.detach().requires_grad_()
    return torch.autograd.grad(value(logits.log_softmax(-1)), logits)[0]


def scaled_advantages(logps: torch.Tensor, reward: torch.Tensor, scaled: bool) -> torch.Tensor:
    """GRPO's advantages in groups without end: r less its mean under pi, by its deviation: (X, Y).

    The mean of ever more answers is the expectation."""
    above = reward - (logps.exp() * reward).sum(-1, keepdim=True)
    return above / deviation_of(logps, reward) if scaled else above


def train_grpo(world: World, beta: float, scaled: bool, rollouts: int = 600) -> Trained:
    """GRPO on the true reward with the KL in the loss, in exact expectation, a step per rollout."""
    reference = token_logps(world.reference_levels)

    def loss(levels: Levels) -> torch.Tensor:
        logps = token_logps(levels)
        old = logps.detach()
        whole = old.sum(-1)
        advantages = scaled_advantages(whole, world.reward, scaled)
        gains = (logps - old).exp() * advantages[..., None]
        prices = beta * kl_penalties(logps, old, reference)
        return -(whole.exp() * (gains - prices).sum(-1)).sum(-1).mean()

    return descend(world.reference_levels, loss, rollouts, lr=0.1)


def grpo_optimum(world: World, beta: float, scaled: bool, rounds: int = 300) -> torch.Tensor:
    """log pi(y|x) where GRPO with the KL in its loss rests, from the last letter to the first.

    The price of a letter is the KL of its own distribution, whatever it leads to, so each letter is
    pi_ref exp(Q / beta) / Z with Q the expected reward behind it under pi. (In pi* a letter also
    pays for what it leads to: there log-sum-exp stands for this mean.) Divided by the deviation,
    beta is beta times that of r under the same pi: a fixed point, gone to by halves. (X, Y)
    """
    deviation = torch.ones(PROMPTS, 1, 1, dtype=world.reward.dtype)
    logps = world.reference
    for _ in range(rounds if scaled else 1):
        levels: Levels = []
        value = world.reward
        for reference in reversed(world.reference_levels):
            value = value.reshape(reference.shape)
            logits = reference.log_softmax(-1) + value / (beta * deviation)
            levels.insert(0, logits)
            value = (logits.softmax(-1) * value).sum(-1)
        logps = answer_logps(levels)
        if scaled:
            deviation = (deviation + deviation_of(logps, world.reward)[..., None]) / 2
    return logps


def deviation_of(logps: torch.Tensor, reward: torch.Tensor) -> torch.Tensor:
    """The standard deviation of r under pi, per prompt: (X, 1)."""
    chances = logps.exp()
    above = reward - (chances * reward).sum(-1, keepdim=True)
    return (chances * above**2).sum(-1, keepdim=True).sqrt()


# --- tables ---------------------------------------------------------------------------------------


def ends_table(world: World) -> Table:
    """Where the trained policies lie, and how far they are from their closed forms."""
    simpo = simpo_optimum(world, SIMPO_BETA)
    named = {
        "SimPO, β = 2, γ = 0": (train_simpo(world, SIMPO_BETA, 0.0).logps, simpo, BETA),
        "SimPO, β = 2, γ = 1": (train_simpo(world, SIMPO_BETA, GAMMA).logps, simpo, BETA),
    }
    for beta in (BETA, 2 * BETA):
        for scaled in (False, True):
            name = f"GRPO, β = {beta:g}, {'by the deviation' if scaled else 'not divided'}"
            trained = train_grpo(world, beta, scaled).logps
            named[name] = (trained, grpo_optimum(world, beta, scaled), beta)
    rows: Table = [
        (
            "policy",
            "expected reward",
            "KL to π_ref",
            "short of the frontier",
            "total variation to its closed form",
            "to π\\* of its β",
        )
    ]
    for name, (logps, aim, beta) in named.items():
        star = optimal_policy(world.reward, world.reference, beta)
        values = (*place(world, logps), shortfall(world, logps))
        apart = (total_variation(logps, aim), total_variation(logps, star))
        rows.append((name, *(plain(value, 3) for value in (*values, *apart))))
    return rows


def votes_table() -> Table:
    """What KTO and BCO make of an answer by how often it is called good: their pull and rest."""
    rows: Table = [("called good", "KTO's slope at r = z", "KTO ends at", "BCO ends at")]
    for share in (0.1, 0.45, 0.55, 0.9):
        good = torch.tensor([share], dtype=torch.float64)
        rewards = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(expected_kto(rewards, good, 0.0, (1.0, 1.0)).sum(), rewards)
        end = "+∞" if slope.item() < 0 else "−∞"
        rows.append(
            (f"{share:.0%}", plain(slope.item(), 3), end, plain(torch.logit(good).item(), 3))
        )
    return rows


def weights_table() -> Table:
    """What a prompt weighs in GRPO by how often its answers earn 1, others 0."""
    rows: Table = [("answers that earn 1", "by the deviation", "none (Dr. GRPO)")]
    for share in (0.01, 0.1, 0.5, 0.9, 0.99):
        p = torch.tensor(share, dtype=torch.float64, requires_grad=True)
        (weight,) = torch.autograd.grad(2 * p.sqrt().arcsin(), p)
        rows.append((f"{share:.0%}", plain(weight.item(), 2), plain(1.0, 2)))
    return rows


def methods_tables(world: World) -> dict[str, Table]:
    return {
        "methods": ends_table(world),
        "votes": votes_table(),
        "prompts": weights_table(),
    }
