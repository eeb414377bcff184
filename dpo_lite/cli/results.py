"""The last screen of a run: what changed, where the adapter is, what to try next."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from dpo_lite.files import read_json
from dpo_lite.recipe import load_recipe
from dpo_lite.report.advise import advise_run
from dpo_lite.report.reward import COLUMNS
from dpo_lite.report.run import memory_rows, result_rows, sample_pairs
from dpo_lite.runs.folder import Run


def print_results(run: Run, console: Console) -> None:
    """The last screen: what changed, where the adapter is, what to try next."""
    if load_recipe(run.recipe_file).task == "rlhf":
        from dpo_lite.report.rlhf import print_road  # which needs this file

        print_road(run, console)
        return
    results = read_json(run.path / "results.json")
    reward = load_recipe(run.recipe_file).task == "reward"
    table = Table(title=None, box=None, pad_edge=False)
    columns = ("held-out set", "measure", *(COLUMNS if reward else ("before", "after")))
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place < len(columns) - 1 else "right")
    for name, metrics in results["sets"].items():
        for position, row in enumerate(result_rows(metrics)[:4]):
            table.add_row(name if position == 0 else "", *row)
    console.print(table)
    console.print()
    for prompt, before, after in sample_pairs(run, 3):
        console.print(f"[bold]{_escape(prompt)}[/]")
        console.print(f"  before  {before}", style="dim", markup=False, highlight=False)
        console.print(f"  after   {after}", markup=False, highlight=False)
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
        f"took     {results['seconds']:.0f} s",
        highlight=False,
        markup=False,
    )
    console.print("\nnext", style="bold")
    first = (
        f"  dpo-lite score {run.path} DATA              the reward of any responses\n"
        f'  dpo-lite best-of {run.path} --prompt "..."   answers of the base, ranked\n'
        if reward
        else f'  dpo-lite compare {run.path} --prompt "..."   both models side by side\n'
    )
    console.print(
        f"{first}"
        f"  dpo-lite eval {run.path}                    score the held-out sets again\n"
        f"  dpo-lite push {run.path} --repo user/name   publish the adapter on the Hub",
        highlight=False,
        markup=False,
    )


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
