"""Processes as the operating system knows them; all that differs between systems stands here.

A process is told from a later one with the same number by its start, which ``status.json`` and the
tickets for the device hold as a string. psutil is imported where a process is looked at: a list of
runs of which none is at work does without.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

LINUX = sys.platform.startswith("linux")
ENDED = ("zombie", "dead")  # until its parent has asked how
# Seconds that two readings of a start may differ by, as it is told by a clock that may be set.
# On Linux it is told in ticks since the machine's start, which no clock moves.
SLACK = 0 if LINUX else 60


def process_started(pid: int) -> str | None:
    """When a process started; None for one that has ended, also while its parent has not asked how.

    In the kernel's ticks since the machine's start on Linux, elsewhere in seconds since 1970.
    """
    if pid < 1:  # of a damaged file; psutil has no words for it
        return None
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() in ENDED:
            return None
        started = process.create_time()
    except psutil.Error:
        return None
    if LINUX:  # psutil added the start of the machine, which is off once the clock is set
        started = (started - psutil.boot_time()) * os.sysconf("SC_CLK_TCK")
    return str(round(started))


def is_alive(pid: int, started: str | None) -> bool:
    """Whether the process of that number and that start still is.

    A start of None is of a run that was begun where it could not be told: the number alone counts.
    """
    now = process_started(pid)
    if now is None or started is None:
        return now is not None
    try:
        return abs(int(now) - int(started)) <= SLACK
    except ValueError:  # of a damaged file
        return False


def apart() -> dict[str, Any]:
    """Options of ``Popen`` for a process that the terminal's Ctrl-C does not reach."""
    if os.name == "nt":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}  # type: ignore[attr-defined]
    return {"start_new_session": True}


def interrupt(pid: int) -> None:
    """What Ctrl-C is to a process that was started ``apart``.

    Raises ProcessLookupError where it has ended, PermissionError where it cannot be reached: it is
    another user's or, on Windows, was not started from this console.
    """
    import psutil

    try:
        # On Windows Ctrl-C cannot be sent to one group alone; ``listen`` makes one of Ctrl-Break.
        windows = os.name == "nt"
        number = signal.CTRL_BREAK_EVENT if windows else signal.SIGINT  # type: ignore[attr-defined]
        psutil.Process(pid).send_signal(number)
    except psutil.NoSuchProcess as error:
        raise ProcessLookupError(str(error)) from None
    except (psutil.AccessDenied, OSError) as error:
        raise PermissionError(str(error)) from None


def listen() -> None:
    """Let this process hear ``interrupt``, and a terminal's end; in its main thread only."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job ignores Ctrl-C
        signal.signal(number, signal.default_int_handler)
    for number in hangups():
        signal.signal(number, _hung_up)
    if os.name == "nt":  # passed on to whoever handles Ctrl-C by then
        broken: int = signal.SIGBREAK  # type: ignore[attr-defined]
        signal.signal(broken, lambda number, frame: signal.raise_signal(signal.SIGINT))


def hangups() -> list[int]:
    """The signal of a terminal that went away, where there is one and it is not to be ignored, as
    ``nohup`` has it."""
    number = getattr(signal, "SIGHUP", None)
    return [number] if number and signal.getsignal(number) is not signal.SIG_IGN else []


def let_go_of_terminal() -> None:
    """Write to nowhere what went to a terminal: one that is gone makes every print an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        if os.isatty(descriptor):
            os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _hung_up(number, frame) -> None:
    signal.signal(number, signal.SIG_IGN)  # the shell and the system may both tell
    let_go_of_terminal()
    raise KeyboardInterrupt
