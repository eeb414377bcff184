"""Files that grow by lines, read as often as one likes, each line once, in bounded memory.

All of a short file is kept. Of a long one that is cut into cells of equal size the first line of
each, however it grew: the cells are doubled whenever there are more than ``MOST``. Updates have
one such grid, and what is measured seldom, between them, has another, so that no held-out point
is lost among a million updates. Where the lines stand that were kept of a very long file is
written beside it (dpo_lite.runs.places), so that the next one to open it need not read it all.
"""

from __future__ import annotations

import os
import re
import stat
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

from dpo_lite.runs import places
from dpo_lite.runs.lines import sound_record

Record = dict[str, Any]
MOST = 3_000  # lines of a kind: a panel draws 240 points, and a tenth says how it ends
ALL = 4 * 2**20  # bytes of which every line is looked at
NOTED = 4 * ALL  # bytes after which it is written down anew where the kept lines stand
CHUNK = 2**18
UPDATE = b'"loss":'
# Where a line begins that does not look like an update, as the trainer writes it.
OTHER = re.compile(rb'\n(?!\{"step": \d+, "loss":)')


class Grid:
    """Lines by their place in the file, the first one of each cell."""

    def __init__(self):
        self.cell = 1
        self.kept: list[tuple[int, Record]] = []

    def due(self) -> int:
        """The place from which on the next line is kept."""
        return (self.kept[-1][0] // self.cell + 1) * self.cell if self.kept else 0

    def keep(self, place: int, record: Record) -> None:
        self.kept.append((place, record))
        if len(self.kept) > MOST:
            self.widen(2 * self.cell)

    def widen(self, cell: int) -> None:
        self.cell, kept = cell, self.kept
        self.kept = kept[:1] + [
            kept[i] for i in range(1, len(kept)) if kept[i][0] // cell > kept[i - 1][0] // cell
        ]


class Tail:
    """One file. ``records``: what is kept of its complete lines, in their order, and the newest
    update; ``lost``: how many of those that were looked at are damaged."""

    def __init__(self, path: Path):
        self.path = path
        self._guard = threading.Lock()
        self._forget(0)

    def _forget(self, number: int) -> None:
        self._number, self._place = number, 0
        self._updates, self._others = Grid(), Grid()
        self._newest: list[tuple[int, Record]] = []
        self.records: list[Record] = []
        self.lost = 0
        self._noted = 0

    def read(self) -> list[Record]:
        """All that is new. A file that was replaced or cut is read anew."""
        with self._guard:
            try:
                facts = self.path.stat()
            except FileNotFoundError:
                facts = None
            if facts is None or not stat.S_ISREG(facts.st_mode):
                self._forget(0)
                return []
            if self._number != facts.st_ino or facts.st_size < self._place:
                self._forget(facts.st_ino)
            if facts.st_size > self._place:
                self._read_on(facts.st_size)
            return self.records

    def _read_on(self, size: int) -> None:
        if not self._place and size > NOTED:
            self._recall(size)
        if size - self._place > ALL:
            cell = self._updates.cell
            while size / cell > MOST:
                cell *= 2
            self._updates.widen(cell)
        with open(self.path, "rb") as stream:
            stream.seek(self._place)
            while text := _whole_lines(stream, size - self._place):
                self._take(text)
                self._place += len(text)
            if self._place - self._noted > NOTED:
                self._note(stream)
        both = {**dict(self._updates.kept), **dict(self._others.kept), **dict(self._newest)}
        self.records = [both[place] for place in sorted(both)]

    def _note(self, stream: BinaryIO) -> None:
        """Write down where the kept lines stand."""
        self._noted = self._place
        kept = (self._updates.kept, self._others.kept, self._newest)
        found = places.Places(
            self._place,
            places.edges(stream, self._place),
            self.lost,
            [self._updates.cell, self._others.cell],
            *([place for place, _ in own] for own in kept),
        )
        places.write_down(self.path, found)

    def _recall(self, size: int) -> None:
        """Take up what was written down, if it is of this file; each line is read again."""
        found = places.noted(self.path, size)
        if found is None:
            return
        kept: list[list[tuple[int, Record]]] = []
        for own, of_updates in ((found.updates, True), (found.others, False), (found.newest, True)):
            lines = places.lines_at(self.path, own)
            if lines is None or any((UPDATE in line) != of_updates for line in lines):
                return
            records = [sound_record(line, self.path.name) for line in lines]
            sound = [record for record in records if record is not None]
            if len(sound) < len(records):
                return
            kept.append(list(zip(own, sound, strict=True)))
        self._updates.kept, self._others.kept, self._newest = kept
        self._updates.cell, self._others.cell = found.cells
        self._place = self._noted = found.read
        self.lost = found.lost

    def _take(self, text: bytes) -> None:
        """Keep of some whole lines those that begin a cell."""
        start, at = self._place, max(self._updates.due() - self._place, 0)
        while (at := _line_from(text, at)) < len(text):
            line = text[at : text.index(b"\n", at)]
            after = at + len(line) + 1
            if UPDATE in line and (record := self._sound(line)) is not None:
                self._updates.keep(start + at, record)
                after = max(self._updates.due() - start, after)
            at = after
        for match in OTHER.finditer(b"\n" + text, 0, len(text)):
            at = match.start()
            line = text[at : text.index(b"\n", at)]
            due = start + at >= self._others.due()
            if due and line.strip() and UPDATE not in line:
                record = self._sound(line)
                if record is not None:
                    self._others.keep(start + at, record)
        self._keep_newest(text)

    def _keep_newest(self, text: bytes) -> None:
        at = text.rfind(b"\n", 0, max(text.rfind(UPDATE), 0)) + 1
        line = text[at : text.index(b"\n", at)]
        record = sound_record(line, self.path.name) if UPDATE in line else None
        if record is not None:
            self._newest = [(self._place + at, record)]

    def _sound(self, line: bytes) -> Record | None:
        record = sound_record(line, self.path.name)
        self.lost += record is None
        return record


class Tails:
    """The files that were read last, so that none is read again."""

    def __init__(self, most: int = 64):
        self.most = most
        self._files: OrderedDict[Path, Tail] = OrderedDict()
        self._guard = threading.Lock()

    def read(self, path: Path) -> list[Record]:
        with self._guard:
            tail = self._files.setdefault(path, Tail(path))
            self._files.move_to_end(path)
            while len(self._files) > self.most:
                self._files.popitem(last=False)
        return tail.read()

    def lost(self, path: Path) -> int:
        """How many lines of it were damaged when it was read."""
        with self._guard:
            return self._files[path].lost if path in self._files else 0


def _whole_lines(stream: BinaryIO, left: int) -> bytes:
    """The next lines up to their last end; empty where no line is complete."""
    text = stream.read(min(CHUNK, left))
    while text and b"\n" not in text[-CHUNK:] and len(text) < left:
        text += stream.read(min(CHUNK, left - len(text)))
    whole = text[: text.rfind(b"\n") + 1]
    stream.seek(len(whole) - len(text), os.SEEK_CUR)
    return whole


def _line_from(text: bytes, at: int) -> int:
    """Where the first line begins that begins at ``at`` or after it."""
    if at == 0:
        return 0
    return (text.find(b"\n", at - 1) + 1) or len(text)
