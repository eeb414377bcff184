"""What all commands share: the app, the console, options that mean the same everywhere."""

from __future__ import annotations

import math
import os
from typing import Annotated

import typer
from rich.console import Console
from rich.control import _CONTROL_STRIP_TRANSLATE

from dpo_lite import __version__
from dpo_lite.bounded import MAX_SEED, MAX_TOKENS
from dpo_lite.errors import UserError
from dpo_lite.quiet import quiet_libraries

# Light: torch comes where processes were launched together.
from dpo_lite.training import launcher, ranks

app = typer.Typer(
    name="dpo-lite",
    help="Teach a language model your preferences on the one GPU you own.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# Answers, logs and names of others are text: rich takes bells out of it, but no escape sequences,
# by which they could write into the clipboard or over what stands above.
_CONTROL_STRIP_TRANSLATE.update(dict.fromkeys((0x1B, 0x7F, *range(0x80, 0xA0))))
console = Console()

TOGETHER = ("train", "check")  # commands that several processes do together

Overrides = Annotated[
    list[str] | None, typer.Argument(help="Changes to the recipe, such as train.beta=0.05")
]
RecipeName = Annotated[str, typer.Argument(help="A recipe's file or name.")]
RunName = Annotated[str, typer.Argument(help="A run: its name, or its folder.")]
Longest = Annotated[int, typer.Option(min=1, max=MAX_TOKENS, help="Tokens of the longest answer.")]
Seed = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of the random numbers.")]
FullBase = Annotated[
    str | None, typer.Option("--base", help="The 16-bit base, where it is not the recipe's.")
]
RunsFolder = Annotated[str, typer.Option(help="Where the runs are.")]


def finite(value: float | None) -> float | None:
    """For an option with bounds: NaN is in all of them."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter("it must be a finite number")
    return value


def say(text: str) -> None:
    """A line as it is: no markup is read in it."""
    console.print(text, markup=False, highlight=False)


def join() -> None:
    """Become one of the processes of a launch, where there are others; the first of them prints."""
    ranks.join()
    console.quiet = not ranks.first()


def _version(asked: bool) -> None:
    if asked:
        print(f"dpo-lite {__version__}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and library warnings.")
    ] = False,
) -> None:
    if debug:
        os.environ["DPO_LITE_DEBUG"] = "1"
    quiet_libraries()
    if launcher.launched() and context.invoked_subcommand not in TOGETHER:
        raise UserError(
            f"`dpo-lite {context.invoked_subcommand}` is for one process; start it without a"
            " launcher."
        )
