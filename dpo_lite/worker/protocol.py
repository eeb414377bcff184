"""What a task may say while it works, and how it is told to stop."""

from __future__ import annotations

import json
import threading
from typing import Any, TextIO


class Cancelled(BaseException):
    """Raised in a task that was cancelled. No Exception, so that no task swallows it by chance."""


class Channel:
    """One task's line to whoever asked for it.

    ``cancelled`` is set from another thread. Most tasks are then interrupted where they stand; one
    that must leave a model in order sets ``polls`` and looks at ``cancelled`` itself.
    """

    def __init__(self, replies: Replies, number: int):
        self.replies = replies
        self.number = number
        self.cancelled = threading.Event()
        self.polls = False
        self.interrupted = False

    def say(self, text: str) -> None:
        """A sentence about what is being done."""
        self.emit("progress", text=text)

    def emit(self, event: str, **fields: Any) -> None:
        if self.cancelled.is_set() and not self.polls:
            raise Cancelled
        self.replies.send({"id": self.number, "event": event, **fields})


class Replies:
    """Writes JSON objects as lines, from any thread."""

    def __init__(self, stream: TextIO):
        self.stream = stream
        self.lock = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        line = json.dumps(message, ensure_ascii=True, default=str) + "\n"
        with self.lock:
            self.stream.write(line)
            self.stream.flush()
