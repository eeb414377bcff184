"""`dpo-lite draw`, `rounds`: a policy's own answers, judged, as pairs; and rounds of that."""

from __future__ import annotations

import shlex
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from dpo_lite.bounded import MAX_COUNT
from dpo_lite.cli.common import Longest, RunsFolder, Seed, app, console, finite, say
from dpo_lite.errors import UserError
from dpo_lite.imports import quick_imports
from dpo_lite.report.words import counted
from dpo_lite.runs.progress import doing, open_bars

if TYPE_CHECKING:
    from dpo_lite.studies.rounds import Round

Reward = Annotated[
    str | None,
    typer.Option(help="Who rewards: a reward run, its adapter, file.py:function, or judge."),
]
Answers = Annotated[
    int | None,
    typer.Option(
        "--n",
        min=2,
        max=10_000,
        help="Answers to draw per prompt; default: 8, and 4 where a judge compares them.",
    ),
]
JudgeKeys = Annotated[
    list[str] | None,
    typer.Argument(help="Keys of the judge: judge.url=http://127.0.0.1:8000/v1 judge.model=…"),
]
Margin = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=1e9,
        callback=finite,
        help="The best must be so much better than the worst.",
    ),
]


@app.command()
def draw(
    run: Annotated[
        str, typer.Argument(help="The run whose policy answers the prompts of its data.")
    ],
    out: Annotated[Path, typer.Option(help="A new file of JSON lines; given again, it goes on.")],
    changes: JudgeKeys = None,
    reward: Reward = None,
    judge: Annotated[
        Literal["model"] | None,
        typer.Option(help="In place of --reward: the model of the section judge compares answers."),
    ] = None,
    n: Answers = None,
    prompts: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_COUNT, help="How many of the run's prompts; default: all."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Prompts of another data set than the run's.")
    ] = None,
    margin: Margin = 0.0,
    max_new_tokens: Longest = 64,
    seed: Seed = 0,
    runs: RunsFolder = "runs",
) -> None:
    """On-policy pairs: n answers per prompt, the best against the worst, to train on from there.

    A round of on-policy training is this and the command that it ends with, whose
    recipe stands beside the pairs; the next round draws from that run.

    Example:  dpo-lite draw quickstart-1 --reward my-reward-1 --out r1.jsonl
    Example:  dpo-lite draw quickstart-1 --judge model --out r1.jsonl \\
        judge.url=http://127.0.0.1:8000/v1 judge.model=qwen3-8b
    """
    from dpo_lite.runs.folder import open_run

    if out.suffix != ".jsonl":
        raise UserError(f"--out: {out} is no name for JSON lines; end it with .jsonl.")
    trained = open_run(run, runs)
    with quick_imports():
        from dpo_lite.evaluate.own_pairs import draw_pairs, load_drawing
        from dpo_lite.evaluate.round_recipes import drawing_recipe, recipe_of_pairs
    from dpo_lite.evaluate.preferences import judging_recipe
    from dpo_lite.model.adapter_files import trained_adapter
    from dpo_lite.recipe import to_yaml
    from dpo_lite.runs.device_lock import device_lock

    by = _who(reward, judge, margin)
    recipe = judging_recipe(trained, changes or [])
    if data:
        recipe.data = type(recipe.data)(train=data, template=recipe.data.template)
    section = _section(by, reward, n, max_new_tokens)
    adapter = trained_adapter(trained)
    asked = drawing_recipe(recipe, adapter, section, seed)
    with doing(console, "loading") as spinner, device_lock("draw", say=spinner.update):
        drawing = load_drawing(asked, prompts, spinner.update, out=out, by=by)
        spinner.stop()
        with open_bars(console) as bar:
            tally = draw_pairs(drawing, out, margin, bar("drawing", len(drawing.prompts)))
    console.print(f"{counted(tally.pairs, 'pair')} in {out}", markup=False, highlight=False)
    for count, why in (
        (tally.alike, _alike(by, margin)),
        (tally.unread, "the judge did not say which is better"),
        (tally.unfinished, "fewer than two different answers came to their end"),
        (tally.tools, "names tools, which such a row cannot"),
    ):
        if count:
            told = f"  {counted(count, 'prompt')} left out: {why}"
            console.print(told, style="dim", markup=False, highlight=False)
    if tally.mean_reward is not None:
        rewards = f"mean reward of {tally.answers:,} answers: {tally.mean_reward:+.2f}"
        console.print(rewards, highlight=False)
    if not tally.pairs:
        raise UserError("No pair came of it; draw more answers, or take another judge.")
    following = out.with_suffix(".yaml")
    if not following.exists():
        following.write_text(to_yaml(recipe_of_pairs(recipe, adapter, out)), encoding="utf-8")
    console.print("\ntrain on from the run's adapter:", style="bold")
    console.print(Text(shlex.join(["dpo-lite", "train", str(following)])), soft_wrap=True)


