"""Pydantic's faults in a recipe, as sentences a user can act on."""

from __future__ import annotations

import difflib
import re
from typing import Any

from pydantic_core import ErrorDetails

from dpo_lite.recipe.aliases import alias_of
from dpo_lite.recipe.tables import known_keys

# These say the key themselves; the others are what is wrong with a key's value.
LEAST_SAID = 1e-3  # a bound below it means: above 0
_COMPLETE = ("extra_forbidden", "missing", "value_error")
_WORDS = {
    "bool": "must be true or false",
    "dict": "must be a mapping such as {{name: value}}",
    "finite": "must be a finite number",
    "float": "must be a number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int": "must be a whole number",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "list": "must be a list",
    "literal_error": "must be {expected}",
    "model": "must be a section with keys of its own",
    "string": "must be text",
    "string_pattern": "must look like {pattern}",
    "string_too_long": "must have at most {max_length} letters",
    "string_too_short": "must not be empty",
    "too_long": "must have at most {max_length} entries",
    "too_short": "must have at least one entry",
}
_BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")
MAX_SHOWN = 60  # letters of a value or key that a sentence repeats
MAX_FAULTS = 50  # that are looked at: a recipe of nonsense has thousands
MAX_TOLD = 20
_SHAPES = {
    "run.name": "must be letters, digits, dots, - and _, 64 at most, a letter or digit first",
    "hub.repo": "must be written as user/name",
}


def sentences(faults: list[ErrorDetails]) -> list[str]:
    """The faults as clauses, one per key, each naming its key."""
    complete = {_key(fault) for fault in faults[:MAX_FAULTS] if fault["type"] in _COMPLETE}
    texts = [
        text
        if key in complete and text.startswith(key)
        else f"{short(key)}: {text}"
        if key
        else text
        for key, text in by_key(faults).items()
    ]
    more = len(texts) - MAX_TOLD
    return [*texts[:MAX_TOLD], f"and {more} more"] if more > 0 else texts


def short(value: Any) -> str:
    """A value as a sentence repeats it: one line of some letters, whatever it is."""
    if isinstance(value, int) and value.bit_length() > 200:
        return f"a number of {value.bit_length() * 0.30103:.0f} digits"
    text = value if isinstance(value, str) else repr(value)
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def number(bound: float) -> str:
    """A bound as people write it: 1,000,000 and not 1e+06."""
    return f"{int(bound):,}" if bound == int(bound) and abs(bound) < 1e10 else f"{bound:g}"


def by_key(faults: list[ErrorDetails]) -> dict[str, str]:
    """What is wrong with each key, for a form that says it beside the field.

    A key that is no key of a recipe is among them under the name it was given; "" stands for what
    concerns no single key.
    """
    groups: dict[str, list[ErrorDetails]] = {}
    for fault in faults[:MAX_FAULTS]:
        groups.setdefault(_key(fault), []).append(fault)
    return {key: _together(group) for key, group in groups.items()}


def _together(faults: list[ErrorDetails]) -> str:
    """The faults of one key in one breath.

    The branches of a union such as ``int | "auto"`` fail one by one. Where one of them went deeper,
    into the entries of a list, it is the one that was meant.
    """
    deepest = max(_depth(fault) for fault in faults)
    meant = [fault for fault in faults if _depth(fault) == deepest]
    clauses = list(dict.fromkeys(map(_clause, meant)))
    text = ", or ".join([clauses[0], *(clause.removeprefix("must be ") for clause in clauses[1:])])
    value = meant[0]["input"]
    tells = meant[0]["type"] in _COMPLETE or value in (None, "") or isinstance(value, dict | list)
    if tells:
        return text
    shown = f"'{short(value)}'" if isinstance(value, str) else short(value)
    return f"{text}, not {shown}{_meaning(meant)}"


