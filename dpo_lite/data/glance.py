"""A short look at data on this machine: how many rows, which columns, and the first row as read.

Light enough to be done while somebody types: no tokenizer, no table. What is found here is what
dpo_lite.data.encoding does with every row, by the same functions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from dpo_lite.data.examples import BadRow, DataRow, Ranked
from dpo_lite.data.formats import PROMPTS_ALONE
from dpo_lite.data.recognition import recognise
from dpo_lite.data.renaming import renamed, same_but_spelling
from dpo_lite.data.sources import Source
from dpo_lite.errors import UserError

LOOKED_AT = 64
# What others call the three columns, without case, spaces and signs.
SYNONYMS = {
    "prompt": ("prompt", "question", "instruction", "input", "query", "context", "request", "user"),
    "chosen": (
        *("chosen", "good", "goodanswer", "better", "betteranswer", "preferred", "accepted"),
        *("best", "winner", "chosenresponse", "preferredresponse", "goodresponse", "positive"),
    ),
    "rejected": (
        *("rejected", "bad", "badanswer", "worse", "worseanswer", "dispreferred", "worst"),
        *("loser", "rejectedresponse", "nonpreferred", "badresponse", "negative"),
    ),
}


@dataclass(frozen=True)
class Glance:
    """``fault`` says why rows cannot be read; ``first`` is the first row that can, ``row`` it as
    it stands in the file, ``columns`` the names of the file."""

    columns: list[str]
    format: str
    first: Ranked | None
    row: DataRow
    fault: str


def glance(
    source: Source, columns: Mapping[str, str] | None = None, wanted: str = "auto"
) -> Glance:
    """Look at the first rows. Never raises for what stands in them: that is the ``fault``."""
    try:
        rows = [row for row in islice(source.rows(), LOOKED_AT) if row]
    except UserError as error:
        return Glance([], "", None, {}, str(error))
    names = list(dict.fromkeys(str(name) for row in rows for name in row))
    first = rows[0] if rows else {}
    names_given = dict(columns or same_but_spelling(rows) or {})
    sample = [renamed(row, names_given) for row in rows]
    try:
        found = recognise(sample, wanted, source.name, prompts=True)
    except UserError as error:
        return Glance(names, "", None, first, str(error))
    for row, mapped in zip(rows, sample, strict=True):
        try:
            ask = found.ask if found is PROMPTS_ALONE else found.convert
            return Glance(names, found.name, ask(mapped), row, "")
        except BadRow:
            continue
    return Glance(names, found.name, None, first, f"none of the first {len(rows)} rows can be read")


def likely_columns(names: Sequence[str]) -> dict[str, str]:
    """A proposal for prompt, chosen and rejected by what columns are called; nobody is held to it.

    A column stands for one of ours at most.
    """
    found: dict[str, str] = {}
    for ours, synonyms in SYNONYMS.items():
        plain = {re.sub(r"[\W_]+", "", name.casefold()): name for name in reversed(names)}
        match = next((plain[word] for word in synonyms if word in plain), None)
        if match is not None and match not in found.values():
            found[ours] = match
    return found