@app.command()
def rounds(
    run: Annotated[str, typer.Argument(help="The run that the rounds begin with.")],
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            help="Keys of each round's training or of the judge, such as train.epochs=1."
        ),
    ] = None,
    reward: Reward = None,
    judge: Annotated[
        Literal["model", "votes"] | None,
        typer.Option(
            help="In place of --reward: the model of the section judge compares answers, or you"
            " do, by blind votes on the page."
        ),
    ] = None,
    count: Annotated[int, typer.Option("--rounds", min=1, max=1000, help="How many.")] = 3,
    n: Answers = None,
    prompts: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MAX_COUNT,
            help="How many prompts a round takes, each the next ones; default: all.",
        ),
    ] = None,
    margin: Margin = 0.0,
    max_new_tokens: Longest = 64,
    seed: Seed = 0,
    runs: RunsFolder = "runs",
) -> None:
    """On-policy rounds: draw, judge, train, and again from the new policy.

    The same command again goes on where it was: what is whole is passed over.
    With --judge votes a round stops when it has drawn, and goes on when you have
    voted.

    Example:  dpo-lite rounds quickstart-1 --reward reward-quickstart-1 --rounds 3
    Example:  dpo-lite rounds quickstart-1 --judge votes --prompts 20
    """
    from dpo_lite.runs.folder import open_run
    from dpo_lite.runs.studies import rounds_from
    from dpo_lite.runs.system import listen

    first = open_run(run, runs)
    with quick_imports():
        from dpo_lite.studies.rounds import Asked, WaitsForVotes, go

    by = _who(reward, judge, margin)
    of_judge = [change for change in changes or () if change.startswith("judge.")]
    asked = Asked(
        count,
        _section(by, reward, n, max_new_tokens),
        prompts,
        margin,
        seed,
        tuple(change for change in changes or () if change not in of_judge),
        by,
        tuple(of_judge),
    )
    if threading.current_thread() is threading.main_thread():
        listen()
    study = rounds_from(first.name, first.path.parent)
    facts = {"first": first.name, "rounds": count, "by": by}
    command = ["dpo-lite", *sys.argv[1:]]
    with study.at_work(command, **facts) as notes, open_bars(console) as shown:

        def told(text: str) -> None:
            notes.doing(text)
            say(text)

        def bar(what: str, total: int) -> Callable[[int], None]:
            advance, done = shown(what, total), 0

            def both(count: int) -> None:
                nonlocal done
                advance(count)
                done += count
                notes.doing(f"{what} {done:,} of {total:,}")

            return both

        try:
            done = go(first, asked, told, bar)
        except WaitsForVotes as waits:
            notes.state = "waits"
            console.print(str(waits), markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(130) from None
        if stopped := _stopped(done, count):
            notes.state = "stopped"
    _print_rounds(done)
    if stopped:
        console.print("stopped and saved. The same command goes on.")
        raise typer.Exit(130)


def _stopped(done: Sequence[Round], count: int) -> bool:
    last = done[-1].run
    return len(done) < count or (last is not None and last.status()["state"] != "finished")


def _who(reward: str | None, judge: str | None, margin: float) -> Any:
    """Whose word picks best and worst."""
    if (reward is None) == (judge is None):
        raise UserError("Say who judges: either --reward or --judge.")
    if judge and margin:
        raise UserError("--margin is in units of --reward; leave it away with --judge.")
    return judge or "reward"


def _section(by: str, reward: str | None, n: int | None, longest: int) -> dict[str, Any]:
    """Keys of ppo, as a drawing takes them; where nothing is rewarded any name does."""
    answers = n or (8 if by == "reward" else 4)
    return {"reward": reward or "none", "answers": answers, "max_new_tokens": longest}


def _alike(by: str, margin: float) -> str:
    if by == "reward":
        return f"best and worst within {margin:g} of each other"
    return "none is preferred in both orders"


def _print_rounds(done: Sequence[Round]) -> None:
    """What each policy's own answers were worth, and what it says of held-out data."""
    from dpo_lite.report.rounds import held_out_words

    table = Table(box=None, pad_edge=False)
    table.add_column("policy")
    for column in ("mean reward, drawn", "pairs"):
        table.add_column(column, justify="right")
    table.add_column("held out, the policy that came of it")
    for each in done:
        words = "" if each.run is None else held_out_words(each.run)
        pairs = "" if each.run is None else str(each.drawn.pairs)
        mean = each.drawn.mean_reward
        reward = "–" if mean is None else f"{mean:+.2f}"
        table.add_row(Text(each.policy), reward, pairs, words)
    console.print(table)
