"""`dpo-lite runs`: list, show, stop, rename and delete what is on disk."""

from __future__ import annotations

import time
from functools import cache
from typing import Annotated

import typer
from rich.markup import escape

from dpo_lite.cli.common import RunName, RunsFolder, app, console, say

runs_app = typer.Typer(
    help="List, show, stop, rename and delete runs.  Example:  dpo-lite runs show quickstart-1"
)
app.add_typer(runs_app, name="runs")

NEWEST = 100  # runs of a list
STYLES = {"good": "green", "warn": "yellow", "bad": "red", "info": "dim"}


@runs_app.callback(invoke_without_command=True)
def runs(
    context: typer.Context,
    folder: Annotated[str, typer.Option("--runs", help="Where the runs are.")] = "runs",
    every: Annotated[
        bool,
        typer.Option(
            "--all", help=f"All of them, not the newest {NEWEST} and those at work alone."
        ),
    ] = False,
) -> None:
    """The runs, newest first, read from disk.

    Example:  dpo-lite runs
    """
    if context.invoked_subcommand is not None:
        return
    from dpo_lite.report.metrics import columns_of, number_text
    from dpo_lite.report.words import clock
    from dpo_lite.runs.folder import ACTIVE, list_runs

    there = [(run, run.status()) for run in list_runs(folder)]
    if not there:
        say(f"no runs in {folder}/ yet;  dpo-lite train quickstart")
        return
    older = [] if every else there[NEWEST:]
    at_work = [found for found in older if found[1]["state"] in ACTIVE]
    listed, statuses = zip(*there[: len(there) - len(older)], *at_work, strict=True)
    numbers = columns_of(statuses)
    gap = 2 if len(numbers) < 4 else 1  # a terminal of 80 letters shows whole names
    on_its_way = any(status.get("seconds_left") for status in statuses)
    right = [*(number.label for number in numbers), *(["left"] if on_its_way else [])]
    rows = [["run", "state", "step", *right, "started"]]
    for run, status in zip(listed, statuses, strict=True):
        step = f"{status['step']}/{status['max_steps']}" if "step" in status else "–"
        left = status.get("seconds_left")
        started = status.get("started")
        rows.append(
            [
                run.name,
                "stopping" if status.get("stopping") else status["state"],
                step,
                *(number_text(status, number) for number in numbers),
                *([clock(left) if left else "–"] if on_its_way else []),
                time.strftime("%d %b %H:%M", time.localtime(started)) if started else "–",
            ]
        )
    heading, _, others = in_columns(rows, 3, len(right), gap).partition("\n")
    console.print(heading, style="bold", markup=False, highlight=False, no_wrap=True)
    console.print(others, markup=False, highlight=False, no_wrap=True, overflow="ellipsis")
    if hidden := len(older) - len(at_work):
        say(f"and {hidden:,} older;  dpo-lite runs --all")


