"""A run is a folder. Whoever wants to know how it stands reads files; nobody keeps it in memory.

    recipe.yaml     the resolved recipe            status.json    state, step, time left
    manifest.json   versions, base, data, device   metrics.jsonl  one object per logged step
    samples.jsonl   answers, by ANSWERED_BY        log.txt        what the terminal showed
    checkpoints/    to resume from                 adapter/       the result
    report.md, curves.png

Files are replaced atomically or appended to line by line, so a reader may look at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lite.errors import HINTS, UserError, disk_faults_told, in_words
from dpo_lite.files import read_json, safe_name, write_json
from dpo_lite.runs.system import is_alive, process_started

# While a process is at work on a run: it waits for the device, is in its preflight, trains.
ACTIVE = ("queued", "preparing", "running")
# Whose answers those of samples.jsonl are, by when they were given: the reference's and, where the
# policy starts apart from it, the policy's before the training, and the policy's after it.
ANSWERED_BY = {"before": "reference", "start": "start", "after": "policy"}
UNTRAINED = "untrained"  # in results.json, where the adapter of the end changes nothing
TRIED_BYTES = 1 << 16
SKIPPED = "skipped"  # in results.json of a run in fp16: updates whose gradient overflowed
START_SECONDS = 60.0  # a launched process that has not said its number by then never will


@dataclass(frozen=True)
class Run:
    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def recipe_file(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def start(self) -> Path:
        """The adapter that training started from, where there was one."""
        return self.path / "start"

    @property
    def reward(self) -> Path:
        """The reward model that the policy was trained on, where it was an adapter."""
        return self.path / "reward"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def status(self) -> dict[str, Any]:
        """The state on disk; a run whose process has gone reads ``interrupted``.

        ``stopping`` is true between the wish to stop and the end.
        """
        status = read_json(self.path / "status.json") or {"state": "created"}
        if status["state"] in ACTIVE:
            if not _at_work(status):
                status["state"] = "interrupted"
            elif self.stop_mark.exists():
                status["stopping"] = True
        return status

    @property
    def stop_mark(self) -> Path:
        """An empty file that says that this run was asked to stop."""
        return self.path / ".stop"

    def update_status(self, **changes) -> None:
        status = read_json(self.path / "status.json") or {}
        write_json(self.path / "status.json", status | changes | {"updated": time.time()})

    def claim(self, state: str, **facts) -> None:
        """Say that this process is at work on the run."""
        pid = os.getpid()
        self.update_status(
            state=state, pid=pid, pid_started=process_started(pid), error=None, **facts
        )

    def take_up(self) -> None:
        """Claim the run for this process, which is going to train it.

        Raises UserError where another process is at work on it, or where it is finished.
        """
        status = self.status()
        if status["state"] in ACTIVE and status.get("pid") not in (None, os.getpid()):
            raise UserError(f"{self.path} is {status['state']}; wait for it or stop it first.")
        if status["state"] == "finished":
            raise UserError(f"{self.path} is finished; start a new run to train on.")
        self.stop_mark.unlink(missing_ok=True)
        self.claim("queued", seconds_left=None)

    def begin(self, **facts) -> None:
        self.claim("running", started=time.time(), **facts)

    def manifest(self) -> dict[str, Any]:
        return read_json(self.path / "manifest.json") or {}

    def append(self, file: str, record: dict[str, Any]) -> None:
        """Add one JSON object as a line to ``metrics.jsonl`` or ``samples.jsonl``."""
        with open(self.path / file, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")

    def log(self, line: str) -> None:
        with open(self.path / "log.txt", "a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def log_tail(self, lines: int) -> list[str]:
        """The last lines of log.txt; only its end is read."""
        if lines < 1 or not (self.path / "log.txt").is_file():
            return []
        with open(self.path / "log.txt", "rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - 400 * lines))
            found = stream.read().splitlines()[-lines:]
        return [line.decode("utf-8", "replace") for line in found]

    def records(self, file: str) -> list[dict[str, Any]]:
        """The complete lines of a .jsonl file; a half-written last line is left out."""
        path = self.path / file
        if not path.is_file():
            return []
        text = path.read_bytes()  # whose lines end at \n alone; a text's also at U+2028 and others
        return [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]

    def steps(self) -> list[dict[str, Any]]:
        """What was logged of each update, in order; of one that was repeated the last counts."""
        by_step = {r["step"]: r for r in self.records("metrics.jsonl") if "loss" in r}
        return [by_step[step] for step in sorted(by_step)]

    def last_checkpoint(self) -> Path | None:
        """The newest complete checkpoint: the trainer's state is what is written last."""
        complete = [
            (int(path.name.rpartition("-")[2]), path)
            for path in self.checkpoints.glob("checkpoint-*")
            if (path / "trainer_state.json").is_file()
        ]
        return max(complete)[1] if complete else None


