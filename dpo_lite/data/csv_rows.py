"""Rows of a table of text: commas, tabs, or whatever the header's names are parted by."""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Iterator
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import BinaryIO

from dpo_lite.data.examples import DataRow
from dpo_lite.data.file_text import (
    bad_line,
    left_out,
    lines,
    or_leave_out,
    reason,
    unpacked,
)

# Far above any text, and low enough that a quote which is never closed does not fill the memory.
CELL_LIMIT = 1 << 26


def csv_rows(path: Path, file: BinaryIO, named: set[int]) -> Iterator[DataRow]:
    # The limit is the whole process's, so it is raised and never lowered.
    csv.field_size_limit(max(csv.field_size_limit(), CELL_LIMIT))
    all_lines = lines(path, file)
    number, line = next(all_lines, (1, ""))
    after = list(islice(all_lines, 1))
    if not after and "\r" in line.rstrip("\r\n"):  # Excel's CSV (Macintosh): no other line end
        pieces = re.findall(r"[^\r]*\r?", line.rstrip("\r\n"))
        (number, line), *after = [(number + place, text) for place, text in enumerate(pieces)]
    all_lines = chain(after, all_lines)
    said = re.fullmatch(r"sep=(.)", line.strip())  # what Excel writes where a comma is a decimal's
    if said:
        number, line = next(all_lines, (2, ""))
    delimiter = (
        said[1]
        if said
        else _delimiter(line, "\t" if unpacked(path).suffix.lower() == ".tsv" else ",")
    )
    at, gone = number, []  # the line in hand, and what was left out on the way to it

    def rows() -> Iterator[str]:
        nonlocal at
        yield line
        for at, text in all_lines:
            if at in named:
                gone.append(left_out(path, at, named))
            else:
                yield text

    reader = csv.reader(rows(), delimiter=delimiter, strict=True)
    header: list[str] = []
    index = False
    try:
        for cells in reader:  # which began on line ``number``
            number += len(gone)
            yield from gone
            gone.clear()
            if not header:
                header = _checked_header(path, number, cells)
                index = bool(header) and not header[0].strip()
            elif len(cells) > len(header):
                problem = f"has {len(cells)} cells and the header {len(header)}"
                out = or_leave_out(path, number)
                raise bad_line(path, number, f"{problem}; quote cells that hold the delimiter{out}")
            elif cells:
                row = dict(zip_longest(header, cells))
                if index:  # pandas' or R's number of the row
                    del row[header[0]]
                yield row
            number = at + 1
        yield from gone
    except csv.Error as error:
        number += len(gone)
        fault = reason(error).partition(" - ")[0]
        fault = {"unexpected end of data": "a quote is never closed"}.get(fault, fault)
        problem = f"begins a row that is no valid CSV: {fault}"
        out = or_leave_out(path, number)
        raise bad_line(
            path, number, f"{problem}; quote the cell, with each quote in it doubled{out}"
        ) from None


def _delimiter(header: str, usual: str) -> str:
    """What the header's names are parted by: the usual one, or where that gives a single name the
    one of the others that gives most (Excel writes semicolons where a comma is a decimal's)."""

    def names(delimiter: str) -> int:
        with contextlib.suppress(csv.Error):  # told where the rows are read
            return len(next(csv.reader([header], delimiter=delimiter), []))
        return 0

    return usual if names(usual) > 1 else max((usual, ";", "\t", ",", "|"), key=names)


def _checked_header(path: Path, number: int, names: list[str]) -> list[str]:
    """The names; the first of several may be empty, as pandas and R leave it."""
    for place, name in enumerate(names):
        if place == 0 and not name.strip() and len(names) > 1 and names.count(name) == 1:
            continue
        if not name.strip() or names.count(name) > 1:
            problem = f"has the column name {name!r}" + (" twice" if name.strip() else "")
            raise bad_line(path, number, f"{problem}; name each column in the header")
    return names
