"""What is done with a trained run: `eval`, `compare`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from dpo_lite.cli.common import RunsFolder, app, console
from dpo_lite.quiet import quiet_progress_bars


@app.command("eval")
def evaluate(run: str, runs: RunsFolder = "runs") -> None:
    """Score a run's adapter on its held-out sets again, with answers.

    Example:  dpo-lite eval quickstart-1
    """
    from dpo_lite.report import print_results
    from dpo_lite.runs import open_run
    from dpo_lite.training import job

    quiet_progress_bars()
    found = open_run(run, runs)
    job.evaluate_again(found, console)
    print_results(found, console)


@app.command()
def compare(
    run: str,
    prompt: Annotated[list[str] | None, typer.Option(help="Ask this; may be repeated.")] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    seed: int = 0,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 64,
    runs: RunsFolder = "runs",
) -> None:
    """Reference and policy side by side, from one loaded base.

    Example:  dpo-lite compare quickstart-1 --prompt "Are bats blind?"
    """
    from dpo_lite.comparison import compare_answers
    from dpo_lite.runs import open_run

    quiet_progress_bars()
    found = open_run(run, runs)
    with console.status("loading the base"):
        rows = compare_answers(
            found, prompt or [], temperature=temperature, seed=seed, max_new_tokens=max_new_tokens
        )
    table = Table(show_lines=True)
    for column in ("prompt", "reference", "policy", "implicit reward of each answer"):
        table.add_column(column, ratio=3 if column != "prompt" else 2, overflow="fold")
    for row in rows:
        table.add_row(
            escape(row.prompt),
            escape(row.reference),
            escape(row.policy),
            f"reference's {row.reference_reward:+.2f}\npolicy's {row.policy_reward:+.2f}",
        )
    console.print(table)
