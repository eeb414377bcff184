"""`dpo-lite train`."""

from __future__ import annotations

import threading
from typing import Annotated

import typer

from dpo_lite.cli.common import Overrides, app, console, say
from dpo_lite.errors import UserError


@app.command()
def train(
    recipe: Annotated[str | None, typer.Argument(help="A recipe's file or name.")] = None,
    overrides: Overrides = None,
    resume: Annotated[
        str | None, typer.Option(help="Go on with this run from its last checkpoint.")
    ] = None,
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
    """
    if resume and (recipe or overrides):
        raise UserError(
            "--resume goes on with the run's own recipe; leave the recipe and the overrides away."
        )
    if not resume and not recipe:
        raise UserError("Which recipe? `dpo-lite recipes` lists them; `dpo-lite train quickstart`.")
    if detach:
        _detach(recipe, overrides or [], resume)
        return
    run = _resume(resume) if resume else _start(recipe, overrides or [], verbose)
    if run.status()["state"] == "stopped":
        console.print(f"stopped and saved. Go on with:  dpo-lite train --resume {run.path}")
        raise typer.Exit(130)

    from dpo_lite.cli.results import print_results

    print_results(run, console)


def _start(recipe: str, overrides: list[str], verbose: bool):
    from dpo_lite.recipe import load_recipe, recipe_stem
    from dpo_lite.runs.transcript import Transcript
    from dpo_lite.tasks import TASKS

    loaded = load_recipe(recipe, overrides, say)
    return TASKS[loaded.task].run.start(loaded, recipe_stem(recipe), Transcript(verbose))


def _resume(name: str):
    """Also what a detached run is: it can be stopped from its first moment on."""
    from dpo_lite.runs.folder import open_run, recorded
    from dpo_lite.runs.system import listen
    from dpo_lite.runs.transcript import Transcript

    if threading.current_thread() is threading.main_thread():
        listen()
    run = open_run(name)
    run.take_up()

    def work():
        from dpo_lite.recipe import load_recipe
        from dpo_lite.tasks import TASKS

        return TASKS[load_recipe(run.recipe_file).task].run.resume(run, Transcript())

    return recorded(run, work)


def _detach(recipe: str | None, overrides: list[str], resume: str | None) -> None:
    from dpo_lite.recipe import load_recipe, recipe_stem
    from dpo_lite.runs import processes
    from dpo_lite.runs.folder import open_run
    from dpo_lite.runs.rlhf_steps import first_look

    if resume:
        run = open_run(resume)
        processes.resume(run)
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
