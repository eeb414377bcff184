"""Read the rows of one local file, one at a time.

Text files are read here and not by Arrow, whose readers want one type per column and name no
line: here a row of another type than its neighbours is a row like any other, to be judged later,
and a broken file is named by its line.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import hashlib
import io
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import dropwhile, zip_longest
from pathlib import Path
from typing import Any, BinaryIO

from dpo_lite.data.examples import DataRow
from dpo_lite.errors import UserError
from dpo_lite.files import is_pointer

KINDS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")  # each also with .gz behind it
SHARD = re.compile(r"(?<=.)-\d{5,}-of-\d{5,}(-[0-9a-f]+)?$")
JSON_SPACE = re.compile(r"[ \t\n\r]*")
BLOCK = 1 << 20
PARQUET_ROWS = 256  # made into Python objects at once
# Far above any text, and low enough that a quote which is never closed does not fill the memory.
CELL_LIMIT = 1 << 26
# Some kilobytes of gzip unpack to lines without end: what is held at once has a bound.
MAX_LINE = 1 << 28
MAX_UNPACKED = 1 << 31  # of what must be unpacked whole

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # begin with those of UTF-32 alike
UTF_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)

DECODE = json.JSONDecoder()
OBJECT = ()  # what JSON has none of; skimming keeps it in place of each object
SKIM = json.JSONDecoder(object_hook=lambda members: OBJECT)

Values = Iterator[tuple[Any, int]]  # JSON values, and where in the text each begins


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

    @property
    def key(self) -> str:
        """Changes with what is read; empty where nothing is said."""
        return repr((self.encoding, sorted(self.leave_out))) if self != PLAIN else ""


PLAIN = Reading()


class LeftOut(dict):
    """The empty row in place of a line that was left out by name."""

    def __init__(self, line: str):
        super().__init__()
        self.line = line


def file_kind(path: Path) -> str | None:
    """One of KINDS, or None: ``.jsonl`` for a.jsonl, a.ndjson and a.jsonl.gz."""
    suffix = _unpacked(path).suffix.lower().replace(".ndjson", ".jsonl")
    return suffix if suffix in KINDS else None


def split_name(path: Path) -> str:
    """``train`` for train.jsonl.gz and for a shard such as train-00000-of-00003.parquet."""
    return SHARD.sub("", _unpacked(path).stem)


def content_hash(paths: Sequence[Path]) -> str:
    """32 hex digits that change with the files' bytes, kinds and order, and not with their names.

    The kind counts because the same bytes are other rows as .csv than as .tsv. Raises UserError
    where a file cannot be read.
    """
    whole = hashlib.sha256()
    for path in paths:
        one = hashlib.sha256(str(file_kind(path)).encode())
        with _opened(path, unpack=False) as file:
            while block := file.read(BLOCK):
                one.update(block)
        whole.update(one.digest())  # of fixed length, so it counts where a file ends
    return whole.hexdigest()[:32]


def read_rows(path: Path, reading: Reading = PLAIN) -> Iterator[DataRow]:
    """The file's rows in their order; only the row in hand is held, and the text of a .json or of
    a file that is not UTF-8. A line that is left out by name is a ``LeftOut``.

    Raises UserError in one sentence: at the first row, or as late as the line that is broken.
    """
    kind = file_kind(path)
    any_row = False
    with _opened(path) as file:
        if kind is None:
            raise UserError(f"data: {path} is no {', '.join(KINDS)} file; convert it to one.")
        if is_pointer(path):
            raise UserError(
                f"data: {path} is only Git LFS's note of a file; `git lfs pull` gets the file."
            )
        named = reading.lines(path)
        if named and kind not in (".jsonl", ".csv", ".tsv"):
            raise UserError(f"data.leave_out: {path} has no rows by line; take the row out of it.")
        for row in _READERS[kind](path, _as_utf8(path, file, kind, reading.encoding), named):
            any_row = True
            yield row
        if named:
            line = min(named)
            raise UserError(f"data.leave_out: {path} has no line {line}; take it out of the list.")
    if not any_row:
        with _opened(path) as file:
            blank = not any(line.strip(codecs.BOM_UTF8 + b" \t\r\n") for line in file)
        raise UserError(f"data: {path} {'is empty' if blank else 'holds no rows'}.")


def _unpacked(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() == ".gz" else path


@contextmanager
def _opened(path: Path, unpack: bool = True) -> Iterator[BinaryIO]:
    """The file's bytes; what the system or gzip say while they are read becomes one sentence."""
    try:
        with path.open("rb") as file:
            packed = unpack and path != _unpacked(path)
            yield gzip.GzipFile(fileobj=file) if packed else file
    except (OSError, EOFError, zlib.error) as error:  # the latter two, and BadGzipFile, of a .gz
        problem = getattr(error, "strerror", None) or _reason(error)
        hint = "check that it is there, whole, and yours to read"
        raise UserError(f"data: {path} cannot be read: {problem}; {hint}.") from error


