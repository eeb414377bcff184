"""From a planned split to one that was tried: a real update with the longest examples corrects it.

The plan predicts; fragments of the allocator and workspaces of libraries are known to nobody
beforehand. So the largest micro-batch runs once, and what it took against what was predicted goes
into the plan as a factor: it then gives up more, or less, and is tried again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dpo_lite.errors import UserError
from dpo_lite.memory.plan import MemoryPlan, predict
from dpo_lite.model.dry_run import Costs

ROUNDS = 4
AFTER_FAILURE = 1.3  # an out-of-memory error does not say how much was missing


@dataclass(frozen=True)
class Trial:
    """What one update with the longest examples showed."""

    loss: float
    seconds: float
    tokens: int  # of its largest micro-batch
    peak: int | None  # bytes on the card, without the optimiser's moments; None on a CPU
    activations: int | None  # bytes kept for the backward pass; None where some are recomputed


def settle(
    costs: Costs,
    choose: Callable[[float], MemoryPlan],
    attempt: Callable[[MemoryPlan], Trial | None],
) -> tuple[MemoryPlan, Trial]:
    """The plan that was tried, with its numbers corrected, and its trial.

    ``choose(factor)`` plans; ``attempt(plan)`` tries and returns None where memory ran out. Where
    no card is measured the first trial settles it. Raises UserError where nothing fits.
    """
    factor, good, tried = 1.0, None, set()
    for _ in range(ROUNDS):
        plan = choose(factor)
        if (plan.choice, plan.budget) in tried:
            break
        tried.add((plan.choice, plan.budget))
        trial = attempt(plan)
        if trial is not None:
            good = plan, trial
            if trial.peak is None:
                return good
            factor = _factor(costs, plan, trial.tokens, trial.peak)
        elif good is not None:
            break
        else:
            factor *= AFTER_FAILURE
    if good is None:
        raise UserError(
            f"The longest examples do not fit in the GPU's memory, with {plan.words()}; lower "
            "data.max_length or adapter.r, or take a smaller base."
        )
    plan, trial = good
    return predict(costs, plan.choice, plan.budget, factor), trial


def _factor(costs: Costs, plan: MemoryPlan, tokens: int, peak: int) -> float:
    """What the changing parts of a tried update took, against the prediction."""
    expected = predict(costs, plan.choice, tokens)
    fixed = expected.weights + 8 * costs.trained  # masters and gradients, no moments yet
    return max(peak - fixed, 0) / (expected.total - expected.fixed)
