"""Which format a file has. No match is an error that says what to do, never a guess."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from dpo_lite.data.cells import kind_of
from dpo_lite.data.examples import DataRow
from dpo_lite.data.format_rules import Format, column_words
from dpo_lite.data.formats import ANSWERED, FORMATS, PROMPTS_ALONE
from dpo_lite.errors import UserError

SHOWN_COLUMNS = 16
BESIDE = {"system", "tools", "chat_template_kwargs", "chosen_markers", "rejected_markers"}
NO_ANSWERS = "it holds prompts alone, without an answer to learn from; task: ppo answers them."


def recognise(
    sample: Sequence[DataRow], wanted: str = "auto", where: str = "data", prompts: bool = False
) -> Format:
    """The one format that fits every row of the sample that fits any.

    ``prompts``: whether prompts alone are enough; else such data are an error that says so. A row
    that fits none is left to the converter, which says what is wrong with it. Raises UserError
    where none or several fit, naming the key that settles it.
    """
    if wanted not in ("auto", "raw"):
        return _named(sample, wanted, where, prompts)
    fits = [(row, [f for f in ANSWERED if f.matches(cells)]) for row, cells in enumerate(sample)]
    fits = [(row, formats) for row, formats in fits if formats]
    if not fits and prompts and any(map(PROMPTS_ALONE.matches, sample)):
        return PROMPTS_ALONE
    if not fits:
        raise UserError(f"{where}: {_no_match(sample, prompts)}")
    common = [f for f in ANSWERED if all(f in formats for _, formats in fits)]
    if not common:
        raise UserError(f"{where}: {_mixed(fits)}")
    if len(common) > 1:
        raise UserError(f"{where}: {_alike(common)}")
    return common[0]


def _alike(common: Sequence[Format]) -> str:
    names = [f.name for f in common]
    return (
        f"the columns fit {' and '.join(names)} alike; say which with data.format, for example "
        f"data.format={names[0]}."
    )


def _mixed(fits: Sequence[tuple[int, list[Format]]]) -> str:
    """Two rows that show it; ``fits`` are the rows' numbers and formats, at least one each."""
    (row, (first, *_)), *_ = fits
    other, (second, *_) = next(fit for fit in fits if first not in fit[1])
    return (
        f"the file is mixed: row {row} is {first.name}, row {other} is {second.name} "
        "(0 is the first). Split it by format and mix the parts as two sources of data.train, or "
        "set data.format to keep the rows of one format alone."
    )


def _named(sample: Sequence[DataRow], wanted: str, where: str, prompts: bool) -> Format:
    names = {f.name: f for f in FORMATS}
    if wanted not in names:
        close = difflib.get_close_matches(wanted.lower(), names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}."
        raise UserError(f"{where}: data.format: there is no {wanted}; {hint}")
    asked = names[wanted]
    if asked is PROMPTS_ALONE and not prompts:
        raise UserError(f"{where}: data.format={wanted}: {NO_ANSWERS}")
    present = {name for row in sample for name, value in row.items() if value is not None}
    missing = [names for names in asked.needed() if present.isdisjoint(names.split("|"))]
    if missing:
        raise UserError(
            f"{where}: data.format={wanted} needs {column_words(asked.needed())}; missing or "
            f"empty: {column_words(missing)}. {_hint(sample, asked, missing[0])}"
        )
    return asked


