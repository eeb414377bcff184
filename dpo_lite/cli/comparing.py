"""`dpo-lite compare` and `dpo-lite votes`: answers side by side, and what people think of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from dpo_lite.bounded import MAX_COUNT, MAX_SEED
from dpo_lite.cli.common import Longest, RunName, RunsFolder, app, console, finite, say
from dpo_lite.errors import UserError
from dpo_lite.imports import quick_imports
from dpo_lite.report.words import counted
from dpo_lite.runs.progress import doing

votes_app = typer.Typer(
    help="Win rates of blind votes.  Example:  dpo-lite votes export votes.jsonl"
)
app.add_typer(votes_app, name="votes")


@app.command()
def compare(
    run: RunName,
    prompt: Annotated[list[str] | None, typer.Option(help="Ask this; may be repeated.")] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="RUN", help="Another run of this base; may be repeated."),
    ] = None,
    strength: Annotated[
        list[str] | None,
        typer.Option(
            metavar="S[,S]",
            help="A column of the policy at this strength: 0 is the reference, 1 the policy, above"
            " 1 beyond it; may be repeated.",
        ),
    ] = None,
    reference: Annotated[bool, typer.Option(help="Whether the reference has a column.")] = True,
    policy: Annotated[bool, typer.Option(help="Whether the policy as it is has one.")] = True,
    dial: Annotated[
        bool, typer.Option("--dial", help="What each strength earns and costs, as a table.")
    ] = False,
    blind: Annotated[
        bool, typer.Option("--blind", help="Vote on answers without names, shown in random order.")
    ] = False,
    tokens: Annotated[
        bool,
        typer.Option("--tokens", help="Colour each token by what it adds to the implicit reward."),
    ] = False,
    temperature: Annotated[
        float, typer.Option(min=0.0, max=100.0, callback=finite, help="0 is greedy.")
    ] = 0.0,
    top_p: Annotated[
        float, typer.Option(min=0.01, max=1.0, callback=finite, help="1 is off.")
    ] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, max=MAX_COUNT, help="0 is off.")] = 0,
    repetition_penalty: Annotated[
        float, typer.Option(min=0.1, max=100.0, callback=finite, help="1 is off.")
    ] = 1.0,
    seed: Annotated[
        int, typer.Option(min=0, max=MAX_SEED, help="All columns draw the same noise.")
    ] = 0,
    max_new_tokens: Longest = 64,
    runs: RunsFolder = "runs",
) -> None:
    """Reference, policy and other runs side by side, from one loaded base.

    Example:  dpo-lite compare quickstart-1 --prompt "Are bats blind?"
    Example:  dpo-lite compare quickstart-2 --with quickstart-1 --blind
    Example:  dpo-lite compare quickstart-1 --strength 0.5,1.5
    """
    from dpo_lite.compare.columns import AT, POLICY, REFERENCE, columns
    from dpo_lite.runs.device_lock import device_lock
    from dpo_lite.runs.folder import open_run

    trained = open_run(run, runs)
    strengths = [part.strip() for text in strength or [] for part in text.split(",")]
    names = [*([REFERENCE] if reference else []), *([POLICY] if policy else []), *(beside or [])]
    names += [f"{POLICY}{AT}{part}" for part in strengths]
    if dial and (blind or prompt or beside):
        raise UserError(
            "--dial draws answers to the run's own prompts at each --strength; leave --blind,"
            " --prompt and --with away."
        )
    if dial:
        columns(trained, names, runs)  # what is wrong with them is said before the base is loaded
        _dial(trained, [float(part) for part in strengths], max_new_tokens, seed)
        return
    fingerprints = [column.fingerprint for column in columns(trained, names, runs)]
    if blind and len(set(fingerprints)) < 2:
        raise UserError("A blind vote needs two different models; name another run by --with.")

    with quick_imports():
        from dpo_lite.compare.answers import compare_answers
        from dpo_lite.compare.lockstep import Sampling
    from dpo_lite.model.download import fetch_weights
    from dpo_lite.recipe import load_recipe

    sampling = Sampling(temperature, top_p, top_k, repetition_penalty, max_new_tokens, seed)
    with doing(console, "loading the base") as spinner, device_lock("compare", say=spinner.update):
        fetch_weights(load_recipe(trained.recipe_file).model, spinner.update)
        for question, answers in compare_answers(trained, names, prompt or [], sampling, runs):
            spinner.stop()
            if not blind:
                _show(question, answers, tokens)
            elif len({answer.text for answer in answers}) == 1:
                _say_the_same(question, answers[0].text)
            elif not _vote(trained.name, question, answers, asdict(sampling), runs):
                break
            spinner.start()
            spinner.update("generating")
    if blind:
        _print_rates(runs)


def _dial(run, strengths: list[float], max_new_tokens: int, seed: int) -> None:
    """Reward and KL at every strength, and both as a picture in the run's folder."""
    from dpo_lite.compare.dial import DRAWS, STRENGTHS, asked, dial
    from dpo_lite.compare.shared_base import load_shared_base
    from dpo_lite.files import write_json
    from dpo_lite.model.download import fetch_weights
    from dpo_lite.recipe import load_recipe
    from dpo_lite.report.dial import HEAD, dial_rows, draw_dial
    from dpo_lite.runs.device_lock import device_lock
    from dpo_lite.runs.progress import open_bars

    draws = len(asked(run)) * DRAWS
    chosen = sorted({*(strengths or STRENGTHS)})
    with doing(console, "loading the base") as spinner, device_lock("compare", say=spinner.update):
        fetch_weights(load_recipe(run.recipe_file).model, spinner.update)
        base = load_shared_base(run)
        spinner.stop()
        with open_bars(console) as bar:
            measured = dial(base, run, chosen, max_new_tokens, seed, bar("drawing", draws))
    points = [point.to_json() for point in measured]
    write_json(run.path / "dial.json", {"points": points})
    draw_dial(points, run.name, run.path / "dial.png")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in HEAD:
        table.add_column(column, justify="right")
    for row in dial_rows(points):
        table.add_row(*row)
    console.print(table)
    console.print(
        f"of {draws} answers at each strength, drawn at temperature 1; ± is a standard error\n"
        f"picture  {run.path / 'dial.png'}",
        style="dim",
        markup=False,
        highlight=False,
    )


