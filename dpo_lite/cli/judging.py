"""`dpo-lite score` and `dpo-lite best-of`: a policy or a reward model as a judge of responses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dpo_lite.bounded import MAX_COUNT
from dpo_lite.cli.common import Longest, RunsFolder, Seed, app, console, finite
from dpo_lite.errors import UserError
from dpo_lite.files import json_text
from dpo_lite.imports import quick_imports
from dpo_lite.report.words import bars, counted
from dpo_lite.runs.progress import doing, open_bars

HALF = 12  # bins of the histogram on each side of zero

Changes = Annotated[
    list[str] | None, typer.Argument(help="Keys of a recipe, such as data.format=orca train.beta=1")
]


@app.command()
def score(
    run: Annotated[str, typer.Argument(help="A run, or an adapter's folder or Hub id.")],
    data: Annotated[str, typer.Argument(help="File, folder[:split], Hub id or builtin:myths.")],
    overrides: Changes = None,
    out: Annotated[
        Path | None, typer.Option(help="Write prompt, responses and scores as JSON lines.")
    ] = None,
    show: Annotated[
        int, typer.Option(min=0, max=MAX_COUNT, help="Pairs to show whose label it doubts.")
    ] = 3,
    runs: RunsFolder = "runs",
) -> None:
    """The reward of every response, and how often it agrees with the data.

    Of a policy it is the implicit reward β·log(π/π_ref), of a reward model what its head says.

    Example:  dpo-lite score quickstart-1 builtin:myths:topics --out scores.jsonl
    Example:  dpo-lite score user/some-lora pairs.jsonl model.quantization=none
    """
    from dpo_lite.evaluate.judge import judge_recipe

    recipe, adapter = judge_recipe(run, data, overrides or [], runs)
    if not isinstance(recipe.data.train, str):
        raise UserError("score takes one source at a time; name a single file or data set.")
    _check_out(out)
    if out and out.is_file() and Path(data).is_file() and out.samefile(data):
        raise UserError(f"--out: {out} is the data that is scored; choose another name.")

    with quick_imports():
        from dpo_lite.evaluate.judge import load_judge
        from dpo_lite.evaluate.scores import encode_rows, score_source
    from dpo_lite.model.download import fetch_weights
    from dpo_lite.runs.device_lock import device_lock

    stderr = Console(stderr=True)
    with doing(stderr, "loading the base") as spinner, device_lock("score", say=spinner.update):
        fetch_weights(recipe.model, spinner.update)
        judge = load_judge(recipe, adapter)
        rows = encode_rows(recipe, judge.encoder, spinner.update)
        spinner.stop()
        with open_bars(stderr) as bar:
            told = bar("scoring", len(rows.table))
            scores = score_source(judge, rows, stderr.print, told)
    _print_scores(scores, show)
    if out:
        count = scores.write(out)
        more = len(scores.fitting) - count
        left = f"; {counted(more, 'row')} left out: names tools, which such a line cannot"
        words = f"\n{counted(count, 'row')} in {out}{left * bool(more)}"
        console.print(words, markup=False, highlight=False)


def _check_out(out: Path | None) -> None:
    """Raises UserError where a file cannot be written, before anything is loaded or computed."""
    from dpo_lite.runs.room import check_output

    if out is None:
        return
    if not out.absolute().parent.is_dir():
        raise UserError(f"--out: there is no folder {out.parent}; make it first.")
    if out.is_dir():
        raise UserError(f"--out: {out} is a folder; name a file in it.")
    check_output(out.absolute().parent)


def _print_scores(scores, show: int) -> None:
    """Rewards by place, agreement, the histogram of margins, and the pairs it doubts."""
    import numpy as np

    most = max(map(len, scores.rewards))
    names = ["chosen", "rejected"] if most == 2 else [f"{i + 1}." for i in range(most)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("response")
    for column in ("count", "reward", "tokens"):
        table.add_column(column, justify="right")
    for place, name in enumerate(names if most > 1 else ["all"]):
        have = [i for i, row in enumerate(scores.rewards) if len(row) > place]
        reward = np.mean([scores.rewards[i][place] for i in have])
        tokens = np.mean([scores.lengths[i][place] for i in have])
        table.add_row(name, f"{len(have):,}", f"{reward:+.3f}", f"{tokens:.0f}")
    console.print(f"{scores.source.name}: {scores.judge.words}", markup=False, highlight=False)
    console.print(table)
    for reason, count in scores.dropped.items():
        console.print(f"{counted(count, 'row')} not scored: {reason}", style="yellow", markup=False)
    accuracy = scores.accuracy()
    if accuracy is None:
        return
    margins = scores.margins()
    ties = int((margins == 0).sum())
    longer = scores.longer_wins()
    lines = [
        f"accuracy  {accuracy.cell(1)} of {len(margins) - ties:,} pairs"
        + (f" in {accuracy.n:,} rows" if most > 2 else "")
        + (f", {ties:,} ties left out" if ties else ""),
        f"margin    {margins.mean():+.3f} on average, {np.median(margins):+.3f} in the middle",
        f"          {histogram(margins)}",
    ]
    if longer is not None:
        of = f"{longer.n:,} {'rows' if most > 2 else 'pairs'}"
        lines.append(f"length    the longer one has the higher reward in {longer.cell()} of {of}")
    for line in lines:
        console.print(line, markup=False, highlight=False)
    doubted = scores.doubted(show) if show else []
    if doubted:
        console.print("\nmost at odds with the labels", style="bold")
    for record in doubted:
        asked = record["prompt"]
        asked = asked if isinstance(asked, str) else asked[-1]["content"]
        console.print(Text(f"row {record['row']}  {_line(asked)}"))
        for place in (0, -1):
            words = f"  {record['scores'][place]:+7.2f}  {_line(record['responses'][place])}"
            console.print(Text(words, style="dim"))


def histogram(values) -> str:
    """Counts in bins left and right of zero, as one line; what lies further out is in the last."""
    import numpy as np

    reach = float(np.quantile(np.abs(values), 0.98)) or 1.0
    inside = np.clip(values, -reach, reach)
    counts, _ = np.histogram(inside, bins=2 * HALF, range=(-reach, reach))
    line = bars(counts.tolist())
    return f"{-reach:.2f} {line[:HALF]}│{line[HALF:]} {reach:.2f}"


def _line(text: str, width: int = 88) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"


@app.command("best-of")
def best(
    run: Annotated[str, typer.Argument(help="A run, or an adapter's folder or Hub id.")],
    overrides: Changes = None,
    prompt: Annotated[list[str] | None, typer.Option(help="Ask this; may be repeated.")] = None,
    n: Annotated[
        int, typer.Option("--n", min=1, max=10_000, help="Answers to draw per prompt.")
    ] = 8,
    source: Annotated[
        Literal["reference", "policy"], typer.Option("--from", help="Who answers.")
    ] = "reference",
    temperature: Annotated[
        float, typer.Option(min=0.01, max=100.0, callback=finite, help="1 is the model's own.")
    ] = 1.0,
    top_p: Annotated[
        float, typer.Option(min=0.01, max=1.0, callback=finite, help="1 is off.")
    ] = 1.0,
    max_new_tokens: Longest = 64,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="Add prompt, responses and scores as JSON lines.")
    ] = None,
    guard: Annotated[
        bool,
        typer.Option(
            help="Set answers aside, shown but not written, that the reference would hardly say,"
            " that repeat themselves, or whose length is far off."
        ),
    ] = True,
    runs: RunsFolder = "runs",
) -> None:
    """Draw n answers and rank them by their reward; with --out as data to train on.

    A reward is good near what it was trained on only: answers out of the ordinary are set aside.

    Example:  dpo-lite best-of quickstart-1 --prompt "Are bats blind?" --n 8
    Example:  dpo-lite best-of quickstart-1 --from policy --out ranked.jsonl
    """
    from dpo_lite.evaluate.judge import judge_recipe
    from dpo_lite.tasks import TASKS

    if out and source == "policy" and not guard:
        raise UserError(
            "--from policy --out writes nothing without the guard, since the highest implicit"
            " reward is often word salad's; leave --no-guard or --out away."
        )
    recipe, adapter = judge_recipe(run, None, overrides or [], runs)
    if TASKS[recipe.task].head and source == "policy":
        raise UserError(f"{run} is a reward model and answers nothing; leave --from policy away.")
    _check_out(out)
    prompts = prompt or recipe.eval.prompts
    if not prompts:
        raise UserError('There is nothing to ask: give --prompt "...".')

    with quick_imports():
        from dpo_lite.evaluate.best_of import best_of
    from dpo_lite.evaluate.judge import load_judge
    from dpo_lite.model.download import fetch_weights
    from dpo_lite.runs.device_lock import device_lock

    with doing(console, "loading the base") as spinner, device_lock("best-of", say=spinner.update):
        fetch_weights(recipe.model, spinner.update)
        judge = load_judge(recipe, adapter)
        for question in prompts:
            spinner.update(f"drawing {n} answers")
            ranked = best_of(
                judge,
                question,
                n,
                role=source,
                temperature=temperature,
                top_p=top_p,
                max_new_tokens=max_new_tokens,
                seed=seed,
                guard=guard,
            )
            spinner.stop()
            _print_ranked(question, ranked)
            if out:
                _append(out, question, ranked)
            spinner.start()


def _print_ranked(prompt: str, ranked) -> None:
    """The ranking, behind it what was set aside and why, and how many that were."""
    from dpo_lite.evaluate.guard import summary

    console.print(Text(prompt, style="bold"))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_column(ratio=1, overflow="fold")
    for place, answer in enumerate(ranked):
        often = f"  ×{answer.times}" if answer.times > 1 else ""
        why = f"  ({answer.aside.kind}: {answer.aside.words})" if answer.aside else ""
        text = Text(answer.text + ("" if answer.ended else " …") + often + why)
        rank = "–" if answer.aside else f"{place + 1}"
        style = "dim" if answer.aside else None
        table.add_row(rank, f"{answer.reward:+.2f}", text, style=style)
    console.print(table)
    told = summary([answer.aside for answer in ranked], [answer.times for answer in ranked])
    if told:
        console.print(told, style="yellow", markup=False, highlight=False)
    console.print()


def _append(out: Path, prompt: str, ranked) -> None:
    """Answers that were set aside or cut off are no data, and one alone is no ranking."""
    whole = [answer for answer in ranked if answer.ended and not answer.aside]
    if len(whole) < 2:
        console.print("fewer than two whole answers to rank: not written", style="yellow")
        return
    record = {
        "prompt": prompt,
        "responses": [answer.text for answer in whole],
        "scores": [round(answer.reward, 5) for answer in whole],
    }
    try:
        with open(out, "a", encoding="utf-8") as file:
            file.write(json_text(record) + "\n")
    except OSError as error:
        raise UserError(f"--out: {out} cannot be written ({error.strerror}).") from error
