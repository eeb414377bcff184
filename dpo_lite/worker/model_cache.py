"""What the worker keeps between two tasks: at most one model, and with it the device."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dpo_lite.runs.device_lock import device_lock, holder, waiters

OWNER = "the web page"


class ModelCache:
    """``tell`` is called with {"loaded": name or None, "holds_device": bool} at every change."""

    def __init__(self, runs: Path, tell: Callable[[dict[str, Any]], None]):
        self.runs = runs
        self.tell = tell
        self.name: str | None = None
        self.model: Any = None
        self._lock = contextlib.ExitStack()
        self._holds_device = False
        self._was_there = False

    def take_device(self, say: Callable[[str], None]) -> None:
        """Wait for the device and hold it until ``free``; at once where it is held already."""
        if not self._holds_device:
            self._lock.enter_context(device_lock(OWNER, wait=True, say=say))
            self._holds_device = self._was_there = True
            self._tell()

    def keep(self, name: str, model: Any) -> None:
        self.name, self.model = name, model
        self._tell()

    @contextlib.contextmanager
    def only(self, say: Callable[[str], None]) -> Iterator[None]:
        """The device with nothing loaded, for a task that loads a model of its own."""
        self.take_device(say)
        self.drop()
        try:
            yield
        finally:
            self.free()

    def drop(self) -> None:
        """Forget the model; the device stays ours."""
        self.name = self.model = None
        gc.collect()
        if "torch" in sys.modules:
            sys.modules["torch"].cuda.empty_cache()

    def free(self) -> None:
        """Forget the model and give the device back."""
        self.drop()
        if self._holds_device:
            self._lock.close()
            self._holds_device = False
        self._tell()

    def is_wanted(self) -> bool:
        """Whether somebody waits for the device that is held here, or has to share it.

        What CUDA and its libraries take for a process, half a gigabyte of a card and as much of the
        machine, they give back with its end alone, also where nothing is loaded any more.
        """
        if self._holds_device:
            return bool(waiters())
        return (self._was_there or _on_card()) and bool(waiters() or holder())

    def _tell(self) -> None:
        self.tell({"loaded": self.name, "holds_device": self._holds_device})


def _on_card() -> bool:
    """Whether this process has taken memory of a card, as asking for what is free does."""
    return "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized()
