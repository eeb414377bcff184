"""Numbers in words, and in lines of blocks, short enough for a table."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

BLOCKS = " ▁▂▃▄▅▆▇█"


def clock(seconds: float) -> str:
    """Seconds in words short enough for a table: 0.8 s, 42 s, 12 min, 3.5 h."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def counted(number: int, thing: str) -> str:
    """A number and its noun: 1 update, 1,200 updates."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def label_words(labels: Mapping[str, int]) -> str:
    """How many answers are good and bad by themselves (DataReport.labels)."""
    return f"{labels['good']:,} good, {labels['bad']:,} bad, each for itself"


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """A curve as one line of blocks; more values than the width are averaged."""
    width = min(width, len(values))
    bounds = [round(i * len(values) / width) for i in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(bounds)]
    low, high = min(means), max(means)
    shares = [(mean - low) / (high - low) if high > low else 0.5 for mean in means]
    return blocks(max(share, 1 / 8) for share in shares)  # the lowest value is no gap


def bars(counts: Sequence[int]) -> str:
    """A histogram as one line of blocks, the largest count as the full one."""
    most = max(counts) or 1
    return blocks(count / most for count in counts)


def blocks(shares: Iterable[float]) -> str:
    """Shares from 0 to 1 as blocks. Nothing, or no number, is a gap; however little is none."""
    return "".join(" " if math.isnan(share) else BLOCKS[math.ceil(8 * share)] for share in shares)
