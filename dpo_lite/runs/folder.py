"""A run is a folder. Whoever wants to know how it stands reads files; nobody keeps it in memory.

    recipe.yaml     the resolved recipe            status.json    state, step, time left
    manifest.json   versions, base, data, device   metrics.jsonl  one object per logged step
    samples.jsonl   answers, by ANSWERED_BY        log.txt        what the terminal showed
    checkpoints/    to resume from                 adapter/       the result
    report.md, curves.png                          most_wrong.json  held-out pairs, of some
    metrics.places.json  of a very long metrics.jsonl: see dpo_lite.runs.places
    suite.json      tasks that others know, of some

Files are replaced atomically or appended to line by line, so a reader may look at any time.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lite.errors import UserError, disk_faults_told
from dpo_lite.files import json_text, replaced, safe_name, write_json
from dpo_lite.runs import places, tails
from dpo_lite.runs.checkpoints import complete
from dpo_lite.runs.lines import (
    METRICS,
    SAMPLES,
    append_line,
    lost_words,
    parsed,
    sound_lines,
    updates,
)
from dpo_lite.runs.mending import mend
from dpo_lite.runs.room import refuse_taken
from dpo_lite.runs.state import REBUILT, damaged_files, read_manifest, read_results, read_status
from dpo_lite.runs.system import is_alive, process_started
from dpo_lite.runs.tails import Tail

# While a process is at work on a run: it waits for the device, is in its preflight, trains.
ACTIVE = ("queued", "preparing", "running")
# Whose answers those of samples.jsonl are, by when they were given: the reference's and, where the
# policy starts apart from it, the policy's before the training, and the policy's after it.
ANSWERED_BY = {"before": "reference", "start": "start", "after": "policy"}
MOST_WRONG = "most_wrong.json"  # by held-out set, texts of the data; never published
UNTRAINED = "untrained"  # in results.json, where the adapter of the end changes nothing
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
        return self.reward_copy(0)

    def reward_copy(self, number: int) -> Path:
        """The same of several, from 0: ``reward``, ``reward-2``, …"""
        return self.path / (f"reward-{number + 1}" if number else "reward")

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def status(self) -> dict[str, Any]:
        """The state on disk; a run whose process has gone reads ``interrupted``.

        ``stopping`` is true between the wish to stop and the end.
        """
        status = read_status(self.path)
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
        """Change some of it. While this process trains it also says until when it did."""
        status, now = read_status(self.path), time.time()
        status.pop(REBUILT, None)
        if status["state"] == "running" and status.get("pid") == os.getpid():
            status["ran_until"] = now
        write_json(self.path / "status.json", status | changes | {"updated": now})

    def claim(self, state: str, **facts) -> None:
        """Say that this process is at work on the run."""
        pid = os.getpid()
        self.update_status(
            state=state, pid=pid, pid_started=process_started(pid), error=None, **facts
        )

    def take_up(self) -> list[str]:
        """Claim the run for this process, which is going to train it; returns what was mended.

        Raises UserError where another process is at work on it, where it is finished, and where a
        file is damaged that nothing can put back.
        """
        status = self.status()
        if status["state"] in ACTIVE and status.get("pid") not in (None, os.getpid()):
            raise UserError(f"{self.path} is {status['state']}; wait for it or stop it first.")
        if status["state"] == "finished":
            raise UserError(f"{self.path} is finished; start a new run to train on.")
        words = mend(self.path)
        self.stop_mark.unlink(missing_ok=True)
        self.claim("queued", seconds_left=None)
        return words

    def begin(self, **facts) -> None:
        now = time.time()
        self.claim("running", seconds_before=self.seconds(), started=now, ran_until=now, **facts)

    def seconds(self) -> float:
        """How long it has trained, evaluated and answered, in all sessions that ended or logged."""
        status = read_status(self.path)
        last = status.get("ran_until", 0.0) - status.get("started", 0.0)
        return status.get("seconds_before", 0.0) + max(last, 0.0)

    def manifest(self) -> dict[str, Any]:
        """Empty where there is none, or it is damaged."""
        return read_manifest(self.path) or {}

    def results(self) -> dict[str, Any]:
        """What was measured at the end; without any ``sets`` where it is missing or damaged."""
        return read_results(self.path) or {"sets": {}}

    def append(self, file: str, record: dict[str, Any]) -> None:
        """Add one JSON object as a line to ``metrics.jsonl`` or ``samples.jsonl``."""
        append_line(self.path / file, json_text(record))

    def log(self, line: str) -> None:
        append_line(self.path / "log.txt", line)

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
        """The sound lines of a .jsonl file; a half-written last line is left out."""
        path = self.path / file
        return parsed(path.read_bytes(), file)[0] if path.is_file() else []

    def each(self, file: str) -> Iterator[dict[str, Any]]:
        """The same one by one, for files that may be as long as the run was."""
        if (self.path / file).is_file():
            yield from sound_lines(self.path / file)

    def followed(self, file: str) -> Tail:
        """The same with most of a long file's lines passed over (see dpo_lite.runs.tails), which
        is enough to draw it, and how many were damaged."""
        tail = Tail(self.path / file)
        tail.read()
        return tail

    def note_places(self) -> None:
        """Have it written down where the lines of a long metrics.jsonl stand that are drawn, while
        it grows: whoever opens it then need not read it all."""
        with contextlib.suppress(OSError):
            if (self.path / METRICS).stat().st_size > tails.NOTED:
                self.followed(METRICS)

    def damages(self, read: Callable[[str], Tail] | None = None) -> list[str]:
        """Sentences about files of the run that cannot be read, and lines that were left out.

        ``read``: gives a file that was read already.
        """
        counts = {file: (read or self.followed)(file).lost for file in (METRICS, SAMPLES)}
        lines = [lost_words(file, lost) for file, lost in counts.items() if lost]
        return damaged_files(self.path) + lines

    def forget_after(self, step: int) -> None:
        """Take out of the files what comes again when the run goes on from that update."""
        for file in (METRICS, SAMPLES):
            if any(record.get("step", 0) > step for record in self.each(file)):
                self.rewrite(file, (r for r in self.each(file) if r.get("step", 0) <= step))

    def rewrite(self, file: str, records: Iterable[dict[str, Any]]) -> None:
        """Replace all lines of a .jsonl file in one step."""
        places.forget(self.path / file)
        with replaced(self.path / file) as partial, open(partial, "w", encoding="utf-8") as stream:
            for record in records:
                stream.write(json_text(record) + "\n")

    def steps(self) -> list[dict[str, Any]]:
        """What was logged of each update, in order; of one that was repeated the last counts."""
        return updates(self.each(METRICS))

    def last_checkpoint(self) -> Path | None:
        """The newest checkpoint by its name; whether it is whole, nobody has looked."""
        return next(reversed(complete(self.checkpoints).values()), None)


@disk_faults_told()
def create_run(folder: str | Path, name: str | None, stem: str) -> Run:
    """Make an empty run folder: ``name`` where given, else the recipe's name with a number."""
    folder = Path(folder)
    if name:
        path = folder / safe_name(name)
        refuse_taken(path)
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
    if not inside or not is_run(path):
        raise UserError(f"There is no run {name} in {folder}/.")
    return Run(path)


