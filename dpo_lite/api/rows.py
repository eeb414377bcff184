"""Rows that stand in memory as a file of JSON lines, which a run's recipe can name.

The file's name is a hash of its content, so the same rows are one file, whose encoded table and
reference numbers are found again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from dpo_lite.errors import UserError, disk_faults_told
from dpo_lite.files import json_text, write_text

FOLDER = ".rows"  # beside the runs, where no run can be: names of runs begin with a letter or digit
PART_OF_RECIPE = {"source", "weight", "format", "columns"}


def as_source(rows: Any, runs: str | Path, what: str) -> Any:
    """What a recipe says of the data: rows become a file beside the runs, all else stays as it is.

    ``rows``: a list of dicts, a pandas DataFrame or a ``datasets.Dataset``; or what ``data.train``
    takes (a name, a list of names, or of {source, weight, format, columns}). ``what``: of which
    argument a fault tells. Raises UserError in one sentence.
    """
    if rows is None or isinstance(rows, str):
        return rows
    if isinstance(rows, Path):
        return str(rows)
    if isinstance(rows, Mapping):  # datasets.DatasetDict among them
        raise UserError(
            f"{what} is a mapping of {', '.join(map(str, rows))}; give one of them, such as "
            f"{what}=rows[{next(iter(rows), 'train')!r}]."
        )
    if not isinstance(rows, Iterable) or hasattr(rows, "to_frame"):  # a Series among them
        raise UserError(
            f"{what} is a {type(rows).__name__}; give a file's name, a list of dicts, a DataFrame "
            "or a Dataset."
        )
    listed = list(_records(rows, what))
    if not listed:
        raise UserError(f"{what} has no rows; give at least one pair.")
    if all(_is_part(part) for part in listed):
        return [str(part) if isinstance(part, Path) else part for part in listed]
    return str(_written(listed, Path(runs), what))


def _records(rows: Any, what: str) -> Iterable[Any]:
    """The rows of a table, cells without a value as None; of anything else what it holds."""
    if hasattr(rows, "to_dict") and hasattr(rows, "notna"):  # a DataFrame
        if not rows.columns.is_unique:
            twice = rows.columns[rows.columns.duplicated()][0]
            raise UserError(f"{what} has two columns {twice}; rename or drop one of them.")
        return rows.astype(object).where(rows.notna(), None).to_dict("records")
    return rows


def _is_part(part: Any) -> bool:
    """Whether an entry names a source: a row of data has a column besides those of a recipe."""
    if isinstance(part, Mapping):
        return "source" in part and set(part) <= PART_OF_RECIPE
    return isinstance(part, str | Path)


def _written(rows: list[Any], runs: Path, what: str) -> Path:
    lines = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise UserError(
                f"{what} row {number} is a {type(row).__name__}; a row is a dict such as "
                '{"prompt": ..., "chosen": ..., "rejected": ...}.'
            )
        try:
            lines.append(json_text(dict(row), default=_plain) + "\n")
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{what} row {number} cannot be written as JSON ({error}); give texts, numbers and"
                " lists of them."
            ) from None
    text = "".join(lines)
    file = runs / FOLDER / f"rows-{hashlib.sha256(text.encode()).hexdigest()[:16]}.jsonl"
    if not file.is_file():
        with disk_faults_told():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, text)
    return file


def _plain(value: Any) -> Any:
    """A cell of numpy, torch or pandas as what JSON has."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"a {type(value).__name__} is no JSON")
