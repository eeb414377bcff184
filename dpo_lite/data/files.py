"""Read the rows of one local file, one at a time.

Text files are read here and not by Arrow, whose readers want one type per column and name no
line: here a row of another type than its neighbours is a row like any other, to be judged later,
and a broken file is named by its line (file_text, json_rows, csv_rows).
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dpo_lite.data.csv_rows import csv_rows
from dpo_lite.data.examples import DataRow
from dpo_lite.data.file_text import as_utf8, opened, reason, unpacked, whole
from dpo_lite.data.json_rows import json_rows, jsonl_rows
from dpo_lite.data.mistaken import refuse_mistaken, what_to_do
from dpo_lite.errors import UserError
from dpo_lite.files import is_pointer

KINDS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow")  # each also with .gz behind it
SHARD = re.compile(r"(?<=.)-\d{5,}-of-\d{5,}(-[0-9a-f]+)?$")
BLOCK = 1 << 20
PARQUET_ROWS = 256  # made into Python objects at once


@dataclass(frozen=True)
class Reading:
    """How files of text are read: ``encoding`` where they are not UTF-8, and lines to leave out by
    name, as in ``pairs.jsonl:17`` (the first line is 1)."""

    encoding: str | None = None
    leave_out: tuple[str, ...] = ()

    def lines(self, path: Path) -> set[int]:
        """The numbers of the lines that are named of this file."""
        named = (name.rpartition(":") for name in self.leave_out)
        return {int(number) for file, _, number in named if file in (path.name, str(path))}

    def unknown(self, paths: Sequence[Path]) -> list[str]:
        """The lines that are named of none of these files."""
        known = {*(path.name for path in paths), *map(str, paths)}
        return [name for name in self.leave_out if name.rpartition(":")[0] not in known]

    @property
    def key(self) -> str:
        """Changes with what is read; empty where nothing is said."""
        return repr((self.encoding, sorted(self.leave_out))) if self != PLAIN else ""


PLAIN = Reading()


def file_kind(path: Path) -> str | None:
    """One of KINDS, or None: ``.jsonl`` for a.jsonl, a.ndjson and a.jsonl.gz."""
    suffix = unpacked(path).suffix.lower()
    suffix = {".ndjson": ".jsonl", ".feather": ".arrow"}.get(suffix, suffix)
    return suffix if suffix in KINDS else None


def no_data_file(path: Path) -> str:
    """What to say of a file of none of the KINDS."""
    return f"data: {path} is no {', '.join(KINDS)} file; {what_to_do(path)}."


def split_name(path: Path) -> str:
    """``train`` for train.jsonl.gz and for a shard such as train-00000-of-00003.parquet."""
    return SHARD.sub("", unpacked(path).stem)


def content_hash(paths: Sequence[Path]) -> str:
    """32 hex digits that change with the files' bytes, kinds and order, and not with their names.

    The kind counts because the same bytes are other rows as .csv than as .tsv. Raises UserError
    where a file cannot be read.
    """
    all_of_it = hashlib.sha256()
    for path in paths:
        one = hashlib.sha256(str(file_kind(path)).encode())
        with opened(path, unpack=False) as file:
            while block := file.read(BLOCK):
                one.update(block)
        all_of_it.update(one.digest())  # of fixed length, so it counts where a file ends
    return all_of_it.hexdigest()[:32]


def read_rows(path: Path, reading: Reading = PLAIN) -> Iterator[DataRow]:
    """The file's rows in their order; only the row in hand is held, and the text of a .json or of
    a file that is not UTF-8. A line that is left out by name is a ``LeftOut``.

    Raises UserError in one sentence: at the first row, or as late as the line that is broken.
    """
    kind = file_kind(path)
    any_row = False
    with opened(path) as file:
        if kind is None:
            raise UserError(no_data_file(path))
        if is_pointer(path):
            raise UserError(
                f"data: {path} is only Git LFS's note of a file; `git lfs pull` gets the file."
            )
        refuse_mistaken(path, file, kind)
        named = reading.lines(path)
        if named and kind not in (".jsonl", ".csv", ".tsv"):
            raise UserError(f"data.leave_out: {path} has no rows by line; take the row out of it.")
        for row in _READERS[kind](path, as_utf8(path, file, kind, reading.encoding), named):
            any_row = True
            yield row
        if named:
            line = min(named)
            raise UserError(f"data.leave_out: {path} has no line {line}; take it out of the list.")
    if not any_row:
        with opened(path) as file:
            blank = not any(line.strip(codecs.BOM_UTF8 + b" \t\r\n") for line in file)
        raise UserError(f"data: {path} {'is empty' if blank else 'holds no rows'}.")


def _parquet_rows(path: Path, file: BinaryIO, named: set[int]) -> Iterator[DataRow]:
    import pyarrow
    from pyarrow import parquet

    if isinstance(file, gzip.GzipFile):  # the footer is read first, and gzip cannot jump to it
        file = io.BytesIO(whole(path, file))
    if not file.seek(0, io.SEEK_END):
        return
    try:
        table = parquet.ParquetFile(file)
        for group in range(table.num_row_groups):  # asked for all at once, all are kept
            for batch in table.iter_batches(PARQUET_ROWS, row_groups=[group]):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, ArithmeticError) as error:
        problem = f"is no readable Parquet file: {reason(error)}; get it or write it anew"
        raise UserError(f"data: {path} {problem}.") from error


def _arrow_rows(path: Path, file: BinaryIO, named: set[int]) -> Iterator[DataRow]:
    """Of Arrow's two forms the file and the stream, which `datasets` writes."""
    import pyarrow
    from pyarrow import ipc

    if isinstance(file, gzip.GzipFile):
        file = io.BytesIO(whole(path, file))
    if not file.seek(0, io.SEEK_END):
        return
    file.seek(0)
    is_file = file.read(6) == b"ARROW1"
    file.seek(0)
    try:
        if is_file:
            table = ipc.open_file(file)
            batches = (table.get_batch(number) for number in range(table.num_record_batches))
        else:
            batches = iter(ipc.open_stream(file))
        for batch in batches:
            for start in range(0, batch.num_rows, PARQUET_ROWS):
                yield from batch.slice(start, PARQUET_ROWS).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, ArithmeticError) as error:
        problem = f"is no readable Arrow file: {reason(error)}; get it or write it anew"
        raise UserError(f"data: {path} {problem}.") from error


_READERS = {
    ".jsonl": jsonl_rows,
    ".json": json_rows,
    ".csv": csv_rows,
    ".tsv": csv_rows,
    ".parquet": _parquet_rows,
    ".arrow": _arrow_rows,
}
