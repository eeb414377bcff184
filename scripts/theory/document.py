"""The tables inside docs/theory.md, between `<!-- numbers: NAME -->` and `<!-- end -->`."""

from __future__ import annotations

import re

from scripts.theory.proof import Table

BLOCK = re.compile(r"(<!-- numbers: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def fill(text: str, tables: dict[str, Table]) -> str:
    """The document with every marked block replaced by its table; a KeyError names a lost one."""
    return BLOCK.sub(lambda m: f"{m[1]}{markdown(tables[m[2]])}{m[4]}", text)


def tables_in(text: str) -> dict[str, Table]:
    """The tables that the document shows, as `measure` gives them."""
    return {name: parse(body) for _, name, body, _ in BLOCK.findall(text)}


def markdown(table: Table) -> str:
    header, *rows = table
    ruler = ("---", *("---:" for _ in header[1:]))
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, ruler, *rows))


def parse(body: str) -> Table:
    lines = [line for line in body.splitlines() if not line.startswith("| ---")]
    return [tuple(line.removeprefix("| ").removesuffix(" |").split(" | ")) for line in lines]
