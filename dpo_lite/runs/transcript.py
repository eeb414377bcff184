"""A console whose lines are kept, so that a run's log.txt says what the terminal said."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

from rich.console import Console, NewLine
from rich.control import Control

WIDTH = 100
DRAWING = (Control, NewLine)  # what bars and spinners print to move the cursor


class Transcript(Console):
    """Prints as any console, and keeps each print as plain text: in memory, later in a file.

    Bars and spinners are not kept. Where it is not ``verbose`` the details are kept alone.
    """

    def __init__(self, verbose: bool = True, **options):
        super().__init__(**options)
        self.verbose = verbose
        self.kept = Console(
            file=io.StringIO(),
            width=WIDTH,
            no_color=True,
            highlight=False,
            force_terminal=False,  # whatever FORCE_COLOR says of the other one
            force_jupyter=False,  # a notebook would show it all twice
        )

    def print(self, *objects, **options) -> None:
        super().print(*objects, **options)
        if not objects or not all(isinstance(o, DRAWING) for o in objects):
            self.kept.print(*objects, **options)

    def keep_in(self, path: Path) -> None:
        """Write what was kept to the end of a file, and what comes from now on too.

        Where the process prints into that file already, nothing is written twice.
        """
        text = self.kept.file.getvalue() if isinstance(self.kept.file, io.StringIO) else ""
        stream = open(os.devnull if _is_output(path) else path, "a", encoding="utf-8")  # noqa: SIM115
        stream.write(text)
        stream.flush()
        stream.reconfigure(line_buffering=True)
        self.kept.file = stream


def keep_in(console: Console, path: Path) -> None:
    """The same for any console: one that keeps nothing is left alone."""
    if isinstance(console, Transcript):
        console.keep_in(path)


def details(console: Console) -> Console:
    """Where to print what a reader of the log wants and one who waits at a terminal does not."""
    return console.kept if isinstance(console, Transcript) and not console.verbose else console


def _is_output(path: Path) -> bool:
    """Whether standard output goes into the file: a detached run's does."""
    try:
        return os.path.samestat(os.fstat(sys.__stdout__.fileno()), os.stat(path))
    except (OSError, ValueError, AttributeError):
        return False
