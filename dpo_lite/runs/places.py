"""Where the kept lines of a long file begin, written beside it: a first look reads them alone.

Anybody who has read much of such a file writes them down: the run itself whenever it saves, and
whoever looks. They are believed where the file still begins and goes on as it did, and every line
is read again where it stands; where anything else is found they are as good as missing, and the
whole file is read.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from dpo_lite.files import write_json

EDGE = 4096  # bytes at either end of what was read by which the file is known again
LINE = 1024  # bytes that most lines are within
LONGEST = 2**20


@dataclass(frozen=True)
class Places:
    """``read``: so many bytes of the file were looked through, which have these ``edges``;
    ``lost`` of their lines were damaged. ``cells`` and places of updates and of others."""

    read: int
    edges: str
    lost: int
    cells: list[int]
    updates: list[int]
    others: list[int]
    newest: list[int]


def file_of(path: Path) -> Path:
    return path.with_name(f"{path.stem}.places.json")


def edges(stream: BinaryIO, read: int) -> str:
    """A hash of how the first ``read`` bytes of a file begin and end."""
    digest = hashlib.sha256(str(read).encode())
    for place in (0, max(read - EDGE, 0)):
        stream.seek(place)
        digest.update(stream.read(min(EDGE, read)))
    return digest.hexdigest()


def noted(path: Path, size: int) -> Places | None:
    """What was written down of a file; None where it is missing, damaged or of another one."""
    try:
        places = Places(**json.loads(file_of(path).read_bytes()))
        lists = (places.cells, places.updates, places.others, places.newest)
        numbers = [places.read, places.lost, *(number for own in lists for number in own)]
        if any(type(n) is not int or n < 0 for n in numbers) or not all(places.cells):
            return None
        if len(places.cells) != 2 or len(places.newest) > 1 or not 0 < places.read <= size:
            return None
        for own in lists[1:]:
            if any(b <= a for a, b in zip([-1, *own], [*own, places.read], strict=False)):
                return None
        with open(path, "rb", buffering=0) as stream:
            return places if edges(stream, places.read) == places.edges else None
    except (TypeError, ValueError, RecursionError, OSError):
        return None


def lines_at(path: Path, places: list[int]) -> list[bytes] | None:
    """The lines that begin there, without their ends; None where one of them does not."""
    lines = []
    with open(path, "rb", buffering=0) as stream:
        for place in places:
            stream.seek(max(place - 1, 0))
            text = stream.read(LINE)
            if b"\n" not in text[1:]:
                text += stream.read(LONGEST)
            if place:
                before, text = text[:1], text[1:]
                if before != b"\n":
                    return None
            line, end, _ = text.partition(b"\n")
            if not end:
                return None
            lines.append(line)
    return lines


def write_down(path: Path, places: Places) -> None:
    """Beside the file, where that can be: a reader may have no right to."""
    with suppress(OSError):
        write_json(file_of(path), asdict(places))


def forget(path: Path) -> None:
    """Of a file that is written anew."""
    file_of(path).unlink(missing_ok=True)
