"""The commands: parse, call, print. Everything they do lives elsewhere.

Heavy imports stand inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import io
import os
import sys
from copy import copy

import typer
from rich.console import Console
from rich.markup import escape

# The order in which --help lists the commands.
# isort: off
from dpo_lite.cli import before, training, sweeping, trained, judging, asking, drawing  # noqa: F401
from dpo_lite.cli import comparing  # noqa: F401
from dpo_lite.cli import publishing, exporting, verifying, runs, recipes, importing, doctor, ui  # noqa: F401

# isort: on
from dpo_lite.cli.common import app
from dpo_lite.errors import UserError, in_words
from dpo_lite.training import ranks

MAX_WORDS = 4000


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; what a user can put right is printed as one sentence."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a letter that its code has none for is a "?"
            stream.reconfigure(errors="replace")
    try:
        given = sys.argv[1:] if arguments is None else arguments
        _refuse_other_codes(given)
        _app_of(given[:1])(arguments, standalone_mode=True)
    except Exception as error:
        words = in_words(error)
        if not ranks.tells(words or f"{type(error).__name__}: {error}"):
            sys.exit(1)
        if words is None or os.environ.get("DPO_LITE_DEBUG"):
            raise
        if len(words) > MAX_WORDS:  # a path of thousands of letters, an answer of a server
            words = f"{words[: MAX_WORDS // 2]} … {words[-MAX_WORDS // 4 :]}"
        Console(stderr=True).print(f"[red]error[/]  {escape(words)}", highlight=False)
        sys.exit(1)


def _app_of(first: list[str]) -> typer.Typer:
    """The app with the group alone that is asked for, where the first word is one: building all
    commands takes longer than listing a thousand runs."""
    groups = [group for group in app.registered_groups if [group.name] == first]
    if not groups:
        return app
    small = copy(app)
    small.registered_commands, small.registered_groups = [], groups
    return small


def _refuse_other_codes(words: list[str]) -> None:
    """Raise UserError for a word whose bytes are no text: nothing that is written could hold it."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{word!r} is not in UTF-8; give it in UTF-8, and rename a file that is called so."
            ) from None
