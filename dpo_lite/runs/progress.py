"""What is on its way: a bar or a spinner on a terminal, a line now and then in a pipe or a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Bar = Callable[[str, int], Callable[[int], None]]  # what is done and of how many: what advances it

FIRST, LAST = 5.0, 60.0  # seconds between two lines: at the start, and however long it takes
SHARE = 1 / 10  # of the time that has passed


def progress_bar(console: Console) -> Progress | Lines:
    """The one look of all bars: description, bar, count, time left, and what is measured."""
    if not console.is_interactive:
        return Lines(console)
    return Progress(
        TextColumn("{task.description:<11}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
        console=console,
        transient=True,
    )


@contextmanager
def open_bars(console: Console) -> Iterator[Bar]:
    """A bar for each thing that is opened inside, one below the other."""
    with progress_bar(console) as shown:

        def opened(what: str, total: int) -> Callable[[int], None]:
            task: Any = shown.add_task(what, total=total, note="")
            return lambda count: shown.advance(task, count)

        yield opened


@contextmanager
def doing(console: Console, text: str) -> Iterator[Any]:
    """Says what is done now; ``update`` changes the words, ``stop`` and ``start`` hide and show."""
    if console.is_interactive:
        with console.status(text) as status:
            yield status
    else:
        yield Told(console)


class Pace:
    """Whether it is time for another line: soon at first, then ever less often."""

    def __init__(self, now: Callable[[], float] = time.monotonic):
        self.now = now
        self.started = self.last = now()

    def due(self) -> bool:
        now = self.now()
        if now - self.last < min(LAST, max(FIRST, SHARE * (now - self.started))):
            return False
        self.last = now
        return True


class Told:
    """A spinner's words as lines; what is done within five seconds is not told."""

    def __init__(self, console: Console):
        self.console, self.pace = console, Pace()

    def update(self, text: str) -> None:
        if self.pace.due():
            self.console.print(text, markup=False, highlight=False)

    def start(self) -> None:
        """There is nothing to show again."""

    def stop(self) -> None:
        """There is nothing to hide."""


class Lines:
    """A bar as lines: how far it is every so many seconds, and where it ended."""

    def __init__(self, console: Console):
        self.console = console
        self.tasks: list[dict[str, Any]] = []

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *exception) -> None:
        self.stop()

    def start(self) -> None:
        """The first line comes with the first progress."""

    def stop(self) -> None:
        """Nothing to take away."""

    def add_task(self, description: str, total: int, completed: int = 0, note: str = "") -> int:
        pace = Pace()
        self.tasks.append(
            {"what": description, "total": total, "done": completed, "note": note, "pace": pace}
            | {"first": completed}
        )
        return len(self.tasks) - 1

    def advance(self, task: int, count: int = 1) -> None:
        self.update(task, completed=self.tasks[task]["done"] + count)

    def update(self, task: int, completed: int | None = None, note: str | None = None) -> None:
        state = self.tasks[task]
        before = state["done"]
        state["done"] = before if completed is None else completed
        state["note"] = state["note"] if note is None else note
        ended = state["done"] >= state["total"] > before
        if ended or state["pace"].due():
            self.console.print(self._line(state), markup=False, highlight=False)

    def _line(self, state: dict[str, Any]) -> str:
        pace, new = state["pace"], state["done"] - state["first"]
        words = [f"{state['what']:<11} {state['done']:,} of {state['total']:,}"]
        if state["done"] < state["total"] and new > 0:
            left = (pace.now() - pace.started) / new * (state["total"] - state["done"])
            words.append(f"{timedelta(seconds=round(left))} left")
        return "  ".join([*words, *filter(None, [state["note"]])])
