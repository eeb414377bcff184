"""What is looked at before a run: `data`, `check`, `plan`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dpo_lite.cli.common import Overrides, RecipeName, app, console, join, say
from dpo_lite.errors import UserError, disk_faults_told
from dpo_lite.imports import quick_imports
from dpo_lite.runs.progress import doing


@app.command()
def data(
    source: Annotated[
        str, typer.Argument(help="File, folder, Hub id, builtin:myths, or a recipe.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Keys of a recipe, such as data.format=orca")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Base whose tokenizer and chat template are used.")
    ] = None,
    examples: Annotated[
        int, typer.Option(min=1, max=10_000, help="Rendered examples to show.")
    ] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    audit: Annotated[
        bool,
        typer.Option(
            "--audit", help="Which labels follow from trivial features, and which are doubtful."
        ),
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(help="With --audit: draw the features to this PNG.")
    ] = None,
    drop_doubtful: Annotated[
        Path | None,
        typer.Option(help="Audit, and write the rows without doubtful ones to this .jsonl."),
    ] = None,
    decisions: Annotated[
        Path | None,
        typer.Option(
            help='What was decided of rows, a line each: {"row": 12, "decision": "flip"}.'
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="With --decisions: the .jsonl that follows from them.")
    ] = None,
) -> None:
    """The data doctor: the format, what is dropped and why, lengths, what will be trained.

    Example:  dpo-lite data pairs.jsonl --model Qwen/Qwen3-4B
    Example:  dpo-lite data Anthropic/hh-rlhf data.limit=1000 --json
    Example:  dpo-lite data pairs.jsonl --audit --drop-doubtful sound.jsonl
    Example:  dpo-lite data pairs.jsonl --decisions seen.jsonl --out new.jsonl
    """
    if (decisions is None) != (out is None):
        raise UserError("--decisions and --out go together: what was decided, and the new file.")
    from dpo_lite.data.decisions import apply_decisions, check_new_file, read_decisions
    from dpo_lite.jobs.doctor import asked_recipe, prepared  # what needs torch comes when needed
    from dpo_lite.report.data import print_report

    aside = Console(stderr=True)
    found = dropped = decided = None
    with doing(aside, "reading the data") as spinner:
        recipe = asked_recipe(source, overrides or [], model, aside.print)
        if audit or picture or drop_doubtful:
            from dpo_lite.jobs import audit as auditing

            if drop_doubtful:
                sources = len(recipe.data.sources)
                check_new_file(sources, drop_doubtful, auditing.DROPPING)
        if out:
            check_new_file(len(recipe.data.sources), out, "--out")
        tokenizer, rows = prepared(recipe, spinner.update, examples)
        report = rows.report
        if audit or picture or drop_doubtful:
            found = auditing.audit(recipe, tokenizer, rows, spinner.update)
            if drop_doubtful:
                dropped = auditing.drop_doubtful(recipe, found, report.format, drop_doubtful)
        if decisions and out:
            made = read_decisions(decisions)
            listed = found.rows if found else ()
            decided = apply_decisions(recipe.data, report.format, made, out, listed)
    if picture and found:
        from dpo_lite.report.audit import draw_shortcuts

        with disk_faults_told():
            draw_shortcuts(found.shortcuts, report.source, picture)
    if as_json:
        audited = {"audit": found.to_json() | {"dropped": dropped}} if found else {}
        audited |= {"decided": decided} if decided else {}
        print(json.dumps(report.to_json() | audited, ensure_ascii=False, indent=2))
        return
    print_report(report, console)
    if found:
        from dpo_lite.report.audit import print_audit

        print_audit(found.shortcuts, found.doubts, found.doubted(), len(found.pairs), console)
    if dropped and drop_doubtful:
        from dpo_lite.report.audit import dropped_words

        say(dropped_words(dropped, drop_doubtful))
    if decided and out:
        from dpo_lite.report.audit import decided_words

        say(decided_words(decided, out))


@app.command()
def check(recipe: RecipeName, overrides: Overrides = None) -> None:
    """Preflight without training: data, model, reference, step 0, memory, time.

    Example:  dpo-lite check quickstart train.batch_size=8
    """
    join()
    loaded = _first_look(recipe, overrides or [])

    from dpo_lite.runs.room import check_output

    check_output(loaded.run.folder)  # in a second, before the libraries take their time
    with quick_imports():
        from dpo_lite.jobs import launch
        from dpo_lite.jobs.train import prepare_run
    with launch.device(f"dpo-lite check {recipe}", console.print):
        prepare_run(loaded, console)
    command = shlex.join(["dpo-lite", "train", recipe, *(overrides or [])])
    console.print(f"ready:  {command}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def plan(
    recipe: RecipeName,
    overrides: Overrides = None,
    gpu: Annotated[
        str | None,
        typer.Option(help="A card to plan for: 12GB, 3090, 4060ti, …; default: this machine's."),
    ] = None,
    cards: Annotated[
        int,
        typer.Option(min=1, help="So many such cards, with the base's weights divided over them."),
    ] = 1,
) -> None:
    """Memory and time before anything is downloaded or bought: will it fit, and how.

    Example:  dpo-lite plan qwen3-4b --gpu 12GB
    """
    loaded = _first_look(recipe, overrides or [])

    with quick_imports():
        from dpo_lite.jobs.forecast import forecast

    with doing(Console(stderr=True), "reading the data") as spinner:
        outlook = forecast(loaded, gpu, spinner.update, cards)
    for line in outlook.lines():
        console.print(line, highlight=False, markup=False)
    if not outlook.fits:
        raise typer.Exit(1)


def _first_look(recipe: str, overrides: list[str]):
    """The recipe to look at, of a run made of runs its first step's; says so."""
    from dpo_lite.recipe import load_recipe, recipe_stem
    from dpo_lite.runs.rlhf_steps import first_look

    first, note = first_look(load_recipe(recipe, overrides, say), recipe_stem(recipe))
    if note:
        console.print(note, markup=False, highlight=False)
        console.print()
    return first
