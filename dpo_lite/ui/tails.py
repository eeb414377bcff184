"""Files that grow by lines, read as often as one likes and each line once."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any


class Tails:
    """Lines of growing .jsonl files: each is read once, and only when it is complete."""

    def __init__(self, most: int = 64):
        self.most = most
        self._files: OrderedDict[Path, tuple[int, int, list[dict[str, Any]]]] = OrderedDict()
        self._guard = threading.Lock()

    def read(self, path: Path) -> list[dict[str, Any]]:
        """All complete lines so far. A file that was replaced or cut is read anew."""
        with self._guard:
            try:
                facts = path.stat()
            except FileNotFoundError:
                self._files.pop(path, None)
                return []
            number, place, records = self._files.get(path, (facts.st_ino, 0, []))
            if number != facts.st_ino or facts.st_size < place:
                place, records = 0, []
            if facts.st_size > place:
                with open(path, "rb") as stream:
                    stream.seek(place)
                    text = stream.read()
                whole = text[: text.rfind(b"\n") + 1]
                records = records + [json.loads(line) for line in whole.splitlines()]
                place += len(whole)
            self._files[path] = (facts.st_ino, place, records)
            self._files.move_to_end(path)
            while len(self._files) > self.most:
                self._files.popitem(last=False)
            return records
