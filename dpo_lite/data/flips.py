"""A row whose label is turned round, in the format that it has: the other answer is preferred.

How a row says which answer is better depends on its format: by the names of two columns, by a
number, by a word. What comes out is read again by the format's own converter, and must be the same
prompt with the same two answers the other way round; else the row is not turned at all. Ratings
beside the answers say what the label said, so they are taken out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dpo_lite.data.examples import BadRow, DataRow
from dpo_lite.data.format_rules import Format
from dpo_lite.data.formats import FORMATS
from dpo_lite.data.ratings import RATINGS
from dpo_lite.data.renaming import renamed
from dpo_lite.errors import UserError

RATED = {name for pair in RATINGS for name in pair}
Turn = Callable[[DataRow], DataRow]
WORDS = ("chosen", "rejected")  # a column named with one has its counterpart named with the other
OPPOSITE = {"0": "1", "1": "0", "true": "false", "false": "true", "yes": "no", "no": "yes"}


def swapped(one: str, other: str) -> Turn:
    """Two columns change places, and with them all that are named after chosen and rejected."""

    def turn(row: DataRow) -> DataRow:
        turned = dict(row)
        turned[one], turned[other] = row.get(other), row.get(one)
        for name in row:
            partner = name.replace(*WORDS) if isinstance(name, str) else ""
            if name not in (one, other) and partner != name and partner in row:
                turned[name], turned[partner] = row[partner], row[name]
        return turned

    return turn


def changed(column: str, how: Callable[[Any], Any]) -> Turn:
    return lambda row: row | {column: how(row.get(column))}


def negative(value: Any) -> Any:
    return -(value if isinstance(value, (int, float)) else float(value))


def opposite(value: Any) -> Any:
    """Of 0 and 1, true and false, in whatever spelling."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return 1 - value
    return OPPOSITE.get(str(value).strip().lower(), value)


def _other_model(value: Any) -> Any:
    return {"model_a": "model_b", "model_b": "model_a"}.get(str(value).strip(), value)


def _ms_swift(row: DataRow) -> DataRow:
    if row.get("rejected_messages") is not None:
        return swapped("messages", "rejected_messages")(row)
    *before, last = row["messages"]
    key = "content" if "content" in last else "value"
    turned = [*before, last | {key: row["rejected_response"]}]
    return row | {"messages": turned, "rejected_response": last[key]}


BY_NAMES = swapped(*WORDS)
TURNS: dict[str, Turn] = {
    **dict.fromkeys(
        (
            *("triples", "conversational", "conversations", "hh-rlhf", "orca", "distilabel-orca"),
            *("alpaca-ranking", "sharegpt-ranking", "messages-ranking"),
        ),
        BY_NAMES,
    ),
    "argilla-instruction": swapped("chosen_response", "rejected_response"),
    "openai-preference": swapped("preferred_output", "non_preferred_output"),
    "stack-exchange-paired": swapped("response_j", "response_k"),
    "ms-swift": _ms_swift,
    "shp": changed("labels", opposite),
    "tldr-comparisons": changed("choice", opposite),
    "helpsteer2-preference": changed("preference_strength", negative),
    "helpsteer3-preference": changed("overall_preference", negative),
    "pku-saferlhf": changed("better_response_id", opposite),
    "arena": changed("winner", _other_model),
    "arena-pairwise": swapped("winner_model_a", "winner_model_b"),
}


def can_be_turned(form: str) -> bool:
    """Whether a row of the format of that name says of two answers which is better."""
    return form in TURNS


def turned(row: DataRow, number: int, form: str, columns: Mapping[str, str] | None) -> DataRow:
    """The row with the other answer preferred, under the file's own column names.

    ``columns``: our names -> the file's, as ``renamed`` takes them. Raises UserError where the row
    cannot say the opposite: it is a ranking, or has a margin, which is of the order that it has.
    """
    if not can_be_turned(form):
        raise UserError(
            f"Row {number} is of the format {form}, in which a label cannot be turned round; keep"
            " it or drop it."
        )
    if row.get((columns or {}).get("margin", "margin")) not in (None, ""):
        raise UserError(
            f"Row {number} has a margin, which says nothing of the other order; keep it or drop it."
        )
    theirs = dict(columns or {})
    ours = {name: key for key, name in theirs.items()}
    aside = {key for key in row if key in theirs and key not in ours}  # another column is meant
    refusal = UserError(
        f"Row {number} would not say the opposite with its label turned round; keep it or drop it."
    )
    try:
        new = TURNS[form]({ours.get(k, k): v for k, v in row.items() if k not in aside})
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):  # not what it should hold
        raise refusal from None
    new |= {name: None for name in RATED & set(new)}
    result = {key: row[key] if key in aside else new[ours.get(key, key)] for key in row}
    converter = next(one for one in FORMATS if one.name == form)
    if not _is_opposite(converter, renamed(row, theirs), renamed(result, theirs)):
        raise refusal
    return result


def _is_opposite(form: Format, before: DataRow, after: DataRow) -> bool:
    try:
        one, other = form.convert(before), form.convert(after)
    except BadRow:
        return False
    same = one.prompt == other.prompt and len(one.responses) == 2
    return same and list(other.responses) == list(one.responses)[::-1]
