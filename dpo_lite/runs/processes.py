"""Runs as processes of their own: start, stop, resume, rename, delete. They outlive who asked.

A launched run is `dpo-lite train --resume FOLDER` on a folder that holds nothing but the frozen
recipe, so page, terminal and a run that goes on are one code path. Its output goes into the run's
log.txt: a pipe would fill up and hold the training when nobody reads it any more.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

from dpo_lite.errors import UserError, disk_faults_told
from dpo_lite.files import safe_name, write_text
from dpo_lite.recipe import Recipe, load_recipe, to_yaml
from dpo_lite.runs.folder import ACTIVE, Run, create_run
from dpo_lite.runs.mending import refuse_folders
from dpo_lite.runs.system import apart, interrupt
from dpo_lite.tasks import TASKS

PACKAGE_PARENT = Path(__file__).resolve().parents[2]
NOT_FOR_RUNS = ("DPO_LITE_PASSWORD",)  # HF_TOKEN stays: a base behind a licence needs it


@disk_faults_told()
def launch(recipe: Recipe, stem: str, folder: str | Path | None = None) -> Run:
    """Make a run folder with the frozen recipe and start it; it waits for the device by itself.

    ``folder``: where runs are, if not where the recipe says. Returns at once. Raises UserError
    where the name is taken.
    """
    frozen = recipe.model_copy(deep=True)
    frozen.run.folder = str(folder or recipe.run.folder)
    run = create_run(frozen.run.folder, frozen.run.name, stem)
    frozen.run.name = run.name
    run.update_status(state="queued", launched=time.time(), doing="starting")
    write_text(run.recipe_file, to_yaml(frozen))
    _start(run)
    return run


@disk_faults_told()
def resume(run: Run, anyway: bool = False) -> None:
    """Go on with a stopped, failed or interrupted run, detached; ``anyway`` as dpo_lite.jobs.train
    has it. Raises UserError where its files cannot be written."""
    status = run.status()
    if status["state"] in (*ACTIVE, "finished"):
        raise UserError(f"{run.name} is {status['state']}; there is nothing to resume.")
    refuse_folders(run.path)
    run.update_status(state="queued", launched=time.time(), pid=None, error=None, doing="starting")
    _start(run, anyway)


def command(run: Run, anyway: bool = False) -> list[str]:
    """The command line that a launched run is, as a user would type it."""
    return ["dpo-lite", "train", "--resume", str(run.path), *["--anyway"] * anyway]


def stop(run: Run, patience: float = 15.0) -> str:
    """Ask a run to stop: it finishes its update and saves. Returns what will happen, in words.

    Before its first update it ends at once. Asked twice, it breaks off without saving.
    """
    status = run.status()
    if status["state"] not in ACTIVE:
        raise UserError(f"{run.name} is {status['state']}; there is nothing to stop.")
    deadline = time.time() + patience
    while status.get("pid") is None and time.time() < deadline:  # on its way
        time.sleep(0.1)
        status = run.status()
    if status["state"] not in ACTIVE or status.get("pid") is None:
        raise UserError(f"{run.name} has not started; look at {run.path / 'log.txt'}.")
    again = run.stop_mark.exists()
    run.stop_mark.touch()
    try:
        interrupt(status["pid"])
    except ProcessLookupError:
        return f"{run.name} has ended by itself."
    except PermissionError:
        if not again:
            run.stop_mark.unlink()
        raise UserError(
            f"{run.name} (process {status['pid']}) cannot be reached from here; stop it as the user"
            " and in the terminal, or on the page, that started it."
        ) from None
    if again:
        return f"{run.name} breaks off now; it can go on from its last checkpoint."
    if status["state"] == "running":
        return f"{run.name} finishes its update, saves and stops. It can go on later."
    return f"{run.name} stops before its first update."


def rename(run: Run, name: str) -> Run:
    """Give a run that is not at work another name."""
    _refuse_active(run, "rename")
    if TASKS[load_recipe(run.recipe_file).task].composed:
        raise UserError(f"{run.name} is made of runs that are named after it; it keeps its name.")
    target = run.path.parent / safe_name(name)
    if target.exists():
        raise UserError(f"{target} exists; choose another name.")
    run.path.rename(target)
    renamed = Run(target)
    recipe = load_recipe(renamed.recipe_file)
    recipe.run.name = name
    made = renamed.recipe_file.stat().st_mtime  # by which runs are listed
    write_text(renamed.recipe_file, to_yaml(recipe))
    os.utime(renamed.recipe_file, (made, made))
    return renamed


def delete(run: Run) -> None:
    """Remove a run that is not at work, with its adapter and checkpoints; of a run made of
    runs its table and picture alone, for its steps are runs that stand beside it."""
    _refuse_active(run, "delete")
    # Under another name first: a reader sees the run whole or not at all.
    doomed = run.path.with_name(f".deleted-{run.name}-{os.getpid()}-{time.time_ns()}")
    run.path.rename(doomed)
    if doomed.is_symlink():  # what it leads to is not of this folder
        doomed.unlink()
    else:
        shutil.rmtree(doomed)


def what_is_deleted(run: Run) -> str:
    """What goes with a run that is deleted, in words."""
    with contextlib.suppress(UserError):  # a recipe that cannot be read any more is no hindrance
        if TASKS[load_recipe(run.recipe_file).task].composed:
            return "its table and picture (its runs stay)"
    return "its adapter and checkpoints"


def _refuse_active(run: Run, what: str) -> None:
    state = run.status()["state"]
    if state in ACTIVE:
        raise UserError(f"{run.name} is {state}; stop it before you {what} it.")


def attached(run: Run, anyway: bool = False) -> subprocess.Popen:
    """Start a run as a child of this process that writes where this one does; Ctrl-C reaches it
    only by ``stop``."""
    return subprocess.Popen(_arguments(run, anyway), env=_environment(), **apart())


def _arguments(run: Run, anyway: bool) -> list[str]:
    return [sys.executable, "-m", "dpo_lite", *command(run, anyway)[1:]]


def _environment() -> dict[str, str]:
    path = [str(PACKAGE_PARENT), *filter(None, [os.environ.get("PYTHONPATH")])]
    inherited = {k: v for k, v in os.environ.items() if k not in NOT_FOR_RUNS}
    return inherited | {"PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}


def in_background(arguments: list[str], log: IO[bytes]) -> subprocess.Popen:
    """A command of ours (without its first word) that writes into a file and that nobody's end
    reaches, neither the page's nor the terminal's."""
    plain = {"PYTHONIOENCODING": "utf-8", "COLUMNS": "100", "NO_COLOR": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "dpo_lite", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=_environment() | plain,
        **apart(),
    )


def _start(run: Run, anyway: bool = False) -> None:
    run.log(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {' '.join(command(run, anyway))}")
    with open(run.path / "log.txt", "ab") as log:
        process = in_background(command(run, anyway)[1:], log)
    # Whoever stays on as its parent (the page) asks how it ended, so that no dead entry is left.
    threading.Thread(target=process.wait, daemon=True).start()