def in_columns(rows: list[list[str]], left: int, right: int, gap: int) -> str:
    """Rows of text as lines: ``left`` columns to the left, then ``right`` ones to the right, and
    the rest to the left. Rich's own table takes longer for a hundred rows than all else."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            text.rjust(width) if left <= place < left + right else text.ljust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append((" " * gap).join(cells).rstrip())
    return "\n".join(lines)


@runs_app.command()
def show(
    run: RunName,
    lines: Annotated[
        int, typer.Option(min=0, max=10_000, help="How many last lines of the log.")
    ] = 10,
    runs: RunsFolder = "runs",
) -> None:
    """How a run stands: progress, curves in small, what they mean, the end of its log.

    Of a run of runs (task: rlhf) its runs and the table of what came of them.

    Example:  dpo-lite runs show quickstart-1
    """
    from dpo_lite.cli.results import print_suite
    from dpo_lite.rates import LOGGED_OF
    from dpo_lite.recipe import load_recipe
    from dpo_lite.report.advise import advise
    from dpo_lite.report.suite import read_suite
    from dpo_lite.report.words import clock, sparkline
    from dpo_lite.runs.folder import open_run
    from dpo_lite.runs.lines import METRICS, updates
    from dpo_lite.tasks import TASKS

    opened = open_run(run, runs)
    loaded = load_recipe(opened.recipe_file)
    status, task = opened.status(), TASKS[loaded.task]
    words = ["stopping" if status.get("stopping") else status["state"]]
    if "step" in status:
        words.append(f"{task.unit} {status['step']} of {status['max_steps']}")
    if status.get("seconds_left"):
        words.append(f"{clock(status['seconds_left'])} left")
    if status.get("doing"):
        words.append(status["doing"])
    console.print(f"{opened.name}  {', '.join(words)}", markup=False, highlight=False)
    if task.composed:
        _print_steps(opened)
    read = cache(opened.followed)
    metrics = read(METRICS)
    steps = updates(metrics.records)
    for key in task.in_small:
        values = [record[key] for record in steps if record.get(key) is not None]
        if values:
            curve = f"{key:<19}{sparkline(values)}  {values[0]:.3f} → {values[-1]:.3f}"
            pairs = steps[-1].get(LOGGED_OF.get(key, ""))
            curve += f" of {pairs:,}" if pairs else ""
            console.print(curve, markup=False, highlight=False)
    for damage in opened.damages(read):
        console.print(damage, markup=False, highlight=False, style="yellow")
    recipe = loaded.model_dump()
    for advice in advise(recipe, status, metrics.records, opened.results()):
        console.print(f"[{STYLES[advice.kind]}]{escape(advice.text)}[/]", highlight=False)
    print_suite(read_suite(opened.path), console)
    for line in opened.log_tail(lines):
        console.print(f"  {line}", markup=False, highlight=False, style="dim")


def _print_steps(rlhf_run) -> None:
    """The runs of an RLHF run, each with its state, and the table of those that are measured."""
    from dpo_lite.report.rlhf import POINTS, terminal_table
    from dpo_lite.runs.rlhf_steps import steps_of

    for run, status in steps_of(rlhf_run):
        step = f"  {status['step']} of {status['max_steps']}" if "step" in status else ""
        console.print(f"  {run.name}  {status['state']}{step}", markup=False, highlight=False)
    if rlhf_run.records(POINTS):
        console.print()
        console.print(terminal_table(rlhf_run))
        console.print()


@runs_app.command()
def stop(run: RunName, runs: RunsFolder = "runs") -> None:
    """Finish the update, save and stop; twice breaks off.

    Example:  dpo-lite runs stop quickstart-1
    """
    from dpo_lite.runs import processes
    from dpo_lite.runs.folder import open_run

    console.print(processes.stop(open_run(run, runs)), markup=False, highlight=False)


@runs_app.command()
def rename(
    run: RunName,
    name: Annotated[str, typer.Argument(help="Its new name.")],
    runs: RunsFolder = "runs",
) -> None:
    """Give a run another name.

    Example:  dpo-lite runs rename quickstart-1 gentle
    """
    from dpo_lite.runs import processes
    from dpo_lite.runs.folder import open_run

    console.print(f"→ {processes.rename(open_run(run, runs), name).path}", markup=False)


@runs_app.command()
def delete(
    run: RunName,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    runs: RunsFolder = "runs",
) -> None:
    """Remove a run with its adapter and checkpoints. It cannot be brought back.

    Of a run of runs (task: rlhf) it removes the table and the picture; the runs stay.

    Example:  dpo-lite runs delete quickstart-1
    """
    from dpo_lite.runs import processes
    from dpo_lite.runs.folder import open_run

    opened = open_run(run, runs)
    if not yes:
        typer.confirm(f"Delete {opened.path} with {processes.what_is_deleted(opened)}?", abort=True)
    processes.delete(opened)
    console.print(f"deleted {opened.path}", markup=False)