def is_run(path: Path) -> bool:
    """Whether a folder is a run's: one that lost its recipe has a checkpoint with a copy."""
    return os.path.lexists(path / "recipe.yaml") or bool(complete(path / "checkpoints"))


def open_run(name: str | Path, folder: str | Path = "runs") -> Run:
    """Find a run by its path, or by its name in the runs folder."""
    for path in (Path(name), Path(folder) / str(name)):
        if is_run(path):
            return Run(path)
    known = [run.name for run in list_runs(folder)]
    hint = f"there are {', '.join(known[:5])}" if known else "there are none yet"
    raise UserError(f"There is no run {name} in {folder}/; {hint}.")


def list_runs(folder: str | Path = "runs") -> list[Run]:
    """All runs in a folder, newest first."""
    return [Run(Path(folder, name)) for name in run_names(folder)]


def run_names(folder: str | Path = "runs") -> list[str]:
    """Their names, for whoever asks every other second: making paths would take longer."""
    dated = []
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        with contextlib.suppress(OSError):  # deleted between two looks, or another user's
            if not name.startswith(".") and (made := _made(f"{folder}/{name}")) is not None:
                dated.append((-made, name))
    return [name for _, name in sorted(dated)]


def _made(run: str) -> float | None:
    """When a run was made; None where the folder is none."""
    try:
        return os.stat(f"{run}/recipe.yaml").st_mtime
    except OSError:
        return os.stat(run).st_mtime if is_run(Path(run)) else None


def _at_work(status: dict[str, Any]) -> bool:
    """Whether there is a process behind an active state: its own, or one that is on its way."""
    if status.get("pid") is None:
        return abs(time.time() - status.get("launched", 0)) < START_SECONDS  # clocks are set back
    return is_alive(status["pid"], status.get("pid_started"))
