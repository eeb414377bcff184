"""Files that grow by lines, read as often as one likes and each line once."""

from __future__ import annotations

import stat
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from dpo_lite.runs.lines import parsed


class Tails:
    """Lines of growing .jsonl files: each is read once, and only when it is complete.

    Damaged ones are passed over and counted.
    """

    def __init__(self, most: int = 64):
        self.most = most
        self._files: OrderedDict[Path, tuple[int, int, list[dict[str, Any]], int]] = OrderedDict()
        self._guard = threading.Lock()

    def read(self, path: Path) -> list[dict[str, Any]]:
        """All complete lines so far. A file that was replaced or cut is read anew."""
        with self._guard:
            try:
                facts = path.stat()
            except FileNotFoundError:
                facts = None
            if facts is None or not stat.S_ISREG(facts.st_mode):
                self._files.pop(path, None)
                return []
            number, place, records, lost = self._files.get(path, (facts.st_ino, 0, [], 0))
            if number != facts.st_ino or facts.st_size < place:
                place, records, lost = 0, [], 0
            if facts.st_size > place:
                with open(path, "rb") as stream:
                    stream.seek(place)
                    text = stream.read()
                whole = text[: text.rfind(b"\n") + 1]
                new, damaged = parsed(whole, path.name)
                records, lost = records + new, lost + damaged
                place += len(whole)
            self._files[path] = (facts.st_ino, place, records, lost)
            self._files.move_to_end(path)
            while len(self._files) > self.most:
                self._files.popitem(last=False)
            return records

    def lost(self, path: Path) -> int:
        """How many lines of it were damaged when it was read."""
        with self._guard:
            return self._files[path][3] if path in self._files else 0
