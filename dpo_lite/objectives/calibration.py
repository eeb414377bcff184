"""Calibration: whether a reward model that says 80 % is right in 80 % of such pairs.

Bradley and Terry's model says how sure it is: of two responses the one with the higher reward is
the better one with probability p = sigma(|r_w - r_l|), from 0.5 to 1. The pairs are put into bins
by p, and in each bin the mean p is held against the share that was ranked as the data rank it. The
expected calibration error is the mean gap between the two, weighted by the number of pairs (Guo et
al. 2017, arXiv:1706.04599).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

BINS = 10  # from 0.5 to 1, each 0.05 wide


def reliability(margins: Sequence[float], bins: int = BINS) -> dict[str, Any]:
    """Bins and expected calibration error of r_w - r_l of every pair (P,); ties are left out.

    ``bins`` holds those with pairs in them: ``low`` and ``high`` of p, ``count``, ``confidence``
    (the mean p) and ``right`` (the share with r_w > r_l). ``error`` is None where all are ties.
    """
    decided = [margin for margin in margins if margin != 0]
    inside: dict[int, list[tuple[float, bool]]] = {}
    for margin in decided:
        p = 1 / (1 + math.exp(-min(abs(margin), 700)))
        place = min(int((p - 0.5) * 2 * bins), bins - 1)
        inside.setdefault(place, []).append((p, margin > 0))
    width = 0.5 / bins
    rows = [
        {
            "low": round(0.5 + place * width, 6),
            "high": round(0.5 + (place + 1) * width, 6),
            "count": len(pairs),
            "confidence": sum(p for p, _ in pairs) / len(pairs),
            "right": sum(right for _, right in pairs) / len(pairs),
        }
        for place, pairs in sorted(inside.items())
    ]
    gaps = [row["count"] * abs(row["confidence"] - row["right"]) for row in rows]
    error = sum(gaps) / len(decided) if decided else None
    return {"pairs": len(decided), "error": error, "bins": rows}
