"""`dpo-lite train`."""

from __future__ import annotations

from typing import Annotated

import typer

from dpo_lite.cli.common import Overrides, app, console
from dpo_lite.errors import UserError
from dpo_lite.quiet import quiet_progress_bars


@app.command()
def train(
    recipe: Annotated[str | None, typer.Argument(help="A recipe's file or name.")] = None,
    overrides: Overrides = None,
    resume: Annotated[
        str | None, typer.Option(help="Go on with this run from its last checkpoint.")
    ] = None,
) -> None:
    """Train: data, preflight, answers before, training, evaluation, answers after.

    Example:  dpo-lite train quickstart train.beta=0.05
    Example:  dpo-lite train --resume runs/quickstart-1
    """
    from dpo_lite.recipe import load_recipe
    from dpo_lite.report import print_results
    from dpo_lite.runs import open_run
    from dpo_lite.training import job

    quiet_progress_bars()
    if resume and (recipe or overrides):
        raise UserError(
            "--resume goes on with the run's own recipe; leave the recipe and the overrides away."
        )
    if resume:
        run = job.resume(open_run(resume), console)
    elif recipe:
        loaded = load_recipe(recipe, overrides or [])
        run = job.start(loaded, job.recipe_stem(recipe), console)
    else:
        raise UserError("Which recipe? `dpo-lite recipes` lists them; `dpo-lite train quickstart`.")
    if run.status()["state"] == "stopped":
        console.print(f"stopped and saved. Go on with:  dpo-lite train --resume {run.path}")
        raise typer.Exit(130)
    print_results(run, console)
