"""Files that grow by lines, one JSON object each: what a kill or a power cut left is passed over.

What is half-written is at the end of such a file; it is cut off when the run goes on, and never
grows together with the next line. Zeros are what a file system leaves of what it had not written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from dpo_lite.errors import UserError

Row = TypeVar("Row", bound=Mapping[str, Any])
MOST = 2**63  # an integer in metrics.jsonl
METRICS, SAMPLES = "metrics.jsonl", "samples.jsonl"
# What every line of a file has, for its readers to rely on, and what some have.
SHAPES: dict[str, dict[str, type]] = {
    METRICS: {"step": int},
    SAMPLES: {"when": str, "prompt": str, "answer": str},
}
OF_SOME: dict[str, dict[str, type]] = {SAMPLES: {"step": int, "set": str, "verdict": str}}


def parsed(text: bytes, file: str) -> tuple[list[dict[str, Any]], int]:
    """The sound ones among the complete lines, and how many others there are.

    ``file``: its name. A last line without its end is neither; only a line break ends a line.
    """
    found = [sound_record(line, file) for line in text.split(b"\n")[:-1] if line.strip()]
    sound = [record for record in found if record is not None]
    return sound, len(found) - len(sound)


def sound_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The sound ones among the complete lines of a file, one by one."""
    with open(path, "rb") as stream:
        for line in stream:
            if line.endswith(b"\n") and (record := sound_record(line[:-1], path.name)) is not None:
                yield record


def updates(records: Iterable[Row]) -> list[Row]:
    """What was logged of each update, in order; of one that was repeated the last counts."""
    by_step = {record["step"]: record for record in records if record.get("loss") is not None}
    return [by_step[step] for step in sorted(by_step)]


def append_line(path: Path, line: str) -> None:
    """Add a line, apart from one that was cut short."""
    with open(path, "a+b") as stream:
        end = stream.seek(0, os.SEEK_END)
        stream.seek(max(end - 1, 0))
        apart = b"\n" if stream.read(1) not in (b"", b"\n") else b""
        stream.write(apart + line.encode() + b"\n")


def mend_lines(path: Path) -> str | None:
    """Cut off what a kill left at the end of a file of JSON lines; returns that in words.

    A last line that only lacks its end gets it.
    """
    text = _content(path)
    kept = text.rstrip(b"\0")
    whole, _, last = kept.rpartition(b"\n")
    whole += b"\n" * (b"\n" in kept)
    if last and sound_record(last, path.name) is not None:
        whole = kept + b"\n"
    if whole == text:
        return None
    _put(path, whole)
    if whole.startswith(text):
        return None
    return f"{path.name}: its last line was half-written and is cut off"


def mend_text(path: Path) -> None:
    """The same of a file for people, whose half lines stay."""
    text = _content(path)
    kept = text.rstrip(b"\0")
    kept += b"\n" * (not kept.endswith(b"\n"))
    if text and kept != text:
        _put(path, kept)


def lost_words(file: str, count: int) -> str:
    """That some lines could not be read, for a report."""
    if count == 1:
        return f"A line of {file} is damaged and left out."
    return f"{count:,} lines of {file} are damaged and left out."


def sound_record(line: bytes, file: str) -> dict[str, Any] | None:
    """What a line says; None where it is damaged. ``file``: the name of what it stands in."""
    try:
        record = json.loads(line.strip(b"\0"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    if file == METRICS and not all(map(_is_number, record.values())):
        return None
    some = {key: kind for key, kind in OF_SOME.get(file, {}).items() if key in record}
    shape = SHAPES.get(file, {}) | some
    sound = all(isinstance(record.get(key), kind) for key, kind in shape.items())
    return record if sound else None


def _is_number(value: Any) -> bool:
    """Whether it can be drawn, or is nothing: NaN can be told, an integer over all floats not."""
    return (
        value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < MOST)
    )


def _content(path: Path) -> bytes:
    if path.is_dir():
        raise UserError(f"{path} is a folder where the run has a file; move it away.")
    return path.read_bytes() if path.is_file() else b""


def _put(path: Path, content: bytes) -> None:
    """In place, as another process may hold the file open to append to it."""
    with open(path, "r+b") as stream:
        stream.truncate(len(content))
        stream.seek(0)
        stream.write(content)
