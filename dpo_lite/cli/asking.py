"""`dpo-lite judge`: a language model prefers the policy's answers or the reference's, how often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.table import Table

from dpo_lite.bounded import MAX_COUNT, MAX_TOKENS
from dpo_lite.cli.common import RunsFolder, app, console, say
from dpo_lite.imports import quick_imports
from dpo_lite.runs.progress import doing, open_bars, progress_bar

SHOWN = 3  # replies that held no verdict
LETTERS = 100  # of each


@app.command()
def judge(
    run: Annotated[str, typer.Argument(help="A run that has a policy.")],
    changes: Annotated[
        list[str] | None,
        typer.Argument(help="Keys of the judge: judge.url=http://127.0.0.1:8000/v1 judge.model=…"),
    ] = None,
    prompts: Annotated[
        int, typer.Option(min=1, max=MAX_COUNT, help="How many of each held-out set, at most.")
    ] = 64,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            min=1, max=MAX_TOKENS, help="Tokens of the longest answer; default: the run's."
        ),
    ] = None,
    runs: RunsFolder = "runs",
) -> None:
    """A win rate: policy against reference on held-out prompts, judged by a language model.

    The judge speaks OpenAI's chat completions, here or elsewhere; its key, where
    it wants one, is DPO_LITE_JUDGE_KEY in the environment. Prompts and answers
    are sent to it. All that was asked and replied stays in the run's folder, so
    the same again asks nobody.

    Example:  dpo-lite judge quickstart-1 \\
        judge.url=http://127.0.0.1:8000/v1 judge.model=qwen3-8b
    """
    from dpo_lite.judge.replies import open_judge
    from dpo_lite.judge.verdicts import Places
    from dpo_lite.runs.folder import open_run

    trained = open_run(run, runs)
    with quick_imports():
        from dpo_lite.evaluate.win_rate import (
            answer,
            judged,
            kept_answers,
            settings_of,
        )
    from dpo_lite.evaluate.preferences import judging_recipe
    from dpo_lite.report.run import write_report
    from dpo_lite.runs.device_lock import device_lock

    recipe = judging_recipe(trained, changes or [])
    asked = open_judge(recipe.judge, Places(trained.path).replies, say)
    settings = settings_of(trained, prompts, max_new_tokens or recipe.eval.max_new_tokens)
    answers = kept_answers(trained, settings)
    if answers is None:
        with doing(console, "loading") as spinner, device_lock("judge", say=spinner.update):

            def first(what: str, total: int) -> Callable[[int], None]:
                spinner.stop()
                shown.start()
                task: Any = shown.add_task(what, total=total, note="")
                return lambda done: shown.advance(task, done)

            shown = progress_bar(console)
            try:
                answers = answer(trained, settings, spinner.update, first)
            finally:
                shown.stop()
    with open_bars(console) as bar:
        entry, unread = judged(trained, asked, answers, settings, bar)
    _print(entry)
    for one in unread[:SHOWN]:
        reply = " ".join(one.reply.text.split())[:LETTERS] or "(empty)"
        say(f"  no verdict in: {reply}")
    if unread:
        say(f"{len(unread):,} of {entry['spent']['questions']:,} replies held no verdict")
    if trained.results()["sets"]:
        write_report(trained)
    say(f"\nkept in  {Places(trained.path).folder / 'judge'}")


def _print(entry: dict[str, Any]) -> None:
    from dpo_lite.judge.verdicts import HEAD, rows_of, sentence

    table = Table(box=None, pad_edge=False)
    for place, column in enumerate(HEAD):
        table.add_column(column, justify="right" if place else "left")
    for row in rows_of(entry):
        table.add_row(*row)
    console.print(table)
    console.print(sentence(entry), style="dim", markup=False, highlight=False)
    console.print("won and lost: preferred in both orders; ties count as half a win", style="dim")
