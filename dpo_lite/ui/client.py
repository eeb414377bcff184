"""The page's side of the worker: asks, waits in line, and hands the events on. No torch in here.

Any number of browser tabs may ask at once. The line is kept here, so that it can be shown, and the
worker is sent one task at a time. It starts with the first task and starts anew after a crash.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dpo_lite.errors import UserError
from dpo_lite.files import cache_folder
from dpo_lite.runs.system import apart

BEAT = 1.0  # seconds without news after which the last event is said again
STUCK = 20.0  # seconds that a cancelled task may take to stop before its process is ended
ENDS = ("result", "error", "cancelled")
LOG_BYTES = 1_000_000
PACKAGE_PARENT = Path(__file__).resolve().parent.parent.parent

Event = dict[str, Any]


class _Ticket:
    """A task that waits or is being done. ``events`` is filled by the thread that reads."""

    def __init__(self, number: int, task: str, arguments: dict[str, Any]):
        self.number = number
        self.task = task
        self.arguments = arguments
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.sent = False
        self.begun = False
        self.cancelled = False


class Worker:
    """One worker process, asked from any thread."""

    def __init__(self, runs: str | Path = "runs"):
        self.runs = Path(runs)
        self.command = [sys.executable, "-m", "dpo_lite.worker", str(runs)]
        self._changed = threading.Condition()  # guards all below
        self._line: deque[_Ticket] = deque()
        self._process: subprocess.Popen | None = None
        self._facts: dict[str, Any] = _nothing_held()
        self._numbers = itertools.count(1)

    # --- what the page calls ---------------------------------------------------------------------

    def run(self, task: str, **arguments: Any) -> Iterator[Event]:
        """Do a task and yield its events; the last is a ``result`` or an ``error``.

        {"event": "queued", "ahead": [tasks], "text": ..., "seconds": ...}   others are before it
        {"event": "progress", "text": ..., "seconds": ...}     said again every second
        {"event": "token", ...}                                as the task defines it
        {"event": "result", "result": ...}, {"event": "error", "text": one sentence}

        Closing the iterator cancels the task.
        """
        ticket = _Ticket(next(self._numbers), task, arguments)
        with self._changed:
            self._line.append(ticket)
        try:
            yield from self._wait_in_line(ticket)
            self._send(ticket)
            yield from self._events(ticket)
        finally:
            self._leave(ticket)

    def call(self, task: str, say: Callable[[str], None] | None = None, **arguments: Any) -> Any:
        """Do a task to its end and return its result; raises UserError where it fails."""
        for event in self.run(task, **arguments):
            if event["event"] == "result":
                return event["result"]
            if event["event"] == "error":
                raise UserError(event["text"])
            if say and event.get("text"):
                say(event["text"])
        raise UserError(f"The task {task} was cancelled.")

    def state(self) -> dict[str, Any]:
        """What is done, what waits, what is loaded and whether the device is held by it."""
        with self._changed:
            tasks = [ticket.task for ticket in self._line]
            return {"task": tasks[0] if tasks else None, "queue": tasks[1:], **self._facts}

    def free(self) -> None:
        """Free what is loaded, after the tasks that are before this; returns when it is done."""
        with self._changed:
            if self._process is None and not self._line:
                return
        for _ in self.run("free"):
            pass

    def close(self) -> None:
        """End the process now; a task that is being done fails."""
        with self._changed:
            process = self._process
        if process is not None:
            process.kill()
            with self._changed:
                self._changed.wait_for(lambda: self._process is not process, timeout=10)

    # --- one task --------------------------------------------------------------------------------

    def _wait_in_line(self, ticket: _Ticket) -> Iterator[Event]:
        started = time.monotonic()
        while True:
            with self._changed:
                if self._line[0] is ticket:
                    return
                place = self._line.index(ticket)
                ahead = [other.task for other in itertools.islice(self._line, place)]
            text = f"waiting for {ahead[0]}" + (f" and {len(ahead) - 1} more" if ahead[1:] else "")
            seconds = time.monotonic() - started
            yield {"event": "queued", "ahead": ahead, "text": text, "seconds": seconds}
            with self._changed:
                self._changed.wait_for(lambda: self._line[0] is ticket, timeout=BEAT)

    def _send(self, ticket: _Ticket) -> None:
        with self._changed:
            if self._process is None:
                self._process = self._start()
            ticket.sent = True
            self._write({"id": ticket.number, "task": ticket.task, "arguments": ticket.arguments})

    def _events(self, ticket: _Ticket) -> Iterator[Event]:
        started = time.monotonic()
        last: Event = {"event": "progress", "text": "starting the worker"}
        while True:
            with contextlib.suppress(queue.Empty):
                event = ticket.events.get(timeout=BEAT)
                if event["event"] == "again":
                    self._send(ticket)
                    continue
                last = event if event["event"] == "progress" else last
                yield event | {"seconds": time.monotonic() - started}
                if event["event"] in ENDS:
                    return
                continue
            yield last | {"seconds": time.monotonic() - started}

    def _leave(self, ticket: _Ticket) -> None:
        """Out of the line; a task that was sent stays in it until the worker has let go of it."""
        with self._changed:
            if ticket not in self._line:
                return
            if not ticket.sent or self._process is None:
                self._line.remove(ticket)
                self._changed.notify_all()
            elif not ticket.cancelled:
                ticket.cancelled = True
                self._write({"cancel": ticket.number})
                patience = threading.Timer(STUCK, self._end_stuck, [ticket, self._process])
                patience.daemon = True
                patience.start()

    def _end_stuck(self, ticket: _Ticket, process: subprocess.Popen) -> None:
        """End a process that has not let go of a cancelled task, whether anybody waits or not."""
        with self._changed:
            if ticket in self._line and self._process is process:
                process.kill()

    # --- the process -----------------------------------------------------------------------------

    def _start(self) -> subprocess.Popen:
        log = _log_file()
        path = [str(PACKAGE_PARENT), *filter(None, [os.environ.get("PYTHONPATH")])]
        with open(log, "ab") as errors:
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
                **apart(),  # the server's Ctrl-C is not the worker's
            )
        threading.Thread(target=self._read, args=(process, log), daemon=True).start()
        return process

    def _write(self, message: dict[str, Any]) -> None:
        """A line to the worker; that it has gone is told by the thread that reads."""
        if self._process is None:
            return
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _read(self, process: subprocess.Popen, log: Path) -> None:
        for line in process.stdout:
            self._received(json.loads(line))
        code = process.wait()
        with self._changed:
            process.stdin.close()
            self._process = None
            self._facts = _nothing_held()
            ticket = self._line[0] if self._line else None
            if ticket is None or not ticket.sent:
                pass
            elif code == 0 and not ticket.begun and not ticket.cancelled:
                ticket.events.put({"event": "again"})  # it ended as the task was on its way
            else:
                self._end(ticket, {"event": "error", "text": _crash(ticket.task, code, log)})
            self._changed.notify_all()

    def _received(self, message: dict[str, Any]) -> None:
        with self._changed:
            if "state" in message:
                self._facts = message["state"]
                return
            ticket = self._line[0] if self._line else None
            if ticket is None or ticket.number != message.pop("id"):
                return
            if message["event"] == "begun":
                ticket.begun = True
            elif message["event"] in ENDS:
                self._end(ticket, message)
            else:
                ticket.events.put(message)

    def _end(self, ticket: _Ticket, event: Event) -> None:
        self._line.popleft()
        ticket.events.put(event)
        self._changed.notify_all()


def _nothing_held() -> dict[str, Any]:
    return {"loaded": None, "holds_device": False}


def _log_file() -> Path:
    """Where the worker's errors go; an old long one makes room."""
    log = cache_folder() / "worker.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.is_file() and log.stat().st_size > LOG_BYTES:
        log.unlink()
    return log


def _crash(task: str, code: int, log: Path) -> str:
    why = f"ended with code {code}"
    if code < 0:
        why = f"was ended by signal {-code}" + (
            ", most likely because the memory ran out" if code == -9 else ""
        )
    return f"The worker process {why} during {task}; its log is {log}; ask again."
