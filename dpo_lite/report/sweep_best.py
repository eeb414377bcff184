"""Which run of a sweep is best, where they can be told apart at all."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dpo_lite.rates import Rate, Z, differ, pooled
from dpo_lite.report.sweep_rows import MEASURES, SweepRow, number

RANKED_BY = ("generated", "accuracy", "reward")  # the first there is


def verdict(rows: Sequence[SweepRow]) -> str | None:
    """Which run is best, or that no difference is seen; None with less than two to compare."""
    measure, known = _compared(rows)
    if len(known) < 2:
        return None
    found = best(rows)
    if found is None:
        low, high = (f(row.mean(measure) or 0.0 for row in known) for f in (min, max))
        form = MEASURES[measure]
        values = form.format(low) if form.format(low) == form.format(high) else ""
        values = values or f"{form.format(low)} to {form.format(high)}"
        whole = pooled(v for v in known[0].values_of(measure) if isinstance(v, Rate))
        values += f" of {whole.n:,}" if whole else ""
        words = f"no difference is seen in {measure} between the {len(known)} runs ({values})"
        moved = [row for row in known if _distance(row)]
        nearest = f"; nearest to the reference: {min(moved, key=_distance).run}" if moved else ""
        return words + nearest
    same = [row.run for row in known if row is not found and not _differ(row, found, measure)]
    return f"best by {measure}: {found.run}" + (
        f"; not told apart from it: {', '.join(same)}" if same else ""
    )


def best(rows: Sequence[SweepRow]) -> SweepRow | None:
    """The run with most chosen claims generated, else the most accurate, of PPO without markers the
    most rewarded; of equals the one nearest to the reference.

    None where none is told apart from it, by the intervals where it is known of how many they are.
    """
    measure, known = _compared(rows)
    if not known:
        return None
    first = max(known, key=lambda row: (row.mean(measure), -_distance(row)))
    return first if any(_differ(row, first, measure) for row in known) else None


def _compared(rows: Sequence[SweepRow]) -> tuple[str, list[SweepRow]]:
    """What runs are ranked by, and those that have it."""
    for measure in RANKED_BY:
        known = [row for row in rows if row.values_of(measure)]
        if known:
            return measure, known
    return "", []


def _differ(one: SweepRow, other: SweepRow, measure: str) -> bool:
    """Whether two runs are told apart, over all their held-out sets together."""
    values = [row.values_of(measure) for row in (one, other)]
    pairs = [pooled(v for v in of if isinstance(v, Rate)) for of in values]
    if pairs[0] is not None and pairs[1] is not None:
        return differ(pairs[0], pairs[1])
    gap = abs((one.mean(measure) or 0.0) - (other.mean(measure) or 0.0))
    errors = [row.values_of(f"{measure}_error") for row in (one, other)]
    noise = [math.hypot(*map(number, found)) / len(found) for found in errors if found]
    return gap > Z * math.hypot(*noise)


def _distance(row: SweepRow) -> float:
    return abs(row.mean("KL") or row.mean("drift") or 0.0)
