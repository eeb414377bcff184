"""The longest example that a plan has room for, with all given up for it that a recipe lets go."""

from __future__ import annotations

from collections.abc import Callable

from dpo_lite.memory.plan import MemoryPlan, choose_plan
from dpo_lite.model.dry_run import Costs
from dpo_lite.recipe import Recipe

STEP, MOST = 256, 2**20  # tokens: how finely, and how far


def longest_pair(positions: int | None) -> int:
    """Tokens of the longest pair of a base with so many positions: a prompt of next to none, and
    two responses that take them all."""
    return MOST if positions is None else min(MOST, -(-2 * positions // STEP) * STEP)


def longest_example(
    costs: Costs, recipe: Recipe, memory: float, most: int = MOST
) -> MemoryPlan | None:
    """The plan for the longest example, of up to ``most`` tokens, that fits into ``memory`` bytes;
    None where none does.

    Its ``budget`` is the tokens of that example, the prompt and all its responses.
    """

    def plan(tokens: int) -> MemoryPlan:
        return choose_plan(costs, recipe, tokens, memory, tokens)

    tokens = furthest(lambda tokens: plan(tokens).total <= memory, most, STEP)
    return plan(tokens) if tokens else None


def furthest(fits: Callable[[int], bool], most: int, step: int) -> int:
    """The largest multiple of ``step`` up to ``most`` that fits, by bisection; 0: none does."""
    low, high = 0, most // step
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle * step) else (low, middle - 1)
    return low * step
