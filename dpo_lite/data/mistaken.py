"""A file that is not what its name says, or is of a kind that is not read: what to do about it."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import BinaryIO

from dpo_lite.data.file_text import unpacked
from dpo_lite.errors import UserError

LOOKED_AT = 4096  # bytes
JSON_LIST, JSON_OBJECT = re.compile(rb"\s*\[\s*\{"), re.compile(rb'\s*\{\s*"')
OVER_LINES = re.compile(rb"\s*\{[ \t]*\r?\n")  # an object that is indented
WEB_PAGE = re.compile(rb"\s*<(!doctype|html|head)\b", re.IGNORECASE)
CONTENT = {  # by its first bytes, under which ending it is read
    b"PAR1": (".parquet", "a Parquet file"),
    b"ARROW1": (".arrow", "an Arrow file"),
    b"\x1f\x8b": (".gz", "packed with gzip"),
}
NOT_READ = {  # by what the name ends in, or what the content begins with
    (".xlsx", ".xls", ".ods", ".numbers"): "save its sheet as CSV (UTF-8)",
    (".zip", ".zst", ".bz2", ".xz", ".tar", ".tgz", ".7z", ".rar"): "unpack it",
    (".pkl", ".pickle", ".pt", ".npy", ".npz"): (
        "reading a pickle can run any code, so write it as JSON lines"
    ),
    ("", ".txt", ".text", ".dat"): "name it by what it holds, such as {stem}.jsonl",
}


def what_to_do(path: Path) -> str:
    """With a file whose name says that it is none of those that are read."""
    bare = unpacked(path)
    for ends, hint in NOT_READ.items():
        if bare.suffix.lower() in ends:
            return hint.format(stem=bare.stem)
    return "convert it to one"


def refuse_mistaken(path: Path, file: BinaryIO, kind: str) -> None:
    """Raises UserError where the content, unpacked, is another kind's than ``kind``."""
    start = file.read(LOOKED_AT).removeprefix(codecs.BOM_UTF8)
    file.seek(0)
    for mark, (end, words) in CONTENT.items():
        if start.startswith(mark) and end != kind:
            name = f"{path.name}.gz" if end == ".gz" else _named(path, end)
            raise UserError(f"data: {path} is {words} by its content; name it {name}.")
    if start.startswith((b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ")):
        raise UserError(
            f"data: {path} is an archive or a sheet by its content; unpack it, or save the sheet"
            " as CSV (UTF-8)."
        )
    if kind in (".parquet", ".arrow"):
        return
    if WEB_PAGE.match(start):
        raise UserError(
            f"data: {path} is a web page and no data; download the file itself (on the Hub its"
            " address has `resolve` where the page's has `blob`)."
        )
    fault = _another_text(start, kind)
    if fault:
        words, end = fault
        raise UserError(f"data: {path} {words}; name it {_named(path, end)}.")


def _named(path: Path, end: str) -> str:
    """The file's name with another ending, and packed if it is."""
    bare = unpacked(path)
    return f"{bare.stem}{end}{path.suffix if bare != path else ''}"


def _another_text(start: bytes, kind: str) -> tuple[str, str] | None:
    """What the text is instead, and under which ending it is read."""
    if kind == ".jsonl" and JSON_LIST.match(start):
        return "holds one JSON list and not a row a line", ".json"
    if kind == ".jsonl" and OVER_LINES.match(start):
        return "holds rows over several lines each and not a row a line", ".json"
    if kind in (".csv", ".tsv") and JSON_LIST.match(start):
        return "holds a JSON list and no table", ".json"
    if kind in (".csv", ".tsv") and JSON_OBJECT.match(start):
        return "holds JSON and no table", ".jsonl"
    return None
