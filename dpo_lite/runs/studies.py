"""Studies: a sweep or on-policy rounds at work, as a process of its own that outlives who asked.

A study is a folder beside its runs, ``NAME.sweep`` or ``NAME.rounds``, and no run: it holds no
recipe.yaml. ``study.json`` says by which command it was started, which process is at work and how
it ended, whether a terminal or the page began it; ``log.txt`` is what it printed. The same command
again goes on, for what is on disk is a study's memory. Its runs stand in the line for the device as
all runs do.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lite.errors import UserError, disk_faults_told, in_words
from dpo_lite.files import write_json
from dpo_lite.runs.folder import START_SECONDS
from dpo_lite.runs.processes import in_background
from dpo_lite.runs.state import CLOCK, TEXT, Facts, fits, read_object
from dpo_lite.runs.system import interrupt, is_alive, process_started

KINDS = ("sweep", "rounds")
AT_WORK = ("starting", "running")
FILE, LOG = "study.json", "log.txt"
TOLD = 0.5  # seconds between two notes of what is being done
STATES = (*AT_WORK, *"finished stopped failed waits interrupted ended".split())
SHAPE: dict[str, Any] = {
    "pid": int,
    **dict.fromkeys("process_started doing error first by".split(), TEXT),
    **dict.fromkeys("launched started".split(), CLOCK),
    "rounds": int,
    "command": list,
}
MOST_ROUNDS = 1000


@dataclass(frozen=True)
class Study:
    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def kind(self) -> str:
        return self.path.suffix.removeprefix(".")

    @property
    def file(self) -> Path:
        return self.path / FILE

    def facts(self) -> Facts:
        """What study.json says, without what is damaged."""
        found = read_object(self.file) or {}
        facts = {key: value for key, value in found.items() if fits(value, SHAPE.get(key))}
        if facts.get("state") not in STATES:
            facts.pop("state", None)
        if not all(isinstance(word, str) for word in facts.get("command") or ()):
            del facts["command"]
        if not 0 < (facts.get("rounds") or 1) <= MOST_ROUNDS:
            del facts["rounds"]
        return facts

    def status(self) -> Facts:
        """``state``: starting, running, finished, stopped, failed, waits (for votes), interrupted,
        or ended where nothing was written of it."""
        facts = self.facts()
        state = facts.get("state", "ended")
        pid = facts.get("pid")
        if state == "running" and not is_alive(pid or 0, facts.get("process_started")):
            # One that is stopped while it imports its libraries may break off without a word.
            state = "stopped" if facts.get("stopping") else "interrupted"
        if state == "starting" and abs(time.time() - facts.get("launched", 0)) > START_SECONDS:
            state = "interrupted"  # also where the clock was set back since
        return facts | {"state": state}

    def note(self, **facts: Any) -> None:
        write_json(self.file, self.facts() | facts)

    @contextlib.contextmanager
    def at_work(self, command: Sequence[str], **more: Any) -> Iterator[Notes]:
        """Write down that this process is at work on it, and how it ended.

        ``more``: what else there is to know of it. Raises UserError where another process is.
        """
        self.refuse_running()
        with disk_faults_told():
            self.path.mkdir(parents=True, exist_ok=True)
            pid = os.getpid()
            own = {"pid": pid, "process_started": process_started(pid), "started": time.time()}
            fresh = {"error": None, "doing": None, "state": "running", "stopping": False}
            self.note(command=list(command), **own, **more, **fresh)
        notes = Notes(self)
        try:
            yield notes
        except KeyboardInterrupt:
            self.note(state="stopped", doing=None)
            raise
        except BaseException as error:
            words = in_words(error) or f"{type(error).__name__}: {error}"
            with contextlib.suppress(OSError):  # on a full disk the first fault is told
                self.note(state=notes.state or "failed", error=words, doing=None)
            raise
        self.note(state=notes.state or "finished", doing=None)

    def refuse_running(self) -> None:
        status = self.status()
        if status["state"] == "running" and status.get("pid") != os.getpid():
            raise UserError(
                f"{self.path} is at work in another process ({status.get('pid')}); wait for it or"
                " stop it first."
            )


class Notes:
    """What a study says of itself while it works; ``state``: how it ended, where that is not by
    coming to its end."""

    def __init__(self, study: Study):
        self.study, self.state, self._told = study, "", 0.0

    def doing(self, text: str) -> None:
        if time.monotonic() - self._told >= TOLD:
            self._told = time.monotonic()
            self.study.note(doing=text)


def studies(folder: Path) -> list[Study]:
    """All studies beside the runs of a folder, the one that was begun last first."""
    found = [Study(path) for kind in KINDS for path in folder.glob(f"*.{kind}") if path.is_dir()]
    return sorted(found, key=lambda study: (-_begun(study), study.name))


def _begun(study: Study) -> float:
    facts = study.facts()
    if times := [facts[key] for key in ("launched", "started") if key in facts]:
        return max(times)
    try:
        return study.path.stat().st_mtime
    except OSError:  # deleted between two looks
        return 0.0


def rounds_from(first: str, folder: Path) -> Study:
    """Where the rounds that begin with a run are kept."""
    return Study(folder / f"{first}.rounds")


def named_study(name: str, folder: Path) -> Study:
    """The study of that name, for names that come from a browser; raises UserError."""
    found = next((study for study in studies(folder) if study.name == name), None)
    if found is None:
        raise UserError(f"There is no study {name} in {folder}/.")
    return found


@disk_faults_told()
def launch(study: Study, command: Sequence[str], more: Mapping[str, Any] | None = None) -> None:
    """Start a study's command in the background; returns at once.

    Raises UserError where it is at work already.
    """
    if study.status()["state"] in AT_WORK:
        raise UserError(f"{study.name} is at work already.")
    study.path.mkdir(parents=True, exist_ok=True)
    fresh: dict[str, Any] = {"state": "starting", "pid": None, "error": None, "stopping": False}
    now = time.time()
    study.note(command=list(command), doing="starting", launched=now, **fresh, **(more or {}))
    with open(study.path / LOG, "ab") as log:
        log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {' '.join(command)}\n".encode())
        log.flush()
        process = in_background(list(command)[1:], log)
    study.note(pid=process.pid, process_started=process_started(process.pid))
    threading.Thread(target=_wait, args=(study, process), daemon=True).start()


def _wait(study: Study, process: subprocess.Popen) -> None:
    """Ask how it ended; where it never came to work, its last words say why."""
    process.wait()
    if study.status()["state"] == "starting":
        last = log_tail(study, 1)
        stopped = process.returncode in (-signal.SIGINT, 130) or study.status().get("stopping")
        words = None if stopped else (last or ["it did not start"])[0]
        study.note(state="stopped" if stopped else "failed", doing=None, error=words)


def resume(study: Study) -> None:
    """The same command again. Raises UserError where none is known, or it is at work."""
    command = study.facts().get("command")
    if not command:
        raise UserError(f"{study.name} was begun by an older version; give its command again.")
    launch(study, command)


def stop(study: Study) -> str:
    """Ask a study to stop: the run at work finishes its update and saves. Returns it in words."""
    status = study.status()
    if status["state"] not in AT_WORK:
        raise UserError(f"{study.name} is {status['state']}; there is nothing to stop.")
    if status.get("pid") is None:
        raise UserError(f"{study.name} is just starting; stop it in a moment.")
    study.note(stopping=True)
    try:
        interrupt(status["pid"])
    except ProcessLookupError:
        return f"{study.name} has ended by itself."
    except PermissionError:
        raise UserError(
            f"{study.name} (process {status['pid']}) cannot be reached from here; stop it where it"
            " was started."
        ) from None
    return f"{study.name} saves what it is at and stops. It can go on later."


def log_tail(study: Study, lines: int) -> list[str]:
    try:
        text = (study.path / LOG).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]
