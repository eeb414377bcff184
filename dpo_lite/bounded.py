"""Bounds for what others write: numbers of a command line, time for a pattern or a template."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dpo_lite.errors import UserError

MAX_COUNT = 10**9  # of steps, rows shown and the like
MAX_SEED = 2**32 - 1  # NumPy's generator takes no more
MAX_TOKENS = 10**6  # of an answer


class TimeIsUp(BaseException):
    """Of no kind that the bounded work, or a library around it, would catch and go on."""


@contextmanager
def at_most(seconds: float, words: str) -> Iterator[None]:
    """Raises UserError with ``words`` where the block has not ended after so many seconds.

    By the system's alarm, which interrupts Python's bytecode and ``re``, but not one long call into
    C. Where there is no alarm (Windows, any thread but the main one) nothing is bounded.
    """
    if (
        not hasattr(signal, "setitimer")
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return

    def ring(*_: Any) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    except TimeIsUp:
        raise UserError(words) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