def _reason(error: Exception) -> str:
    """The first line of what the error says, without its full stop."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _bad_line(path: Path, number: int, problem: str) -> UserError:
    return UserError(f"data: {path} line {number} {problem}.")


def _or_leave_out(path: Path, number: int) -> str:
    """How a line of a file of lines is left out by name."""
    return f", or leave it out: data.leave_out='[{path.name}:{number}]'"


def _decode(path: Path, raw: bytes, number: int = 1) -> str:
    """The text of ``raw``, whose first line is line ``number`` of the file."""
    raw = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        number += raw.count(b"\n", 0, error.start)
        problem = "is not UTF-8; save the file as UTF-8, or say its encoding with data.encoding"
        raise _bad_line(path, number, problem) from None
    if "\0" in text:  # UTF-16 without a mark, or a file that a crash cut short
        number += text.count("\n", 0, text.index("\0"))
        raise _bad_line(path, number, "holds a NUL byte; save the file anew as UTF-8 text")
    return text


def _as_utf8(path: Path, file: BinaryIO, kind: str, encoding: str | None) -> BinaryIO:
    """The file's text as UTF-8: of UTF-16 and UTF-32 with a mark, and of ``encoding``, where one is
    named and the text is not UTF-8."""
    if kind == ".parquet":
        return file
    start = file.read(4)
    file.seek(0)
    marked = "utf-32" if start in UTF_32 else "utf-16" if start.startswith(UTF_16) else None
    if marked is None and encoding is None:
        return file
    raw = _whole(path, file)
    if marked is None and _is_utf8(raw):
        return io.BytesIO(raw)
    try:
        return io.BytesIO(raw.decode(marked or encoding).encode())
    except UnicodeError as error:
        place = raw.count(b"\n", 0, getattr(error, "start", 0)) + 1
        problem = f"is not {marked or encoding}; say its encoding with data.encoding"
        raise _bad_line(path, place, problem) from None
    except LookupError:
        raise UserError(
            f"data.encoding: there is no {encoding}; write utf-8, cp1252, latin-1, shift_jis or"
            " another of Python's."
        ) from None


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _lines(path: Path, file: BinaryIO) -> Iterator[tuple[int, str]]:
    """Number and text of each line from the first that is not blank.

    Bytes end at b"\\n" alone; a str would end at U+2028 too.
    """
    lines = ((number, _decode(path, raw, number)) for number, raw in _raw_lines(path, file))
    return dropwhile(lambda line: not line[1].strip(), lines)


def _raw_lines(path: Path, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Lines of bounded length: a packed file of some kilobytes may unpack to one without end."""
    number = 0
    while raw := file.readline(MAX_LINE + 1):
        number += 1
        if len(raw) > MAX_LINE:
            raise _bad_line(
                path,
                number,
                f"is over {MAX_LINE >> 20} MiB; that is no row of data, put it right or remove it",
            )
        yield number, raw


