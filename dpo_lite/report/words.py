"""Numbers in words short enough for a table."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """Seconds in words short enough for a table: 0.8 s, 42 s, 12 min, 3.5 h."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