class Watched(Run):
    """A run that another process writes: this one trains along and leaves its folder alone."""

    def update_status(self, **changes) -> None:
        """It is said by the other one."""

    def take_up(self) -> None:
        """It is taken up by the other one."""

    def append(self, file: str, record: dict[str, Any]) -> None:
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


def check_output(folder: str | Path, name: str | None = None) -> None:
    """Raises UserError where no run of that name can be made in the folder: asked before anything
    is loaded. Nothing stays there of the try."""
    if name:
        _refuse_taken(Path(folder) / safe_name(name))
    place = Path(folder).expanduser().absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(TRIED_BYTES))
            file.flush()
    except OSError as error:
        hint = HINTS.get(error.errno or 0, "choose another folder")
        raise UserError(f"{folder} cannot be written ({error.strerror}): {hint}.") from error


def _refuse_taken(path: Path) -> None:
    if path.exists():
        raise UserError(
            f"run.name: {path} exists; choose another name, or go on with it by"
            f" `dpo-lite train --resume {path}`."
        )


@disk_faults_told()
def create_run(folder: str | Path, name: str | None, stem: str) -> Run:
    """Make an empty run folder: ``name`` where given, else the recipe's name with a number."""
    folder = Path(folder)
    if name:
        path = folder / safe_name(name)
        _refuse_taken(path)
    else:
        stem = re.sub(r"[^A-Za-z0-9._-]", "-", stem).lstrip(".-")[:56] or "run"
        number = 1
        while (path := folder / f"{stem}-{number}").exists():
            number += 1
    path.mkdir(parents=True)
    return Run(path)


def named_run(name: str, folder: str | Path) -> Run:
    """The run of that name in the folder and nowhere else, for names that come from a browser."""
    path = Path(folder) / safe_name(name)
    inside = path.resolve().parent == Path(folder).resolve()
    if not inside or not (path / "recipe.yaml").is_file():
        raise UserError(f"There is no run {name} in {folder}/.")
    return Run(path)


def open_run(name: str | Path, folder: str | Path = "runs") -> Run:
    """Find a run by its path, or by its name in the runs folder."""
    for path in (Path(name), Path(folder) / str(name)):
        if (path / "recipe.yaml").is_file():
            return Run(path)
    known = [run.name for run in list_runs(folder)]
    hint = f"there are {', '.join(known[:5])}" if known else "there are none yet"
    raise UserError(f"There is no run {name} in {folder}/; {hint}.")


def list_runs(folder: str | Path = "runs") -> list[Run]:
    """All runs in a folder, newest first."""
    dated = []
    for file in Path(folder).glob("*/recipe.yaml"):
        with contextlib.suppress(FileNotFoundError):  # deleted between two looks
            if not file.parent.name.startswith("."):
                dated.append((-file.stat().st_mtime, Run(file.parent)))
    return [run for _, run in sorted(dated, key=lambda pair: (pair[0], pair[1].name))]


def _at_work(status: dict[str, Any]) -> bool:
    """Whether there is a process behind an active state: its own, or one that is on its way."""
    if status.get("pid") is None:
        return time.time() - status.get("launched", 0) < START_SECONDS
    return is_alive(status["pid"], status.get("pid_started"))


def find_checkpoint(run: Run, wanted: str) -> tuple[Path, int]:
    """The folder and the update of a complete checkpoint: a number, or ``last``."""
    complete = {
        int(path.name.rpartition("-")[2]): path
        for path in run.checkpoints.glob("checkpoint-*")
        if (path / "trainer_state.json").is_file()
    }
    if not complete:
        raise UserError(f"{run.path} has no checkpoint yet; the first comes at train.save_steps.")
    number = str(wanted).removeprefix("checkpoint-")
    step = max(complete) if number == "last" else int(number) if number.isdigit() else None
    if step not in complete:
        there = ", ".join(map(str, sorted(complete)))
        raise UserError(f"{run.path} has no checkpoint {wanted}; there are {there}, and `last`.")
    return complete[step], step
