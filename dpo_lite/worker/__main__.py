"""``python -m dpo_lite.worker RUNS_FOLDER``: JSON lines in, JSON lines out.

    in    {"id": 1, "task": "plan", "arguments": {...}}      {"cancel": 1}
    out   {"id": 1, "event": "begun" | "progress" | "token" | "result" | "error" | "cancelled", ...}
          {"state": {"loaded": "qwen3-4b-1", "holds_device": true}}

Only this file knows the stream of the replies: file descriptor 1 is turned to the log, so that a
library that prints cannot break the protocol. The process ends when its input does, after the task
``free``, and when it is idle while a run needs the device.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import traceback
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from dpo_lite.errors import UserError, in_words
from dpo_lite.quiet import quiet_libraries
from dpo_lite.worker.model_cache import ModelCache
from dpo_lite.worker.protocol import Cancelled, Channel, Replies
from dpo_lite.worker.tasks import TASKS

POLL_SECONDS = 0.5
LEAVE_SECONDS = 5.0
IMPORT_SECONDS = 0.1  # until it is asked again whether an import is over


def main() -> None:
    requests, replies = own_streams()
    quiet_libraries()
    runs = Path(sys.argv[1] if len(sys.argv) > 1 else "runs")
    Server(requests, Replies(replies), runs).serve()


def own_streams() -> tuple[TextIO, TextIO]:
    """The protocol's streams; what else reads or writes gets no input and the log as its output."""
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies


def importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported somewhere below this frame."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


class Server:
    """Reads requests in one thread and does them in the main one, where they can be interrupted."""

    def __init__(self, requests: TextIO, replies: Replies, runs: Path):
        self.requests = requests
        self.replies = replies
        self.cache = ModelCache(runs, lambda state: replies.send({"state": state}))
        self.inbox: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.lock = threading.Lock()  # for the two below
        self.channel: Channel | None = None
        self.cancelled_early: set[int] = set()

    def serve(self) -> None:
        signal.signal(signal.SIGINT, self._interrupted)
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            try:
                request = self.inbox.get(timeout=POLL_SECONDS)
            except queue.Empty:
                if self.cache.is_wanted():
                    break
                continue
            if request is None:
                break
            self._do(request)
            if request["task"] == "free":
                break
        self.cache.free()

    def _read(self) -> None:
        """The other thread: puts requests in line and passes cancellations on at once."""
        for line in self.requests:
            message = json.loads(line)
            if "cancel" in message:
                self._cancel(message["cancel"])
            else:
                self.inbox.put(message)
        self.inbox.put(None)  # whoever asked is gone
        if self.channel:
            self._cancel(self.channel.number)
        threading.Timer(LEAVE_SECONDS, os._exit, [0]).start()

    def _cancel(self, number: int) -> None:
        with self.lock:
            if self.channel is None or self.channel.number != number:
                self.cancelled_early.add(number)
                return
            self.channel.cancelled.set()
        self._wake()

    def _wake(self) -> None:
        # To the main thread itself, so that a call that waits there is woken up too.
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        else:
            signal.raise_signal(signal.SIGINT)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        """Runs in the main thread, once for a task; a Ctrl-C from elsewhere cancels nothing."""
        channel = self.channel
        if channel and channel.cancelled.is_set() and not channel.polls and not channel.interrupted:
            if importing(frame):  # a module that breaks off half-way is never whole again
                threading.Timer(IMPORT_SECONDS, self._wake).start()
                return
            channel.interrupted = True
            raise Cancelled

    def _do(self, request: dict[str, Any]) -> None:
        channel = Channel(self.replies, request["id"])
        end = {"event": "cancelled"}
        try:
            with self.lock:
                self.channel = channel
                early = request["id"] in self.cancelled_early
            if not early:
                channel.emit("begun")
                try:
                    end = {"event": "result", "result": self._result(request, channel)}
                except Exception as error:
                    end = {"event": "error", "text": sentence(error)}
            self.channel = None  # from here on nothing interrupts
        except Cancelled:
            end = {"event": "cancelled"}
        self.channel = None
        self.replies.send({"id": request["id"], **end})

    def _result(self, request: dict[str, Any], channel: Channel) -> Any:
        if request["task"] not in TASKS:
            raise UserError(
                f"The worker knows no task {request['task']}; there are {sorted(TASKS)}."
            )
        return TASKS[request["task"]](channel, self.cache, **request.get("arguments", {}))


def sentence(error: Exception) -> str:
    """A task's fault in one sentence; what is no fault of the user goes to the log in full."""
    if words := in_words(error):
        if not isinstance(error, UserError):
            traceback.print_exception(error)
        return words
    traceback.print_exception(error)
    first = (str(error).strip() or "no message").splitlines()[0]
    return f"This is a fault of the program ({type(error).__name__}: {first}); please report it."


if __name__ == "__main__":
    main()
