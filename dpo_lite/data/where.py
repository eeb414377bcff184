"""``data.where``: keep the rows whose columns have given values, such as ``{score_ratio: ">= 3"}``.

A value is what the column must equal, or text with a comparison in front. Columns have the names
that ``data.columns`` gave them. Nothing is evaluated as code.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from dpo_lite.data.cells import is_boolean, is_number
from dpo_lite.data.examples import DataRow
from dpo_lite.data.fields import boolean
from dpo_lite.errors import UserError

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
WRITTEN = re.compile(r"\s*(>=|<=|!=|==|>|<)\s*(.*)", re.DOTALL)


def row_filter(where: Mapping[str, Any] | None) -> Callable[[DataRow], bool]:
    """A function that tells whether a row is kept; a missing or null cell never is.

    Raises UserError for an order comparison with something that is no number.
    """
    conditions = [_condition(column, value) for column, value in (where or {}).items()]

    def keeps(row: DataRow) -> bool:
        return all(
            row.get(column) is not None and holds(row[column]) for column, holds in conditions
        )

    return keeps


def _condition(column: str, value: Any) -> tuple[str, Callable[[Any], bool]]:
    match = WRITTEN.fullmatch(value) if isinstance(value, str) else None
    sign, wanted = match.groups() if match else ("==", value)
    if sign in (">=", "<=", ">", "<") and not is_number(wanted):
        raise UserError(
            f"data.where: {column} {sign} {wanted!r} compares with no number; write for example "
            f'{column}: "{sign} 3".'
        )
    compare = COMPARISONS[sign]
    if isinstance(wanted, bool):
        return column, lambda cell: is_boolean(cell) and boolean({column: cell}, column) == wanted
    if is_number(wanted):
        limit = float(wanted)
        other = sign == "!="
        return column, lambda cell: compare(float(cell), limit) if is_number(cell) else other
    return column, lambda cell: compare(_plain(cell), _plain(wanted))


def _plain(value: Any) -> str:
    """Text to compare; true and false in whatever case JSON, YAML and CSV spell them."""
    text = str(value).strip()
    return text.lower() if text.lower() in ("true", "false") else text
