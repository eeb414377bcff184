"""Who writes in a run's folder: the process at work on it, and none that only trains along."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from dpo_lite.errors import in_words
from dpo_lite.runs.folder import Run


class Watched(Run):
    """A run that another process writes: this one trains along and leaves its folder alone."""

    def update_status(self, **changes) -> None:
        """It is said by the other one."""

    def take_up(self) -> list[str]:
        """It is taken up by the other one."""
        return []

    def append(self, file: str, record: dict[str, Any]) -> None:
        """It is written by the other one."""

    def rewrite(self, file: str, records: Iterable[dict[str, Any]]) -> None:
        """It is written by the other one."""

    def log(self, line: str) -> None:
        """It is written by the other one."""


def recorded(run: Run, work: Callable[[], Run]) -> Run:
    """Do the work on a run and write down how it ended, where it broke off."""
    if isinstance(run, Watched):
        return work()
    try:
        return work()
    except KeyboardInterrupt:
        run.update_status(state="stopped", seconds_left=None, doing=None)
        return run
    except BaseException as error:
        words = in_words(error) or f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):  # on a full disk the first fault is told
            run.update_status(state="failed", error=words, seconds_left=None, doing=None)
        raise
    finally:
        run.stop_mark.unlink(missing_ok=True)
