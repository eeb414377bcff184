"""What a part finds: numbers in words, each held to its limit where it has one."""

from __future__ import annotations

import math
from typing import Any

Figure = dict[str, Any]  # what, value, unit, limit (in words, or None), passed (None without one)
MIB, GIB = 2**20, 2**30


def _figure(what: str, value: Any, unit: str, limit: str | None, passed: bool | None) -> Figure:
    if isinstance(value, float) and not math.isfinite(value):
        value = str(value)  # which JSON has no number for
    return {"what": what, "value": value, "unit": unit, "limit": limit, "passed": passed}


def told(what: str, value: Any, unit: str = "") -> Figure:
    return _figure(what, value, unit, None, None)


def at_most(what: str, value: float, limit: float, unit: str = "") -> Figure:
    return _figure(what, value, unit, f"at most {limit:.3g}", bool(value <= limit))


def at_least(what: str, value: float, limit: float, unit: str = "") -> Figure:
    return _figure(what, value, unit, f"at least {limit:.3g}", bool(value >= limit))


def near(what: str, value: float, expected: float, share: float, unit: str = "") -> Figure:
    """``value`` is what was expected, but for a share of it."""
    limit = f"within {share:.0%} of {expected:,.5g}"
    return _figure(what, value, unit, limit, bool(abs(value - expected) <= share * expected))


def so(what: str, is_so: bool) -> Figure:
    return _figure(what, "yes" if is_so else "no", "", "yes", bool(is_so))


def needs_card(what: str) -> Figure:
    """What nothing but a card can show."""
    return told(what, "needs a card")
