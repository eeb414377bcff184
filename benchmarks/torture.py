"""What damage does to a run that goes on: the same bytes in the end, or one sentence, never else.

    python -m benchmarks.torture [--only WORD] [--work FOLDER]

A small run is trained whole, and stopped near its end. For every case a copy of the stopped one is
damaged, or a run is killed at a named write or finds its disk full, and then resumed in this
process. It is well where the adapter has the bytes, and metrics and answers the content, of the run
that nobody stopped, or where a sentence was said in place of that; a traceback, or another result
without a word, is not.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rich.console import Console

from benchmarks.torture_cases import CASES, EITHER, Case, Kill
from dpo_lite.errors import in_words
from dpo_lite.jobs import train as job
from dpo_lite.model.adapter_files import WEIGHTS
from dpo_lite.quiet import quiet_libraries
from dpo_lite.recipe import Recipe, validate_recipe
from dpo_lite.runs.folder import Run
from dpo_lite.runs.system import listen
from dpo_lite.training.callbacks import RunRecorder

UPDATES, STOPPED_AFTER = 6, 5
SAME, SAID, WRONG = "same bytes", "one sentence", "WRONG"
OF_A_CLOCK = ("memory", "seconds", "seconds/drawing", "seconds/judging", "seconds/learning")


@dataclass(frozen=True)
class Stage:
    """Runs to copy from, and where: one that nobody stopped, and one stopped near its end.
    ``more``: sections of their recipe that are not as always."""

    whole: Run
    stopped: Run
    base: str
    data: str
    folder: Path
    cache: Path
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """``verdict`` is SAME, SAID or WRONG; ``words``: what was printed or raised."""

    verdict: str
    words: str


def recipe_for(
    base: str, data: str, folder: Path, name: str, more: dict[str, Any] | None = None, **train
) -> Recipe:
    """A short run; ``more``: sections that are added, ``train`` keys of that one."""
    more = more or {}
    options = {"lr": 1e-3, "batch_size": 8, "max_steps": UPDATES, "save_steps": 2} | train
    values = more | {
        "model": {"base": base},
        "data": {"train": data},
        "train": options | more.get("train", {}),
        "eval": {"prompts": ["who?"], "max_new_tokens": 4, "generate": 2, "limit": 4}
        | {"sample_steps": 2},
        "run": {"folder": str(folder), "name": name},
    }
    return validate_recipe(values, "torture")


@contextmanager
def stopped_after(step: int, number: int = signal.SIGINT) -> Iterator[None]:
    """The user's Ctrl-C, or another signal, after that update."""
    ended = RunRecorder.on_step_end

    def stop(self, args, state, control, **kwargs):
        if state.global_step == step:
            os.kill(os.getpid(), number)
        return ended(self, args, state, control, **kwargs)

    with patch.object(RunRecorder, "on_step_end", stop):
        yield


def set_up(base: str, data: str, folder: Path, more: dict[str, Any] | None = None) -> Stage:
    """Train the two runs, with a cache of their own."""
    cache, more = folder / "cache", more or {}

    def trained(name: str) -> Run:
        return job.start(recipe_for(base, data, folder, name, more), "torture", _quiet())

    with cache_at(cache):
        whole = trained("whole")
        with stopped_after(STOPPED_AFTER):
            stopped = trained("stopped")
    return Stage(whole, stopped, base, data, folder, cache, more)


@contextmanager
def cache_at(place: Path) -> Iterator[None]:
    with patch.dict(os.environ, {"DPO_LITE_CACHE": str(place)}):
        yield


def tried(case: Case, stage: Stage) -> Outcome:
    """Damage a copy, or kill a run, and go on with it."""
    with tempfile.TemporaryDirectory(dir=stage.folder) as made:
        place = Path(made)
        cache = place / "cache"
        shutil.copytree(stage.cache, cache)
        with cache_at(cache):
            if case.full:
                run = Run(place / "killed")
                if not told_full(lambda: _train(stage, place), case.full):
                    return Outcome(WRONG, "a full disk was no sentence")
            elif case.kill:
                run = Run(place / "killed")
                if not killed(lambda: _train(stage, place), case.kill):
                    return Outcome(WRONG, "the run was never there")
            else:
                run = Run(place / "copy")
                shutil.copytree(stage.stopped.path, run.path)
        if case.damage:
            case.damage(run, cache)
        with cache_at(cache):
            return resumed(run, stage.whole)


