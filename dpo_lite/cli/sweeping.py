"""`dpo-lite sweep`: one recipe at several values, and what came of it."""

from __future__ import annotations

import sys
import threading
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from dpo_lite.cli.common import RecipeName, app, console, say


@app.command()
def sweep(
    recipe: RecipeName,
    overrides: Annotated[
        list[str],
        typer.Argument(
            help="Changes to the recipe; a key of several values, with commas between, is swept."
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(help="Name of the sweep; default: made of the recipe's and the keys'."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the runs.")] = False,
) -> None:
    """Train at every combination of some values, in turn, and compare.

    The same command again goes on where it was: finished runs are passed over.

    Example:  dpo-lite sweep quickstart train.beta=0.03,0.1,0.3
    Example:  dpo-lite sweep qwen3-4b train.beta=0.05,0.1 --dry-run
    """
    from dpo_lite.studies.sweep import plan_sweep, run_sweep

    planned = plan_sweep(recipe, overrides, name, say)
    if dry_run:
        for point in planned.points:
            state = point.run.status()["state"] if point.run.path.exists() else "to train"
            console.print(f"{point.run.name}  {state}", markup=False, highlight=False)
        return

    from dpo_lite.report.sweep import write_sweep
    from dpo_lite.runs.system import listen
    from dpo_lite.runs.transcript import Transcript

    if threading.current_thread() is threading.main_thread():
        listen()
    names = [point.run.name for point in planned.points]

    def rule(text: str) -> None:
        console.rule(Text(text), align="left", style="dim")

    try:
        done = run_sweep(
            planned,
            rule,
            lambda: Transcript(verbose=False),
            after=lambda run: write_sweep(planned.path, names),
            command=["dpo-lite", *sys.argv[1:]],
        )
    except KeyboardInterrupt:
        done = False
    if planned.path.is_dir():
        _print_rows(write_sweep(planned.path, names), planned.path)
    if not done:
        console.print("stopped and saved. The same command goes on.")
        raise typer.Exit(130)


def _print_rows(rows, path) -> None:
    from dpo_lite.rates import explained
    from dpo_lite.report.sweep import cells
    from dpo_lite.report.sweep_best import verdict

    head, body = cells(rows)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, column in enumerate(head):
        table.add_column(column, justify="left" if place <= len(rows[0].values) else "right")
    for line in body:
        table.add_row(*map(Text, line))
    console.print()
    console.print(table)
    if words := explained(map(" ".join, body)):
        console.print(words, style="dim", highlight=False)
    console.print()
    if words := verdict(rows):
        console.print(words, markup=False, highlight=False)
    console.print(f"table    {path / 'table.md'}", markup=False, highlight=False)
    if (path / "sweep.png").is_file():
        console.print(f"picture  {path / 'sweep.png'}", markup=False, highlight=False)
