"""`dpo-lite verify`: whether a run, or what somebody published of one, comes out the same."""

from __future__ import annotations

from typing import Annotated

import typer

from dpo_lite.cli.common import RunsFolder, app, console, say
from dpo_lite.imports import quick_imports


@app.command()
def verify(
    run: Annotated[str, typer.Argument(help="A run, a published folder, or a Hub id.")],
    updates: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="How many updates are replayed, at most.")
    ] = 10,
    runs: RunsFolder = "runs",
) -> None:
    """Replay a run's first updates from its recipe and compare what they measure.

    Example:  dpo-lite verify quickstart-1 --updates 20
    """
    with quick_imports():
        from dpo_lite.jobs import verify as job
    from dpo_lite.report.replay import verified_words

    verdict = job.verify(job.claim_of(run, runs), console, updates, say)
    for key, distance in verdict["apart"].items():
        say(f"{key:16} apart by at most {distance:.2g}")
    if verdict["adapter"] is not None:
        say(f"{'adapter':16} apart by {verdict['adapter']:.2g} of its largest weight")
    colour = "green" if verdict["reproduced"] else "yellow"
    console.print(verified_words(verdict), style=colour, highlight=False, markup=False)
    if not verdict["reproduced"]:
        raise typer.Exit(1)
