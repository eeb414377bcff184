"""`dpo-lite runs`: what there is on disk."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.table import Table

from dpo_lite.cli.common import app, console


@app.command()
def runs(folder: Annotated[str, typer.Argument(help="Where the runs are.")] = "runs") -> None:
    """All runs, newest first, read from disk.

    Example:  dpo-lite runs
    """
    from dpo_lite.report import clock
    from dpo_lite.runs import list_runs

    found = list_runs(folder)
    if not found:
        console.print(f"no runs in {folder}/ yet;  dpo-lite train quickstart")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("run", "state", "step", "loss", "margin", "accuracy", "left", "started"):
        table.add_column(column)
    for run in found:
        status = run.status()
        step = f"{status['step']}/{status['max_steps']}" if "step" in status else "–"
        numbers = [status.get(key) for key in ("loss", "margin", "accuracy")]
        left = status.get("seconds_left")
        started = status.get("started")
        table.add_row(
            run.name,
            status["state"],
            step,
            *("–" if number is None else f"{number:.3f}" for number in numbers),
            clock(left) if left else "–",
            time.strftime("%Y-%m-%d %H:%M", time.localtime(started)) if started else "–",
        )
    console.print(table)
