"""`dpo-lite eval`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpo_lite.bounded import MAX_COUNT, MAX_SEED
from dpo_lite.cli.common import RunName, RunsFolder, app, console, say
from dpo_lite.errors import UserError
from dpo_lite.imports import quick_imports

if TYPE_CHECKING:
    from dpo_lite.runs.folder import Run


@app.command("eval")
def evaluate(
    run: RunName,
    suite: Annotated[
        str | None,
        typer.Option(
            help="Tasks of lm-evaluation-harness, with commas between: arc_easy,ifeval. forgetting,"
            " or forgetting:FILE, is the perplexity of other text."
        ),
    ] = None,
    forgetting: Annotated[
        bool, typer.Option("--forgetting", help="As `--suite forgetting`.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, max=MAX_COUNT, help="The first N items of each task.")
    ] = None,
    fewshot: Annotated[
        int | None,
        typer.Option(min=0, max=1000, help="Solved examples in front, where a task allows it."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=MAX_SEED, help="Which examples stand in front; default: the harness's own."
        ),
    ] = None,
    chat: Annotated[
        bool | None,
        typer.Option(
            "--chat/--no-chat", help="By the chat template; default: where answers are generated."
        ),
    ] = None,
    task_folder: Annotated[
        str | None,
        typer.Option(help="Tasks of your own as YAML; Python that they name is run."),
    ] = None,
    runs: RunsFolder = "runs",
) -> None:
    """Score a run's adapter on its held-out sets again, or on tasks that others know.

    With --suite each task is asked twice, as reference and as policy. The same
    command again asks what is missing.

    Example:  dpo-lite eval quickstart-1
    Example:  dpo-lite eval quickstart-1 --suite arc_easy,ifeval --limit 200
    Example:  dpo-lite eval quickstart-1 --forgetting
    """
    from dpo_lite.runs.folder import open_run

    trained = open_run(run, runs)
    names = [name.strip() for name in (suite or "").split(",") if name.strip()]
    names += ["forgetting"] if forgetting and "forgetting" not in names else []
    if names:
        from dpo_lite.evaluate.suite import Asked

        _suite(trained, names, Asked(limit, seed, fewshot, chat, task_folder))
        return
    if suite is not None or any(x is not None for x in (limit, fewshot, seed, chat, task_folder)):
        raise UserError("--limit and its like are for tasks; name some by --suite TASK,TASK.")
    with quick_imports():
        from dpo_lite.jobs import train as job
    from dpo_lite.cli.results import print_results

    job.evaluate_again(trained, console)
    print_results(trained, console)


def _suite(trained: Run, names: list[str], asked: Any) -> None:
    with quick_imports():
        from dpo_lite.jobs.suite import evaluate_suite
    from dpo_lite.cli.results import print_suite
    from dpo_lite.report.suite import SUITE

    print_suite(evaluate_suite(trained, names, asked, console), console)
    say(f"\nkept in  {trained.path / SUITE}")