def _whole(path: Path, file: BinaryIO) -> bytes:
    """All bytes of a file that is read at once."""
    if not isinstance(file, gzip.GzipFile):
        return file.read()
    raw = file.read(MAX_UNPACKED + 1)
    if len(raw) > MAX_UNPACKED:
        raise UserError(
            f"data: {path} unpacks to over {MAX_UNPACKED >> 20:,} MiB, which would be held at once;"
            " unpack it, or save it as .jsonl.gz, a row a line."
        )
    return raw


def _left_out(path: Path, number: int, named: set[int]) -> LeftOut:
    """The row in place of a line; what is then left of ``named`` was not met."""
    named.remove(number)
    return LeftOut(f"{path.name}:{number}")


def _jsonl_rows(path: Path, file: BinaryIO, named: set[int]) -> Iterator[DataRow]:
    for number, line in _lines(path, file):
        if number in named:
            yield _left_out(path, number, named)
            continue
        line = line.rstrip()
        yield from _objects(path, line, _in_sequence(line, _skip(line, 0)), number)


def _json_rows(path: Path, file: BinaryIO, named: set[int]) -> Iterator[DataRow]:
    text = _decode(path, _whole(path, file)).rstrip()
    yield from _objects(path, text, _json_values(text))


def _objects(path: Path, text: str, values: Values, line: int | None = None) -> Iterator[DataRow]:
    """The ``values`` found in ``text``, which is the file or one line of it."""
    number = line or 1
    try:
        for element, (row, at) in enumerate(values, 1):
            if not isinstance(row, dict):
                number += text.count("\n", 0, at)
                problem = "is no JSON object" + ("" if line else f" (element {element})")
                out = _or_leave_out(path, number) if line else ""
                raise _bad_line(path, number, f"{problem}; put it right or remove it{out}")
            yield row
    except json.JSONDecodeError as error:
        number += error.lineno - 1
        problem = f"is no valid JSON: {error.msg.rstrip(': ')} (column {error.colno})"
        out = _or_leave_out(path, number) if line else ""
        problem = f"{problem}; put that line right or remove it{out}"
        raise _bad_line(path, number, problem) from None


def _json_values(text: str) -> Values:
    """The values of a list, of one list in an object, or one after the other; decoded singly.

    Raises JSONDecodeError, as all below.
    """
    at = _skip(text, 0)
    start = _wrapped_list(text, at) if text[at : at + 1] == "{" else at
    if text[start : start + 1] != "[":
        yield from _in_sequence(text, at)
        return
    end = yield from _in_list(text, start)
    if start == at and end < len(text):
        raise json.JSONDecodeError("More text behind the list", text, end)


def _in_sequence(text: str, at: int) -> Values:
    while at < len(text):
        value, end = _value(text, at)
        yield value, at
        at = end


def _in_list(text: str, at: int) -> Values:
    """Returns where the text goes on behind the list."""
    at = _skip(text, at + 1)
    more = text[at : at + 1] != "]"
    while more:
        value, end = _value(text, at)
        yield value, at
        more = text[end : end + 1] == ","
        at = _skip(text, end + 1) if more else end
    if text[at : at + 1] != "]":
        raise json.JSONDecodeError("Expecting a comma or the end of the list", text, at)
    return _skip(text, at + 1)


def _wrapped_list(text: str, at: int) -> int:
    """Where the one list of objects opens in the object at ``at``, or ``at`` if that is a row.

    An object with text behind it is a row, and so is one with two such lists, as chosen and
    rejected messages are. A list without elements counts only where there is no other.
    """
    _, end = _value(text, at, SKIM)
    starts: tuple[list[int], list[int]] = ([], [])  # of empty lists, of lists of objects
    name = _skip(text, at + 1)
    while (
        end == len(text) and text[name : name + 1] == '"'
    ):  # valid: a name, a colon, a value, a comma
        start = _skip(text, _value(text, name)[1] + 1)
        value, behind = _value(text, start, SKIM)
        if isinstance(value, list) and value[:1] in ([], [OBJECT]):
            starts[bool(value)].append(start)
        name = _skip(text, behind + 1)
    lists = starts[True] or starts[False]
    return lists[0] if len(lists) == 1 else at


