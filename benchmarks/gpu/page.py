"""The page for readers, in Markdown, from the records and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.gpu.parts import PARTS, SHAPES, TINY
from benchmarks.gpu.records import FAIL, NOT_RUN, PASS, Key, Record, of_key

SMALL = """
This is the small form: tiny models, which show that the kit runs and that the numbers agree. No
time in it says anything about a card.
"""


def page(records: Iterable[Record], key: Key) -> str:
    """Markdown of what was found on one device, by one version of the code."""
    own = sorted(of_key(records, key).values(), key=_place)
    lines = [f"# {key.device}", "", summary(own), ""]
    lines += ["Made by `python -m benchmarks.gpu` from results.json.", ""]
    used = next((record["versions"] for record in own if record["versions"]), {})
    lines.append(", ".join(f"{name} {number}" for name, number in used.items()) + ".")
    lines.append(f"Code {key.code}.")
    if key.small:
        lines.append(SMALL.rstrip())
    lines += ["", "| part | shape | | seconds | |", "| --- | --- | --- | ---: | --- |"]
    lines += [_row(record) for record in own]
    for record in own:
        if record["figures"]:
            lines += ["", *_section(record)]
    return "\n".join(lines) + "\n"


def summary(records: Iterable[Record]) -> str:
    """How many of the units passed."""
    states = [record["state"] for record in records]
    counts = [f"{states.count(state)} {state}" for state in (PASS, FAIL, NOT_RUN)]
    return ", ".join(counts) + f", of {len(states)}."


def _place(record: Record) -> tuple[int, int]:
    names, shapes = [part.name for part in PARTS], [TINY, *SHAPES]
    part = names.index(record["part"]) if record["part"] in names else len(names)
    return part, shapes.index(record["shape"]) if record["shape"] in shapes else -1


def _row(record: Record) -> str:
    state = record["state"]
    seconds = "" if record["seconds"] is None else f"{record['seconds']:.0f}"
    said = record["why"] or _missed(record) or record["what"]
    mark = f"**{state}**" if state == FAIL else state
    return f"| {record['part']} | {record['shape'] or ''} | {mark} | {seconds} | {_cell(said)} |"


def _missed(record: Record) -> str | None:
    """Which figures are over their limits."""
    wrong = [f for f in record["figures"] if f["passed"] is False]
    return "; ".join(f"{f['what']} {_number(f)}, {f['limit']}" for f in wrong) or None


def _section(record: Record) -> Iterator[str]:
    yield f"## {record['unit']}"
    yield ""
    yield f"{record['what'][0].upper()}{record['what'][1:]}."
    if record["why"]:
        yield from ("", f"{record['state']}: {_cell(record['why'])}")
    yield from ("", "| figure | found | limit | |", "| --- | ---: | --- | --- |")
    for figure in record["figures"]:
        verdict = {True: PASS, False: f"**{FAIL}**", None: ""}[figure["passed"]]
        limit = figure["limit"] or ""
        yield f"| {_cell(figure['what'])} | {_cell(_number(figure))} | {limit} | {verdict} |"


def _number(figure: dict[str, Any]) -> str:
    value = figure["value"]
    if isinstance(value, float):
        value = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    elif isinstance(value, int) and not isinstance(value, bool):
        value = f"{value:,}"
    return f"{value} {figure['unit']}".strip()


def _cell(text: str) -> str:
    return re.sub(r"[|<>\n]", " ", text)