def _no_match(sample: Sequence[DataRow], prompts: bool) -> str:
    """What stands in the file instead of a known format, and what to do about it."""
    kinds = _kinds(sample)
    if not kinds or set(kinds.values()) == {"empty"}:
        some = f"{column_words(kinds)} are empty" if kinds else "there are no columns"
        return f"{some} in the rows looked at ({len(sample)}); is it the right file or split?"
    listed = _listed(kinds)
    if _by_columns(sample):
        return (
            f"it is one table by its columns or its index ({listed}), as pandas' to_json writes it;"
            " write a row a line, to_json('pairs.jsonl', orient='records', lines=True)."
        )
    asked = {kinds.get(name, "empty") for name in ("prompt", "question", "instruction")}
    if {kinds.get("chosen"), kinds.get("rejected")} == {"text"} and asked == {"empty"}:
        turns = next((name for name, kind in kinds.items() if kind == "a list of messages"), None)
        if turns:
            return (
                f"`chosen` and `rejected` are plain text and no column is a `prompt`; if `{turns}`"
                f" is what they answer, set data.columns='{{prompt: {turns}}}'. The columns are"
                f" {listed}."
            )
        return (
            "`chosen` and `rejected` are plain text without a `prompt` column, and the prompt is "
            f"never guessed from the words that they share. The columns are {listed}. "
            f"{_hint(sample, FORMATS[0], 'prompt')}"
        )
    candidates = (PROMPTS_ALONE, *ANSWERED) if prompts else ANSWERED
    pairs = ((candidate, row) for candidate in candidates for row in sample)
    nearest, row = min(pairs, key=lambda pair: _distance(*pair))
    unmet, barred = nearest.unmet(row), nearest.barred(row)
    if not unmet:
        return (
            f"the rows look like {nearest.name}, but have {column_words(barred)} as well; set "
            f"data.format={nearest.name} if that is what it is. The columns are {listed}."
        )
    if not prompts and any(map(PROMPTS_ALONE.matches, sample)):
        if not _meant(sample, nearest, unmet[0]):
            return NO_ANSWERS
        return (
            f"{NO_ANSWERS} The columns are {listed}; where one of them is an answer: "
            f"{_hint(sample, nearest, unmet[0])}"
        )
    how_near = "nearest" if _distance(nearest, row) < 1 else "simplest"
    problems = ", ".join(_problem(nearest, names, row) for names in unmet)
    return (
        f"no known format has the columns {listed}. The {how_near} is {nearest.name} "
        f"({column_words(nearest.needed())}): {problems}. {_hint(sample, nearest, unmet[0])}"
    )


def _by_columns(sample: Sequence[DataRow]) -> bool:
    """Whether the only row is a whole table: objects with the same keys, or lists as long."""
    if len(sample) != 1 or len(sample[0]) < 2:
        return False
    cells = list(sample[0].values())
    if all(isinstance(cell, dict) for cell in cells):
        return bool(cells[0]) and all(cell.keys() == cells[0].keys() for cell in cells)
    if {"columns", "data"} <= set(sample[0]) and all(isinstance(cell, list) for cell in cells):
        return True
    texts = all(isinstance(cell, list) and cell and isinstance(cell[0], str) for cell in cells)
    return texts and len({len(cell) for cell in cells}) == 1


def _listed(kinds: dict[str, str]) -> str:
    """The columns with what they hold; of very many the first."""
    shown = [f"`{name}` ({kind})" for name, kind in kinds.items()][:SHOWN_COLUMNS]
    rest = len(kinds) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _distance(candidate: Format, row: DataRow) -> float:
    """The share of needs that a row does not meet; a column of the right name counts half."""
    unmet = candidate.unmet(row)
    there = sum(any(row.get(name) is not None for name in n.split("|")) for n in unmet)
    share = (len(unmet) - 0.5 * there) / len(candidate.needed())
    return share + 0.25 * len(candidate.barred(row))


def _problem(candidate: Format, names: str, row: DataRow) -> str:
    name = next((name for name in names.split("|") if name in row), names.split("|")[0])
    wanted = candidate.needs[names].words
    if name not in row:
        return f"`{name}` ({wanted}) is missing"
    return f"`{name}` is {kind_of(row[name])}, not {wanted}"


def _hint(sample: Sequence[DataRow], candidate: Format, names: str) -> str:
    """How to name the column of a need: with one of the user's own where one can be meant."""
    ours, theirs = names.split("|")[0], _meant(sample, candidate, names)
    which = ""
    if names == "scores|ranks":  # named by the other, data say the opposite
        ours = "ranks" if theirs and "rank" in theirs[0].lower() else ours
        which = " With `scores` higher is better, with `ranks` 1 is best."
    start = "Name your columns" if theirs else f"Give the file such a `{ours}`, or name yours"
    example = f"data.columns='{{{ours}: {theirs[0] if theirs else 'question'}}}'"
    return f"{start} with data.columns (as in {example}), or the format with data.format.{which}"


def _meant(sample: Sequence[DataRow], candidate: Format, names: str) -> list[str]:
    """The user's own columns that can be meant by a need."""
    test = candidate.needs[names]
    known = {name for f in FORMATS for needed in f.needs for name in needed.split("|")} | BESIDE
    own = [name for name in _kinds(sample) if name not in known]
    return [name for name in own if any(test.holds(row.get(name)) for row in sample)]


def _kinds(sample: Sequence[DataRow]) -> dict[str, str]:
    """What each column holds, by its first cell that is not null."""
    kinds: dict[str, str] = {}
    for row in sample:
        for name, value in row.items():
            if kinds.get(str(name), "empty") == "empty":
                kinds[str(name)] = kind_of(value)
    return kinds