def _meaning(faults: list[ErrorDetails]) -> str:
    """What a number out of bounds means, in brackets: the beginning of its key's description."""
    field = known_keys().get(_key(faults[0]))
    if field is None or not any(fault["type"] in _BOUNDS for fault in faults):
        return ""
    first = re.split(r"[.;:](?= |$)", field.description)[0]
    return f" ({first[0].lower()}{first[1:]})"


def _depth(fault: ErrorDetails) -> int:
    """How far into the entries of a list a fault lies; the branches of a union do not count."""
    if not any(isinstance(part, int) for part in fault["loc"]):
        return 0
    return len(fault["loc"])


def _key(fault: ErrorDetails) -> str:
    """The key that a fault is about."""
    keys = known_keys()
    if fault["type"] == "value_error":  # of several keys: beside the first that it names
        words = fault["msg"].replace(":", " ").replace(";", " ").replace(",", " ").split()
        return next((word for word in words if word in keys), "")
    where = [str(part) for part in fault["loc"]]
    # Behind the key pydantic appends the branch of a union; the key is what the user knows.
    for length in range(len(where), 0, -1):
        if ".".join(where[:length]) in keys:
            return ".".join(where[:length])
    return ".".join(where)


def _clause(fault: ErrorDetails) -> str:
    key, inner = _key(fault), fault["loc"][-1] if fault["loc"] else ""
    entries = [part for part in fault["loc"] if isinstance(part, int)]
    entry = f"entry {entries[0] + 1}: " if entries else ""
    if fault["type"] == "value_error":
        return fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        return (
            f"{entry}{short(inner)} is no key"
            if entry
            else f"{short(key)} is no key of a recipe; {_nearest(key)}"
        )
    if fault["type"] == "missing":
        return f"{entry}{inner} is missing" if entry else f"{key} is missing; it is required"
    if fault["input"] is None:
        known = known_keys().get(key)
        if known is not None and not known.is_required():
            return "is empty; leave it out for its default, or give it a value"
        return "is missing; it is required"
    return entry + _words(fault)


def _words(fault: ErrorDetails) -> str:
    if fault["type"] == "greater_than_equal" and _is_nothing(fault):
        return "must be above 0"
    if fault["type"] == "string_pattern_mismatch" and _key(fault) in _SHAPES:
        return _SHAPES[_key(fault)]
    kinds = (fault["type"], *(fault["type"].rsplit("_", n)[0] for n in (1, 2)))
    for kind in kinds:
        if kind in _WORDS:
            return _WORDS[kind].format(**_bounds(fault))
    return fault["msg"][0].lower() + fault["msg"][1:]


def _is_nothing(fault: ErrorDetails) -> bool:
    """Whether a number is 0 or less where all above is meant but for what is next to nothing."""
    given, least = fault["input"], fault["ctx"]["ge"]
    return 0 < least <= LEAST_SAID and isinstance(given, int | float) and given <= 0


def _bounds(fault: ErrorDetails) -> dict[str, Any]:
    """What the words of a fault are filled with."""
    given = fault.get("ctx", {})
    return {
        name: number(value) if isinstance(value, int | float) else value
        for name, value in given.items()
    }


def _nearest(key: str) -> str:
    """What the key may have meant: by letters, but first by the name that others give it."""
    keys = known_keys()
    leaves = {known.rsplit(".", 1)[-1] for known in keys}
    if key.rsplit(".", 1)[-1] not in leaves and (alias := alias_of(key)):
        return alias
    short_names = {known.rsplit(".", 1)[-1]: known for known in reversed(keys)}
    short_names |= {known.partition(".")[0]: known for known in reversed(keys)}
    if "." not in key and (like := difflib.get_close_matches(key, short_names, n=1, cutoff=0.7)):
        return f"did you mean {short_names[like[0]]}?"
    close = difflib.get_close_matches(key, keys, n=1, cutoff=0.5) or [
        known for known in keys if known.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]
    ]
    return f"did you mean {close[0]}?" if close else "`dpo-lite recipes keys` lists them all"
