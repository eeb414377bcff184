"""The text of one data file: opened, unpacked, decoded, line by line, and never more than fits.

What the system, gzip or a codec say becomes one sentence that names the file and the line.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import dropwhile
from pathlib import Path
from typing import BinaryIO

from dpo_lite.errors import UserError

# Some kilobytes of gzip unpack to lines without end: what is held at once has a bound.
MAX_LINE = 1 << 28
MAX_UNPACKED = 1 << 31  # of what must be unpacked whole
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # begin with those of UTF-32 alike
UTF_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


def unpacked(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() == ".gz" else path


@contextmanager
def opened(path: Path, unpack: bool = True) -> Iterator[BinaryIO]:
    """The file's bytes; what the system or gzip say while they are read becomes one sentence."""
    try:
        with path.open("rb") as file:
            packed = unpack and path != unpacked(path)
            yield gzip.GzipFile(fileobj=file) if packed else file
    except (OSError, EOFError, zlib.error) as error:  # the latter two, and BadGzipFile, of a .gz
        problem = getattr(error, "strerror", None) or reason(error)
        hint = "check that it is there, whole, and yours to read"
        raise UserError(f"data: {path} cannot be read: {problem}; {hint}.") from error


def reason(error: Exception) -> str:
    """The first line of what the error says, without its full stop."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def bad_line(path: Path, number: int, problem: str) -> UserError:
    return UserError(f"data: {path} line {number} {problem}.")


def or_leave_out(path: Path, number: int) -> str:
    """How a line of a file of lines is left out by name."""
    return f", or leave it out: data.leave_out='[{path.name}:{number}]'"


class LeftOut(dict):
    """The empty row in place of a line that was left out by name."""

    def __init__(self, line: str):
        super().__init__()
        self.line = line


def left_out(path: Path, number: int, named: set[int]) -> LeftOut:
    """The row in place of a line; what is then left of ``named`` was not met."""
    named.remove(number)
    return LeftOut(f"{path.name}:{number}")


def decode(path: Path, raw: bytes, number: int = 1) -> str:
    """The text of ``raw``, whose first line is line ``number`` of the file."""
    raw = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        number += raw.count(b"\n", 0, error.start)
        problem = "is not UTF-8; save the file as UTF-8, or say its encoding with data.encoding"
        raise bad_line(path, number, problem) from None
    if "\0" in text:  # UTF-16 without a mark, or a file that a crash cut short
        number += text.count("\n", 0, text.index("\0"))
        raise bad_line(path, number, "holds a NUL byte; save the file anew as UTF-8 text")
    return text


def as_utf8(path: Path, file: BinaryIO, kind: str, encoding: str | None) -> BinaryIO:
    """The file's text as UTF-8: of UTF-16 and UTF-32 with a mark, and of ``encoding``, where one is
    named and the text is not UTF-8."""
    if kind in (".parquet", ".arrow"):
        return file
    start = file.read(4)
    file.seek(0)
    marked = "utf-32" if start in UTF_32 else "utf-16" if start.startswith(UTF_16) else None
    if marked is None and encoding is None:
        return file
    raw = whole(path, file)
    if marked is None and _is_utf8(raw):
        return io.BytesIO(raw)
    try:
        return io.BytesIO(raw.decode(marked or encoding).encode())
    except UnicodeError as error:
        place = raw.count(b"\n", 0, getattr(error, "start", 0)) + 1
        problem = f"is not {marked or encoding}; say its encoding with data.encoding"
        raise bad_line(path, place, problem) from None
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


def lines(path: Path, file: BinaryIO) -> Iterator[tuple[int, str]]:
    """Number and text of each line from the first that is not blank.

    Bytes end at b"\\n" alone; a str would end at U+2028 too.
    """
    found = ((number, decode(path, raw, number)) for number, raw in _raw_lines(path, file))
    return dropwhile(lambda line: not line[1].strip(), found)


def _raw_lines(path: Path, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Lines of bounded length: a packed file of some kilobytes may unpack to one without end."""
    number = 0
    while raw := file.readline(MAX_LINE + 1):
        number += 1
        if len(raw) > MAX_LINE:
            raise bad_line(
                path,
                number,
                f"is over {MAX_LINE >> 20} MiB; that is no row of data, put it right or remove it",
            )
        yield number, raw


def whole(path: Path, file: BinaryIO) -> bytes:
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
