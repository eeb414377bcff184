"""`dpo-lite eval`."""

from __future__ import annotations

from dpo_lite.cli.common import RunsFolder, app, console
from dpo_lite.imports import quick_imports


@app.command("eval")
def evaluate(run: str, runs: RunsFolder = "runs") -> None:
    """Score a run's adapter on its held-out sets again, with answers.

    Example:  dpo-lite eval quickstart-1
    """
    from dpo_lite.runs.folder import open_run

    trained = open_run(run, runs)
    with quick_imports():
        from dpo_lite.jobs import train as job
    from dpo_lite.cli.results import print_results

    job.evaluate_again(trained, console)
    print_results(trained, console)
