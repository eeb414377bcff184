"""What brings a trained adapter to others: `push`, `whoami`, `merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpo_lite.cli.common import FullBase, RunName, RunsFolder, app, console
from dpo_lite.imports import quick_imports
from dpo_lite.runs.progress import doing

BaseId = Annotated[
    str | None, typer.Option(help="The base's public id, where the recipe names a folder.")
]
Checkpoint = Annotated[
    str | None, typer.Option(help="A checkpoint instead of the result: its update, or `last`.")
]


@app.command()
def push(
    run: RunName,
    repo: Annotated[
        str | None, typer.Option(help="user/name on the Hub; default: hub.repo.")
    ] = None,
    base_id: BaseId = None,
    checkpoint: Checkpoint = None,
    private: Annotated[
        bool | None,
        typer.Option(
            "--private/--public",
            help="How a new repository is made; default: hub.private.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the files and the card; upload nothing.")
    ] = False,
    runs: RunsFolder = "runs",
) -> None:
    """Publish the adapter on the Hugging Face Hub, with a card from the run's facts.

    The token comes from HF_TOKEN or `hf auth login`.

    Example:  dpo-lite push zephyr-7b-1 --repo me/zephyr-dpo --dry-run
    """
    from dpo_lite.hub import push as hub
    from dpo_lite.runs.folder import open_run

    trained = open_run(run, runs)
    options = {"repo": repo, "base_id": base_id, "checkpoint": checkpoint, "private": private}
    if dry_run:
        staged = hub.preview(trained, **options)
        _print_staged(staged)
        console.rule("README.md", style="dim")
        console.print(staged.card, highlight=False, markup=False)
        console.rule(style="dim")
        made = "private" if staged.private else "public"
        console.print(
            f"dry run: nothing was uploaded. {staged.repo} would be {made} if it is new.",
            style="yellow",
            highlight=False,
        )
        return
    done = hub.push(trained, lambda text: console.print(text, markup=False), **options)
    _print_staged(done.staged)
    visible = "private" if done.private else "public"
    new = "new, " if done.created else ""
    console.print(f"{done.url}  ({new}{visible})", highlight=False, markup=False, soft_wrap=True)
    if done.private != done.staged.private and not done.created:
        wanted = "private" if done.staged.private else "public"
        console.print(
            f"It was there before and is {visible}, not {wanted}: its settings page changes that.",
            style="yellow",
        )
    if not done.changed:
        console.print("Everything was up to date: no new commit.")


def _print_staged(staged) -> None:
    for name, size in staged.files:
        console.print(f"{size:>12,}  {name}", highlight=False, markup=False)
    for note in staged.notes:
        console.print(f"recipe.yaml, {note}", highlight=False, markup=False)


@app.command()
def whoami() -> None:
    """Who is logged in on the Hub, and where that token may write.

    Example:  dpo-lite whoami
    """
    from dpo_lite.hub.push import logged_in

    account = logged_in()
    console.print(f"{account.name}, {account.source}", highlight=False, markup=False)
    console.print(account.permission(), highlight=False, markup=False)


@app.command()
def merge(
    run: RunName,
    out: Annotated[Path, typer.Argument(help="A new folder for the merged model.")],
    base: FullBase = None,
    checkpoint: Checkpoint = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure/--no-measure", help="Score held-out rows before and after the merge."
        ),
    ] = True,
    gguf_ready: Annotated[
        bool, typer.Option("--gguf-ready", help="Also leave what llama.cpp's converter needs.")
    ] = False,
    modelfile: Annotated[
        bool, typer.Option("--modelfile", help="Also a Modelfile for Ollama; with it --gguf-ready.")
    ] = False,
    runs: RunsFolder = "runs",
) -> None:
    """Merge the adapter into the 16-bit base, shard by shard: a model without PEFT.

    Example:  dpo-lite merge zephyr-7b-1 merged/zephyr --gguf-ready
    """
    from dpo_lite.runs.folder import open_run

    trained = open_run(run, runs)
    with quick_imports():
        from dpo_lite.export.run import merge_run
    with doing(console, "merging") as spinner:
        options = {"base": base, "checkpoint": checkpoint, "measure": measure}
        done = merge_run(
            trained, out, **options, gguf_ready=gguf_ready, modelfile=modelfile, say=spinner.update
        )
    console.print(f"{done.folder}  {done.changed} weights of {done.base} merged", markup=False)
    for line in [*(done.change.lines() if done.change else []), *done.notes]:
        console.print(line, highlight=False, markup=False)
    if done.commands:
        console.print("to run in llama.cpp's folder, one after the other:")
    for line in done.commands:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