def _say_the_same(prompt: str, text: str) -> None:
    """In place of a vote, which would be on nothing."""
    console.print(Text(prompt, style="bold"))
    console.print(Text(text))
    console.print(Text("all say the same: nothing to vote on\n", style="dim"))


def _show(prompt: str, answers, tokens: bool) -> None:
    """One prompt, the answers below it, each with its implicit reward under the run's policy."""
    console.print(Text(prompt, style="bold"))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    table.add_column(ratio=1, overflow="fold")
    for answer in answers:
        text = _coloured(answer.tokens) if tokens else Text(answer.text)
        table.add_row(escape(answer.label), f"{answer.reward:+.2f}", text)
    console.print(table)
    console.print()


def _coloured(tokens) -> Text:
    """Green where the policy likes a token more than the reference does, red where less.

    Where there are no colours, as in a pipe, the reward itself stands behind such a token.
    """
    text = Text()
    for piece, reward in tokens:
        if console.color_system is None:
            text.append(f"{piece}[{reward:+.2f}]" if abs(reward) > 0.02 else piece)
            continue
        style = "green" if reward > 0.02 else "red" if reward < -0.02 else ""
        text.append(piece, style=style + (" bold" if abs(reward) > 0.2 else ""))
    return text


def _vote(
    run: str,
    prompt: str,
    answers,
    sampling: dict,
    folder: str,
    shuffle: Callable[[list], None] = random.shuffle,
) -> bool:
    """Show the answers without names, ask, keep the vote and reveal; False when asked to quit."""
    from dpo_lite.compare.votes import BAD, LETTERS, TIE, add_vote

    shown = list(answers)
    shuffle(shown)
    console.print(Text(prompt, style="bold"))
    for letter, answer in zip(LETTERS, shown, strict=False):
        console.print(Text.assemble((f"{letter}  ", "bold cyan"), answer.text))
    letters = LETTERS[: len(shown)]
    choices = {letter.lower(): letter for letter in letters} | {"t": TIE, "b": BAD, "q": None}
    if "b" in letters.lower():
        choices |= {"b": "B", "n": BAD}
    offered = f"{', '.join(letters)} is best, t tie, n none is any good, q quit"
    while (typed := typer.prompt(offered).strip().lower()) not in choices:
        console.print("one of " + ", ".join(choices))
    verdict = choices[typed]
    if verdict is None:
        return False
    columns = [
        {"label": answer.label, "fingerprint": answer.fingerprint, "answer": answer.text}
        for answer in shown
    ]
    add_vote(
        folder,
        run=run,
        prompt=prompt,
        shown=columns,
        sampling=sampling,
        verdict=verdict,
        blind=True,
    )
    reveal = "  ".join(
        f"{letter} was {c['label']}" for letter, c in zip(letters, columns, strict=True)
    )
    console.print(Text(reveal + "\n", style="dim"))
    return True


