"""The shape of results.json, by which a damaged one is told: numbers, each where it belongs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

MOST = 2**63  # an integer that everything can show


def is_sound(found: Mapping[str, Any]) -> bool:
    """Whether what is said of the run, and of each held-out set in ``sets``, can be shown."""
    sets = found.get("sets")
    if not isinstance(sets, dict) or not all(map(_is_set, sets.values())):
        return False
    return all(is_shape(found[key]) for key, is_shape in OF_RUN.items() if key in found)


def is_number(value: Any) -> bool:
    """Whether it is a number, or none was measured; of integers one that a float can hold."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < MOST
    return value is None or isinstance(value, float)


def are_numbers(values: Any) -> bool:
    return isinstance(values, dict) and all(map(is_number, values.values()))


def by_name(values: Any) -> bool:
    """Of each role, or each part of the memory, some numbers."""
    return isinstance(values, dict) and all(map(are_numbers, values.values()))


def _counts(values: Any) -> bool:
    """What shares are of, of some by role."""
    return isinstance(values, dict) and all(are_numbers(v) or by_name(v) for v in values.values())


def _calibration(values: Any) -> bool:
    """As ``objectives.calibration.reliability`` returns it."""
    if not isinstance(values, dict) or not isinstance(values.get("bins"), list):
        return False
    if not all(map(_is_bin, values["bins"])):
        return False
    pairs, error = values.get("pairs"), values.get("error")
    told = isinstance(pairs, int) and is_number(pairs) and is_number(error)
    return told and (error is not None or not pairs)


def _is_bin(row: Any) -> bool:
    keys = ("count", "confidence", "right")
    return are_numbers(row) and all(row.get(key) is not None for key in keys)


Shape = Callable[[Any], bool]
OF_SET: dict[str, Shape] = {  # all else in it is a number
    "generation": are_numbers,
    "likelihood": are_numbers,
    "drawn": by_name,
    "counts": _counts,
    "calibration": _calibration,
}
OF_RUN: dict[str, Shape] = {
    **dict.fromkeys(("seconds", "peak_memory", "skipped"), is_number),
    "mean_reward": are_numbers,  # of a reward model, and over how many responses
    "memory": by_name,
}


def _is_set(scores: Any) -> bool:
    return isinstance(scores, dict) and all(
        OF_SET.get(key, is_number)(value) for key, value in scores.items()
    )
