"""Pydantic's faults in a recipe, as sentences a user can act on."""

from __future__ import annotations

import difflib

from dpo_lite.recipe.tables import known_keys


def sentences(faults: list[dict]) -> list[str]:
    """Pydantic's faults as clauses a user can act on, one per key."""
    clauses: dict[str, str] = {}
    for fault in faults:
        key, text = _clause(fault)
        shown = f"{key}: {text}" if fault["type"] not in _COMPLETE else text
        # The branches of a union such as `int | "auto"` fail one by one: say them in one breath.
        clauses[key] = f"{clauses[key]}, or {text}" if key in clauses else shown
        fault["shown"] = f", not {fault['input']!r}" if fault["type"] not in _COMPLETE else ""
    ends = {_clause(fault)[0]: fault["shown"] for fault in faults}
    return [clause + ends[key] for key, clause in clauses.items()]


_COMPLETE = ("extra_forbidden", "missing", "value_error")


def _clause(fault: dict) -> tuple[str, str]:
    """The key that a fault is about, and what is wrong with it."""
    keys = known_keys()
    where = [str(part) for part in fault["loc"]]
    if fault["type"] == "value_error":
        return "", fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        key = ".".join(where)
        close = difflib.get_close_matches(key, keys, n=1, cutoff=0.5) or [
            known for known in keys if known.rsplit(".", 1)[-1] == where[-1]
        ]
        hint = f"did you mean {close[0]}?" if close else "`dpo-lite recipes keys` lists them all"
        return key, f"{key} is no key of a recipe; {hint}"
    # Behind the key pydantic appends the branch of a union; the key is what the user knows.
    while len(where) > 1 and ".".join(where) not in keys and ".".join(where[:-1]) in keys:
        where = where[:-1]
    key = ".".join(where)
    if fault["type"] == "missing":
        return key, f"{key} is missing; it is required"
    return key, fault["msg"][0].lower() + fault["msg"][1:]
