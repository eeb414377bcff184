"""`dpo-lite export`: the adapter for other programs, or at another strength."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from dpo_lite.cli.common import FullBase, RunName, RunsFolder, app, console, say
from dpo_lite.errors import UserError
from dpo_lite.imports import quick_imports
from dpo_lite.runs.progress import doing

if TYPE_CHECKING:
    from dpo_lite.runs.folder import Run

KINDS = ("peft", "gguf", "gguf-adapter", "vllm")


@app.command()
def export(
    run: RunName,
    out: Annotated[
        Path | None, typer.Argument(help="A new folder; default: exports/RUN-KIND.")
    ] = None,
    to: Annotated[
        str,
        typer.Option(
            help="peft: the adapter at --strength. gguf: a model for llama.cpp, Ollama, LM Studio."
            " gguf-adapter: LoRA for llama.cpp. vllm: LoRA for vLLM and SGLang."
        ),
    ] = "peft",
    quant: Annotated[
        str, typer.Option(help="Levels of --to gguf, with commas between: f16, q8_0, q4_k_m, …")
    ] = "q8_0",
    strength: Annotated[
        float | None,
        typer.Option(
            help="With --to peft: what the adapter adds is multiplied by it; 1 leaves it as it is."
        ),
    ] = None,
    base: FullBase = None,
    measure: Annotated[
        bool,
        typer.Option("--measure/--no-measure", help="Score held-out rows before and after."),
    ] = True,
    llama_cpp: Annotated[
        Path | None,
        typer.Option(
            help="Your llama.cpp's folder: with --to gguf its converter and quantiser write the"
            " files, of more architectures and levels."
        ),
    ] = None,
    runs: RunsFolder = "runs",
) -> None:
    """The result for other programs: as GGUF, for vLLM, or as an adapter at another strength.

    Example:  dpo-lite export quickstart-1 --to gguf --quant q8_0,q4_k_m
    """
    from dpo_lite.runs.folder import open_run

    if to not in KINDS:
        raise UserError(f"--to {to}: there is no such kind; there are {', '.join(KINDS)}.")
    if (strength is not None) != (to == "peft"):
        raise UserError(
            "--strength N is what --to peft asks for, and no other kind has it; give one or the"
            " other."
        )
    if llama_cpp and to != "gguf":
        raise UserError("--llama-cpp is for --to gguf alone; leave it out.")
    trained = open_run(run, runs)
    out = out or Path("exports") / f"{trained.name}-{to}"
    if strength is not None:
        _strength(trained, out, strength, measure)
    elif to == "gguf":
        _gguf(trained, out, quant, base, measure, llama_cpp)
    else:
        _adapter(trained, out, to, base)


def _adapter(trained: Run, out: Path, to: str, base: str | None) -> None:
    with quick_imports():
        from dpo_lite.export.as_adapter import export_gguf_adapter, export_vllm
    done = (export_vllm if to == "vllm" else export_gguf_adapter)(trained, out, base)
    for line in (str(done.path), *done.commands):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _gguf(
    trained: Run, out: Path, quant: str, base: str | None, measure: bool, llama_cpp: Path | None
) -> None:
    from dpo_lite.runs.device_lock import device_lock

    with quick_imports():
        from dpo_lite.export.to_gguf import export_gguf
    from dpo_lite.report.exports import HEAD

    with doing(console, "exporting") as spinner, device_lock("export", say=spinner.update):
        done = export_gguf(trained, out, quant, base, measure, spinner.update, llama_cpp)
    if done.rows:
        console.print(_table(HEAD, done.rows))
        say("KL in nats per token of held-out responses.")
    for text in done.warnings:
        console.print(text, style="yellow", highlight=False, markup=False)
    for line in [*done.notes, *map(str, done.files), *done.commands]:
        say(line)


def _strength(trained: Run, out: Path, strength: float, measure: bool) -> None:
    from dpo_lite.export.strength import export_run
    from dpo_lite.runs.device_lock import device_lock

    with doing(console, "scaling") as spinner, device_lock("export", say=spinner.update):
        done = export_run(trained, out, strength, measure, spinner.update)
    if done.rows:
        head = ("held-out set", "measure", "reference", "strength 1", f"strength {strength:g}")
        console.print(_table(head, done.rows))
    if done.kl:
        console.print(
            "KL to the reference, nats per answer:  {:.2f} → {:.2f}".format(*done.kl),
            highlight=False,
        )
    say(f"adapter  {done.folder}")


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in head:
        words = column in ("held-out set", "measure", "format")
        table.add_column(column, justify="left" if words else "right")
    for row in rows:
        table.add_row(*row)
    return table
