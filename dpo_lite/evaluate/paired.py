"""Two models on the same items: what changed, as sure as the items make it.

An item's value is 0 or 1 (right or wrong), a number that is averaged, or a pair (log p, units) of
which a perplexity exp(-sum log p / sum units) is made. Each is compared item by item, which says
more than two intervals side by side: what is hard for both does not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

CLOSE = 1e-6  # how far a mean may be from what the harness says, relative to it


def outcomes(items: Sequence[Any], value: float) -> list[bool] | None:
    """The items as right and wrong; None where they are anything else, or ``value`` not their
    mean."""
    plain = [float(item) for item in items if isinstance(item, (bool, int, float))]
    if len(plain) < len(items) or not plain or set(plain) - {0.0, 1.0}:
        return None
    return [item == 1.0 for item in plain] if _is(sum(plain) / len(plain), value) else None


def changed(before: Sequence[bool], after: Sequence[bool], higher: bool = True) -> tuple[int, int]:
    """On how many the second is better, and worse; ``higher``: whether 1 is good."""
    gained = sum(b and not a for a, b in zip(before, after, strict=True))
    lost = sum(a and not b for a, b in zip(before, after, strict=True))
    return (gained, lost) if higher else (lost, gained)


def mean_change(
    before: Sequence[Any], after: Sequence[Any], values: tuple[float, float]
) -> tuple[float, float] | None:
    """Mean of the differences and its standard error; None where ``values`` are no means of
    numbers, or of a single item."""
    both = [*before, *after]
    if len(before) < 2 or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in both):
        return None
    n = len(before)
    if not (_is(sum(before) / n, values[0]) and _is(sum(after) / n, values[1])):
        return None
    differences = [b - a for a, b in zip(before, after, strict=True)]
    mean = sum(differences) / n
    variance = sum((d - mean) ** 2 for d in differences) / (n - 1)
    return mean, math.sqrt(variance / n)


def perplexity(items: Sequence[tuple[float, float]]) -> float:
    """exp(-sum log p / sum units) of (log p, units)."""
    nats = -sum(logp for logp, _ in items) / sum(units for _, units in items)
    return math.exp(nats) if nats < 700 else math.inf


def perplexity_change(
    before: Sequence[Any], after: Sequence[Any], values: tuple[float, float]
) -> tuple[float, float] | None:
    """log of the ratio of the perplexities and its standard error, in nats per unit.

    A ratio's error by its residuals (Cochran 1977, Sampling Techniques, equation 6.13): each item
    weighs by its units. None where ``values`` are no perplexities of such pairs.
    """
    if len(before) < 2 or not all(map(_is_pair, [*before, *after])):
        return None
    if not (_is(perplexity(before), values[0]) and _is(perplexity(after), values[1])):
        return None
    n, units = len(before), sum(count for _, count in before)
    losses = [a - b for (a, _), (b, _) in zip(before, after, strict=True)]
    ratio = sum(losses) / units
    residuals = [d - ratio * u for d, (_, u) in zip(losses, before, strict=True)]
    return ratio, math.sqrt(n / (n - 1) * sum(r * r for r in residuals)) / units


def _is(found: float, value: float) -> bool:
    return math.isclose(found, value, rel_tol=CLOSE, abs_tol=1e-9)


def _is_pair(item: Any) -> bool:
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        return False
    return all(isinstance(v, (int, float)) and math.isfinite(v) for v in item) and item[1] > 0
