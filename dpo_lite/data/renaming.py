"""A row under our column names: as the user says, or where theirs differ in spelling alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dpo_lite.data.examples import DataRow
from dpo_lite.data.formats import ANSWERED, FORMATS

# Each name in small letters -> as a format has it
KNOWN = {name.casefold(): name for f in FORMATS for names in f.needs for name in names.split("|")}


def renamed(row: DataRow, columns: Mapping[str, str] | None) -> DataRow:
    """The row with the user's column names turned into ours; a column of our name makes way."""
    if not columns or not row:
        return row
    rest = {key: value for key, value in row.items() if key not in {*columns, *columns.values()}}
    return rest | {ours: row.get(theirs) for ours, theirs in columns.items()}


def same_but_spelling(sample: Sequence[DataRow]) -> dict[str, str] | None:
    """Our names -> the file's, where case and spaces around them are all that differs.

    None where the rows are of a known format as they are, or are of none so either; and where two
    columns would be one. `Prompt`, `Chosen` and `Rejected` are thus what they say.
    """
    if any(f.matches(row) for row in sample for f in ANSWERED):
        return None
    names = list(dict.fromkeys(name for row in sample for name in row if isinstance(name, str)))
    plain = [name.strip().casefold() for name in names]
    ours = {
        KNOWN[word]: name
        for word, name in zip(plain, names, strict=True)
        if word in KNOWN and KNOWN[word] != name and plain.count(word) == 1
    }
    rows = [renamed(row, ours) for row in sample] if ours else []
    return ours if any(f.matches(row) for row in rows for f in FORMATS) else None