def _value(text: str, at: int, decoder: json.JSONDecoder = DECODE) -> tuple[Any, int]:
    """The value at ``at`` and where the text goes on behind it."""
    try:
        value, end = decoder.raw_decode(text, at)
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError) as error:  # too many digits, or nested too deep
        raise json.JSONDecodeError(_reason(error), text, at) from None
    return value, _skip(text, end)


def _skip(text: str, at: int) -> int:
    return JSON_SPACE.match(text, at).end()


def _csv_rows(path: Path, file: BinaryIO, named: set[int]) -> Iterator[DataRow]:
    # The limit is the whole process's, so it is raised and never lowered.
    csv.field_size_limit(max(csv.field_size_limit(), CELL_LIMIT))
    lines = _lines(path, file)
    number, line = next(lines, (1, ""))
    said = re.fullmatch(r"sep=(.)", line.strip())  # what Excel writes where a comma is a decimal's
    if said:
        number, line = next(lines, (2, ""))
    delimiter = said[1] if said else _delimiter(line, "\t" if file_kind(path) == ".tsv" else ",")
    at, gone = number, []  # the line in hand, and what was left out on the way to it

    def rows() -> Iterator[str]:
        nonlocal at
        yield line
        for at, text in lines:
            if at in named:
                gone.append(_left_out(path, at, named))
            else:
                yield text

    reader = csv.reader(rows(), delimiter=delimiter, strict=True)
    header: list[str] = []
    try:
        for cells in reader:  # which began on line ``number``
            number += len(gone)
            yield from gone
            gone.clear()
            if not header:
                header = _checked_header(path, number, cells)
            elif len(cells) > len(header):
                problem = f"has {len(cells)} cells and the header {len(header)}"
                out = _or_leave_out(path, number)
                raise _bad_line(
                    path, number, f"{problem}; quote cells that hold the delimiter{out}"
                )
            elif cells:
                yield dict(zip_longest(header, cells))
            number = at + 1
        yield from gone
    except csv.Error as error:
        number += len(gone)
        reason = _reason(error).partition(" - ")[0]
        reason = {"unexpected end of data": "a quote is never closed"}.get(reason, reason)
        problem = f"begins a row that is no valid CSV: {reason}"
        out = _or_leave_out(path, number)
        raise _bad_line(
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
    for name in names:
        if not name.strip() or names.count(name) > 1:
            problem = f"has the column name {name!r}" + (" twice" if name.strip() else "")
            raise _bad_line(path, number, f"{problem}; name each column in the header")
    return names


def _parquet_rows(path: Path, file: BinaryIO, named: set[int]) -> Iterator[DataRow]:
    import pyarrow
    from pyarrow import parquet

    if isinstance(file, gzip.GzipFile):  # the footer is read first, and gzip cannot jump to it
        file = io.BytesIO(_whole(path, file))
    if not file.seek(0, io.SEEK_END):
        return
    try:
        table = parquet.ParquetFile(file)
        for group in range(table.num_row_groups):  # asked for all at once, all are kept
            for batch in table.iter_batches(PARQUET_ROWS, row_groups=[group]):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, ArithmeticError) as error:
        problem = f"is no readable Parquet file: {_reason(error)}; get it or write it anew"
        raise UserError(f"data: {path} {problem}.") from error


_READERS = {
    ".jsonl": _jsonl_rows,
    ".json": _json_rows,
    ".csv": _csv_rows,
    ".tsv": _csv_rows,
    ".parquet": _parquet_rows,
}
