"""The tables of docs/adapters.md: what becomes of which adapter, what is said of others."""

from __future__ import annotations

import re
from collections.abc import Mapping

from scripts.adapters.trial import USES, Outcome

BLOCK = re.compile(r"(<!-- tried -->\n)(.*)(<!-- end -->)", re.DOTALL)


def fill(text: str, outcomes: Mapping[str, Outcome]) -> str:
    """The document with what was found in its place."""
    return BLOCK.sub(lambda m: f"{m[1]}{tables(outcomes)}{m[3]}", text)


def tables(outcomes: Mapping[str, Outcome]) -> str:
    """Both tables, by the names of the kinds."""
    lines = [_row("adapter", *USES), _row(*["---"] * (1 + len(USES)))]
    lines += [use_row(name, outcome) for name, outcome in outcomes.items()]
    said = [said_row(name, outcome) for name, outcome in outcomes.items() if outcome.sentence]
    return "".join([*lines, "\n", _row("adapter", "what is said"), _row("---", "---"), *said])


def use_row(name: str, outcome: Outcome) -> str:
    return _row(name, *(outcome.uses[use] for use in USES))


def said_row(name: str, outcome: Outcome) -> str:
    return _row(name, outcome.sentence or "")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '∣') for cell in cells)} |\n"
