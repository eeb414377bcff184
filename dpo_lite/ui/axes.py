"""Where an axis has its numbers, and how they are written: round ones, each once."""

from __future__ import annotations

import math
from collections.abc import Sequence


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers from below ``low`` to above ``high``, about ``count`` of them."""
    if high <= low:
        pad = abs(high) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / count
    power = 10 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """1, 2 and 5 times powers of ten around numbers above 0; of wide ranges the powers alone."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1, 2, 5), (1,)):
        rows = [f * 10.0**power for power in range(first, last + 1) for f in factors]
        below = [row for row in rows if row <= low * (1 + 1e-9)]
        above = [row for row in rows if row >= high * (1 - 1e-9)]
        inside = [row for row in rows if below[-1] <= row <= above[0]]
        if len(inside) <= most:
            break
    if len(inside) > most:  # powers over many decades: every so many of them
        every = -(-len(inside) // most)
        inside = [*inside[:-1:every], inside[-1]]
    return inside if len(inside) > 1 else [inside[0], inside[0] * 10]


def labels(rows: Sequence[float]) -> list[str]:
    """The numbers in as few digits as tell each from its neighbours."""
    plain = [short(row) for row in rows]
    if len(set(plain)) == len(rows):
        return plain
    for digits in range(4, 12):
        written = [f"{row:.{digits}g}" for row in rows]
        if len(set(written)) == len(rows):
            return written
    return [repr(row) for row in rows]


def short(value: float) -> str:
    """A number in few characters: 0.693, 12.5, 5e-06, 1,200."""
    size = abs(value)
    if size and (size < 1e-3 or size >= 1e6):
        return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-")
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}".rstrip("0").rstrip(".") if size < 10 else f"{value:.4g}"
