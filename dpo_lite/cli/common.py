"""What all commands share: the app, the console, options that mean the same everywhere."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.console import Console

from dpo_lite import __version__
from dpo_lite.quiet import quiet_libraries

app = typer.Typer(
    name="dpo-lite",
    help="Teach a language model your preferences on the one GPU you own.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console()

Overrides = Annotated[
    list[str] | None, typer.Argument(help="Changes to the recipe, such as train.beta=0.05")
]
RunsFolder = Annotated[str, typer.Option(help="Where the runs are.")]


def say(text: str) -> None:
    """A line as it is: no markup is read in it."""
    console.print(text, markup=False, highlight=False)


def _version(asked: bool) -> None:
    if asked:
        print(f"dpo-lite {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
    debug: Annotated[bool, typer.Option(help="Show tracebacks and library warnings.")] = False,
) -> None:
    if debug:
        os.environ["DPO_LITE_DEBUG"] = "1"
    quiet_libraries()
