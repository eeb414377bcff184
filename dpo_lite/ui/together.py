"""Many browsers ask the same at once, and it is looked up once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Found = TypeVar("Found")


class Together(Generic[Asked, Found]):
    """A function of which only one call works at a time. A call that had to wait takes what
    another one found, where that one began after it: nobody is told what was before he asked."""

    def __init__(self, work: Callable[[Asked], Found]):
        self._work, self._turn = work, threading.Lock()
        self._last: tuple[Asked, float, Found] | None = None

    def __call__(self, asked: Asked, age: float = 0.0) -> Found:
        """``age``: by how many seconds an answer may be older than the question."""
        came = time.monotonic() - age
        with self._turn:
            if self._last and self._last[0] == asked and self._last[1] > came:
                return self._last[2]
            began = time.monotonic()
            found = self._work(asked)
            self._last = (asked, began, found)
            return found
