"""What a replaced part of a recipe takes along: keys that were written for what it replaces.

A file that trains a fresh adapter may say ``reference: base``, and what it says of columns,
held-out data and prompts is about its own data. Who starts from an adapter, or brings other data,
has not asked for these: they go, unless they are given now as well. A file alone is obeyed as it is
written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpo_lite.recipe.tables import known_keys

OF_ADAPTER = ("reference",)
OF_DATA = (
    "data.eval",
    "data.revision",
    "data.format",
    "data.columns",
    "data.encoding",
    "data.leave_out",
    "data.where",
    "data.strip_prompt",
    "eval.prompts",
    "eval.limit",
)
BELONGINGS = {"model.adapter": OF_ADAPTER, "data.train": OF_DATA}


def value_of(values: Mapping[str, Any], key: str) -> Any:
    """A key's value in nested dicts; None where it is not there."""
    section, _, leaf = key.rpartition(".")
    holder = values.get(section) if section else values
    return holder.get(leaf) if isinstance(holder, Mapping) else None


def remove(values: dict[str, Any], key: str) -> None:
    """Take a key that is there out of nested dicts."""
    section, _, leaf = key.rpartition(".")
    del (values[section] if section else values)[leaf]


def outdated(values: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """The keys of a recipe's ``values`` that go when the ``given`` ones, by key, are put in."""
    given = _by_leaf(given)
    gone = []
    for key, belongings in BELONGINGS.items():
        if key in given and given[key] != value_of(values, key):
            gone += [other for other in belongings if other not in given]
    after = "start" if given.get("model.adapter") else "base"  # the default then
    keys = known_keys()
    return [
        key
        for key in gone
        if value_of(values, key) not in (None, keys[key].get_default(call_default_factory=True))
        and not (key == "reference" and values[key] == after)
    ]


def in_words(values: Mapping[str, Any], gone: list[str]) -> list[str]:
    """A line for each reason why keys of ``values`` went."""
    lines = []
    if "reference" in gone:
        written = values["reference"]
        now = "the adapter that it starts from (reference=base: to the base)"
        lines.append(
            f"reference: {written} of the recipe is left out, as its model.adapter is: the policy"
            f" is held to {now if written == 'base' else 'the base'}"
        )
    if of_data := [key for key in gone if key in OF_DATA]:
        several = len(of_data) > 1
        be, they, them = ("are", "they belong", "them") if several else ("is", "it belongs", "it")
        lines.append(
            f"{', '.join(of_data)} of the recipe {be} left out: {they} to its own data; set {them}"
            f" anew to keep {them}"
        )
    return lines


def _by_leaf(given: Mapping[str, Any]) -> dict[str, Any]:
    """A section that is given as a whole as its keys: those it does not name are given away."""
    leaves: dict[str, Any] = {}
    for key, value in given.items():
        inside = [known for known in known_keys() if known.startswith(f"{key}.")]
        if inside and isinstance(value, Mapping):
            leaves |= {known: value_of({key: value}, known) for known in inside}
        else:
            leaves[key] = value
    return leaves
