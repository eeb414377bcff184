"""What the worker keeps between two tasks: at most one model, and with it the device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


class Held:
    """``tell`` is called with {"loaded": name or None, "holds_device": bool} at every change."""

    def __init__(self, runs: Path, tell: Callable[[dict[str, Any]], None]):
        self.runs = runs
        self.tell = tell
        self.name: str | None = None
        self.model: Any = None

    def keep(self, name: str, model: Any) -> None:
        self.name, self.model = name, model
        self._tell()

    def free(self) -> None:
        """Drop the model and give the device back."""
        import gc
        import sys

        if self.model is None:
            return
        self.name = self.model = None
        gc.collect()
        if "torch" in sys.modules:
            sys.modules["torch"].cuda.empty_cache()
        self._tell()

    def is_wanted(self) -> bool:
        """Whether somebody waits for the device that is held here."""
        return False

    def _tell(self) -> None:
        self.tell({"loaded": self.name, "holds_device": self.model is not None})