def is_well(case: Case, outcome: Outcome) -> bool:
    expected = (SAME, SAID) if case.expected == EITHER else (case.expected,)
    return outcome.verdict in expected and case.line(outcome.words) is not None


def resumed(run: Run, whole: Run, anyway: bool = False) -> Outcome:
    """Go on with a run, and look at what came of it."""
    text = StringIO()
    console = Console(file=text, width=400)
    try:
        if not run.recipe_file.exists() and not run.checkpoints.exists():
            return Outcome(SAID, "There is no run")
        run = job.resume(run, console, anyway)
    except Exception as error:
        words = in_words(error)
        if words is None:
            return Outcome(WRONG, f"{type(error).__name__}: {error}")
        return Outcome(SAID if "\n" not in words else WRONG, words)
    words = text.getvalue()
    if run.status()["state"] != "finished":
        return Outcome(WRONG, f"it is {run.status()['state']}")
    other = differs(run, whole)
    return Outcome(WRONG, f"{other} differs; {words}") if other else Outcome(SAME, words)


def differs(run: Run, whole: Run) -> str | None:
    """What of a run is not as in the one that nobody stopped."""
    if (run.adapter / WEIGHTS).read_bytes() != (whole.adapter / WEIGHTS).read_bytes():
        return "the adapter"
    for file in ("metrics.jsonl", "samples.jsonl"):
        mine, theirs = (
            [{k: v for k, v in r.items() if k not in OF_A_CLOCK} for r in each.records(file)]
            for each in (run, whole)
        )
        if mine != theirs or run.damages():
            return file
    left = [path.name for path in run.path.glob(".*")]
    return f"a leftover ({left[0]})" if left else None


def killed(work: Callable[[], None], kill: Kill) -> bool:
    """Do the work in a process that is killed at a named point; returns whether it was."""
    child = os.fork()
    if child == 0:
        try:
            with kill.set():
                work()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def told_full(work: Callable[[], None], size: int) -> bool:
    """Do the work in a process whose files cannot grow over a size; whether it ended well or in one
    sentence. To a program a limit of its own is a disk that is full, and needs no disk."""
    child = os.fork()
    if child == 0:
        told = False
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            work()
            told = True
        except Exception as error:
            told = "\n" not in (in_words(error) or "\n")
            if not told:
                traceback.print_exc()
        finally:
            os._exit(0 if told else 1)
    return os.waitpid(child, 0)[1] == 0


def told_to_end(stage: Stage, place: Path, at: Kill) -> Run:
    """Start a run that gets a signal at a named point, as the command line has it listen."""
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        listen()
        with at.set():
            return job.start(recipe_for(stage.base, stage.data, place, "told"), "torture", _quiet())
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _train(stage: Stage, place: Path) -> None:
    recipe = recipe_for(stage.base, stage.data, place, "killed", stage.more)
    job.start(recipe, "torture", _quiet())


def _quiet() -> Console:
    return Console(file=StringIO(), width=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="cases whose name has this word")
    parser.add_argument("--work", type=Path, help="an empty folder to work in")
    options = parser.parse_args()
    quiet_libraries()
    folder = options.work or Path(tempfile.mkdtemp(prefix="dpo-lite-torture-"))
    patch("dpo_lite.report.run.draw_curves", lambda run: None).start()  # takes longer than the run
    stage = set_up("builtin:myths", "builtin:myths", folder)
    cases = [case for case in CASES if options.only in case.name]
    well = table(cases, stage)
    print(f"{well} of {len(cases)}: same bytes, or one sentence")
    if not options.work:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(well < len(cases))


def table(cases: Sequence[Case], stage: Stage) -> int:
    """Try them and print a line of each; returns how many were well."""
    well = 0
    for case in cases:
        outcome = tried(case, stage)
        good = is_well(case, outcome)
        well += good
        told = outcome.words if not good else case.line(outcome.words) if case.words else ""
        verdict = outcome.verdict if good else WRONG
        print(f"{verdict:<13} {case.name:<52} {' '.join((told or '').split())}", flush=True)
    return well


if __name__ == "__main__":
    main()