@votes_app.callback(invoke_without_command=True)
def votes(context: typer.Context, runs: RunsFolder = "runs") -> None:
    """Win rates of every pair of models that met in a vote, with 95 % intervals.

    Example:  dpo-lite votes
    """
    if context.invoked_subcommand is None:
        _print_rates(runs)


@votes_app.command("export")
def votes_export(
    file: Annotated[str, typer.Argument(help="The .jsonl to write.")],
    run: Annotated[str | None, typer.Option(help="Only votes in which this run took part.")] = None,
    answers: Annotated[
        bool, typer.Option("--answers", help="Single answers, good or bad, for task: kto.")
    ] = False,
    runs: RunsFolder = "runs",
) -> None:
    """Write the votes as preference data that the next run can train on.

    Example:  dpo-lite votes export votes.jsonl
    """
    import shlex

    from dpo_lite.compare.vote_rows import Kind, export_votes, training_command
    from dpo_lite.compare.votes import read_votes

    kind: Kind = "answers" if answers else "pairs"
    export = export_votes(runs, file, run, kind=kind)
    console.print(f"{counted(len(export.rows), 'row')} in {file}", markup=False, highlight=False)
    for why, count in export.left_out.items():
        console.print(f"  {count} left out: {why}", style="dim", highlight=False)
    last = run or read_votes(runs)[-1]["run"]
    console.print("\ntrain on from the run's adapter:", style="bold")
    console.print(
        shlex.join(training_command(runs, last, file, kind)),
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _print_rates(runs: str) -> None:
    from dpo_lite.compare.votes import passed_over, read_votes, win_rates

    if odd := passed_over(runs):
        say(f"{counted(odd, 'line')} of {runs}/votes.jsonl passed over: no votes")
    pairs, names = win_rates(read_votes(runs))
    if not pairs:
        say(f"no votes in {runs}/ yet;  dpo-lite compare RUN --blind")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("model", "against", "wins", "95 % interval", "won", "lost", "ties", "both bad"):
        table.add_column(column, justify="left" if column in ("model", "against") else "right")
    for pair in pairs:
        rate = "–" if pair.rate is None else f"{pair.rate:.0%}"
        interval = "–" if pair.interval is None else "{:.0%} to {:.0%}".format(*pair.interval)
        counts = (str(n) for n in (pair.wins, pair.losses, pair.ties, pair.bad))
        table.add_row(names[pair.first], names[pair.second], rate, interval, *counts)
    console.print(table)
    console.print("a tie counts as half a win, both bad does not count", style="dim")
