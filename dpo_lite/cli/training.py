"""`dpo-lite train`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated

import typer
from rich.console import Console

from dpo_lite.cli.common import Overrides, app, console, join, say
from dpo_lite.errors import UserError
from dpo_lite.training import launcher, ranks


@app.command()
def train(
    recipe: Annotated[str | None, typer.Argument(help="A recipe's file or name.")] = None,
    overrides: Overrides = None,
    resume: Annotated[
        str | None, typer.Option(help="Go on with this run from its last checkpoint.")
    ] = None,
    anyway: Annotated[
        bool,
        typer.Option(
            "--anyway",
            help="With --resume: go on although recipe, data or versions are others by now.",
        ),
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Train in the background; the terminal may close.")
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="Print the whole data report."),
    ] = False,
) -> None:
    """Train: data, preflight, answers before, training, evaluation, answers after.

    Example:  dpo-lite train quickstart train.beta=0.05
    Example:  dpo-lite train quickstart --detach
    Example:  dpo-lite train --resume runs/quickstart-1
    Example:  torchrun --nproc-per-node 2 -m dpo_lite train quickstart
    """
    if detach and launcher.launched():
        raise UserError("--detach starts a run of its own; leave it away under a launcher.")
    join()
    if resume and (recipe or overrides):
        raise UserError(
            "--resume goes on with the run's own recipe; leave the recipe and the overrides away."
        )
    if anyway and not resume:
        raise UserError("--anyway goes with --resume; leave it away, or name the run.")
    if not resume and not recipe:
        raise UserError("Which recipe? `dpo-lite recipes` lists them; `dpo-lite train quickstart`.")
    if detach:
        _detach(recipe, overrides or [], resume, anyway)
        return
    run = _resume(resume, anyway) if resume else _start(recipe, overrides or [], verbose)
    writes, alone = ranks.first(), ranks.alone()
    ranks.leave()
    if not writes:
        return
    if run.status()["state"] == "stopped":
        console.print(f"stopped and saved. Go on with:  dpo-lite train --resume {run.path}")
        # A launcher would take the code of a stopped command for one that failed.
        raise typer.Exit(130 if alone else 0)

    from dpo_lite.cli.results import print_results

    print_results(run, console)


def _start(recipe: str, overrides: list[str], verbose: bool):
    from dpo_lite.jobs import launch
    from dpo_lite.recipe import load_recipe, recipe_stem
    from dpo_lite.runs.room import check_output

    _listen()
    loaded = load_recipe(recipe, overrides, say)
    # In a second, before the libraries take their time.
    ranks.of_first(lambda: check_output(loaded.run.folder, loaded.run.name))
    stem, screen = recipe_stem(recipe), _screen(verbose)
    with _in_line(loaded, lambda: launch.device(f"dpo-lite train {stem}", screen.print)):
        return _runner(loaded).start(loaded, stem, screen)


def _resume(name: str, anyway: bool):
    """Also what a detached run is: it can be stopped from its first moment on."""
    from dpo_lite.runs.folder import open_run
    from dpo_lite.runs.watched import Watched, recorded

    _listen()
    run = open_run(name)
    run = run if ranks.first() else Watched(run.path)
    screen = _screen()
    for text in ranks.of_first(run.take_up):
        screen.print(text, markup=False, highlight=False)

    def work():
        from dpo_lite.jobs import launch
        from dpo_lite.recipe import load_recipe
        from dpo_lite.runs.room import check_output

        recipe = load_recipe(run.recipe_file)
        ranks.of_first(lambda: check_output(run.path))
        with _in_line(recipe, lambda: launch.turn(run, screen.print)):
            return _runner(recipe).resume(run, screen, anyway)

    return recorded(run, work)


def _in_line(recipe, device: Callable[[], AbstractContextManager[None]]):
    """Wait for the device before the libraries are imported: fifty runs in line then take a
    gigabyte in all, and not each a third of one.

    A run of runs does not hold it, for its runs do; several processes settle it between them.
    """
    from dpo_lite.tasks import TASKS

    return device() if ranks.alone() and not TASKS[recipe.task].composed else nullcontext()


def _listen() -> None:
    """Hear from now on when the run is to stop: it is written down how it ended."""
    from dpo_lite.runs.system import listen

    if threading.current_thread() is threading.main_thread():
        listen()


def _runner(recipe):
    """The module that takes the recipe's run through."""
    from dpo_lite.tasks import TASKS

    task = TASKS[recipe.task]
    if task.composed and not ranks.alone():
        raise UserError(
            f"task: {task.name} is made of runs; start it without a launcher, or launch its steps"
            " one by one."
        )
    return task.run


def _screen(verbose: bool = True) -> Console:
    """Where a run prints: of processes that train together the first one does."""
    from dpo_lite.runs.transcript import Transcript

    if ranks.first():
        return Transcript(verbose)
    return Console(file=open(os.devnull, "w", encoding="utf-8"))


def _detach(recipe: str | None, overrides: list[str], resume: str | None, anyway: bool) -> None:
    from dpo_lite.recipe import load_recipe, recipe_stem
    from dpo_lite.runs import processes
    from dpo_lite.runs.folder import open_run
    from dpo_lite.runs.rlhf_steps import first_look

    if resume:
        run = open_run(resume)
        processes.resume(run, anyway)
    else:
        loaded = load_recipe(recipe, overrides, say)
        first_look(loaded, recipe_stem(recipe))  # a fault in a step is told here, not in its log
        run = processes.launch(loaded, recipe_stem(recipe))
    where = "" if run.path.parent.name == "runs" else f" --runs {run.path.parent}"
    console.print(
        f"{run.name} runs in the background\n"
        f"  dpo-lite runs show {run.name}{where}   how it stands\n"
        f"  dpo-lite runs stop {run.name}{where}   finish the update, save and stop",
        markup=False,
        highlight=False,
    )
