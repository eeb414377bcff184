"""The last screen of a run: what changed, where the adapter is, what to try next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from dpo_lite.names import is_public
from dpo_lite.rates import explained
from dpo_lite.recipe import load_recipe
from dpo_lite.report import suite
from dpo_lite.report.advise import advise_run
from dpo_lite.report.rlhf import COLOURS, PICTURE, points_of, terminal_table
from dpo_lite.report.run import answered, memory_rows
from dpo_lite.runs.folder import UNTRAINED, Run
from dpo_lite.tasks import TASKS


def print_results(run: Run, console: Console) -> None:
    """The last screen: what changed, where the adapter is, what to try next."""
    task = TASKS[load_recipe(run.recipe_file).task]
    if task.composed:
        print_steps(run, console)
        return
    results = run.results()
    table = Table(title=None, box=None, pad_edge=False)
    head, rows = task.table(results["sets"])
    for place, column in enumerate(("held-out set", *head[1:])):
        table.add_column(column, justify="left" if place < 2 else "right")
    for name in results["sets"]:
        for place, (_, *cells) in enumerate([row for row in rows if row[0] == name][:4]):
            table.add_row(name if place == 0 else "", *cells)
    console.print(table)
    if words := explained(map(" ".join, rows)):
        console.print(words, style="dim", highlight=False)
    console.print()
    if entries := suite.read_suite(run.path):
        print_suite(entries, console)
        console.print()
    for prompt, answers in answered(run, 3):
        console.print(f"[bold]{_escape(prompt)}[/]")
        for who, text in answers.items():
            style = None if who == "policy" else "dim"
            console.print(f"  {who:<9}  {text}", style=style, markup=False, highlight=False)
    console.print()
    for advice in advise_run(run):
        console.print(advice.text, markup=False, highlight=False)
    console.print()
    memory = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    memory.add_column("memory, MiB")
    for column in ("predicted", "measured"):
        memory.add_column(column, justify="right")
    for row in memory_rows(results):
        memory.add_row(*row, style="dim")
    console.print(memory)
    console.print()
    console.print(
        f"adapter  {run.adapter}\nreport   {run.path / 'report.md'}\n"
        f"took     {results.get('seconds', 0):.0f} s",
        highlight=False,
        markup=False,
    )
    if results.get(UNTRAINED):
        return
    console.print("\nnext", style="bold")
    for command, what in _next_steps(run):
        console.print(f"  {command}", highlight=False, markup=False, soft_wrap=True)
        console.print(f"    {what}", style="dim")


def print_suite(entries: Sequence[dict[str, Any]], console: Console) -> None:
    """Tasks of lm-evaluation-harness and the forgetting check; nothing where none was asked."""
    if not entries:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, column in enumerate(suite.HEAD):
        table.add_column(column, justify="right" if place in (2, 3) else "left")
    for entry in entries:
        for row in suite.cells(entry):
            table.add_row(*map(_escape, row))
    console.print(table)
    for words in (*map(suite.sentence, entries), suite.EXPLAINED):
        console.print(words, style="dim", markup=False, highlight=False)


def _next_steps(run: Run) -> list[tuple[str, str]]:
    """Commands to go on with, as the shell takes them, and what they do."""
    path, recipe = shlex.quote(str(run.path)), load_recipe(run.recipe_file)
    steps = TASKS[recipe.task].next_steps(path)
    if recipe.hub.base_id or is_public(recipe.model.base):  # else a push could name no base
        push = f"dpo-lite push {path} --repo user/name"
        steps.append((f"{push} --dry-run", "what would be published on the Hub"))
    return steps


def print_steps(run: Run, console: Console) -> None:
    """Of a run of runs: the table, the picture, and what to do with a step."""
    policies = [point["run"] for point in points_of(run) if point["kind"] in COLOURS]
    console.print(terminal_table(run))
    console.print(
        f"\npicture  {run.path / PICTURE}\nreport   {run.path / 'report.md'}\n\nnext\n"
        + "".join(
            f"  dpo-lite compare {run.path.parent / name}\n"
            for name in policies[:1] + policies[-1:]
        ),
        markup=False,
        highlight=False,
    )


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
