"""`dpo-lite import`: another program's configuration as a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from dpo_lite.cli.common import app, console, say
from dpo_lite.errors import UserError


@app.command(name="import")
def import_(
    file: Annotated[str, typer.Argument(help="A YAML file of that program.")],
    recipe: Annotated[
        str | None,
        typer.Argument(help="A file to write, or a name in my-recipes/; default: print it."),
    ] = None,
    to: Annotated[str | None, typer.Option(hidden=True)] = None,  # the second word as it once was
) -> None:
    """Turn a configuration of TRL, LLaMA-Factory, axolotl or ms-swift into a recipe.

    Each key is listed: taken, the same by default, or left out and why. Look at
    all of them.

    Example:  dpo-lite import dpo.yaml mine
    """
    import yaml

    from dpo_lite.recipe import library, parse_yaml, validate_recipe
    from dpo_lite.recipe.imported import LEFT, OURS, imported
    from dpo_lite.recipe.loading import dump_yaml

    path = Path(file)
    if not path.is_file():
        raise UserError(f"There is no file {file}; name another program's YAML.")
    try:
        given = parse_yaml(path.read_text(encoding="utf-8"), file)
    except UnicodeDecodeError:
        raise UserError(f"{file} is not UTF-8 text; save it as UTF-8.") from None
    if not isinstance(given, dict):
        raise UserError(f"{file} holds no keys; name another program's YAML.")
    found = imported(given)
    values = found.values()
    missing = not values.get("data", {}).get("train")
    if missing:
        values.setdefault("data", {})["train"] = "pairs.jsonl"
    validate_recipe(yaml.safe_load(yaml.safe_dump(values)), file)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for name, what, words in found.rows:
        table.add_row(
            Text(name), Text(what, "yellow" if what in (LEFT, OURS) else "dim"), Text(words)
        )
    console.print(table)
    if missing:
        say("data.train  not said there in a way that is understood; set it for pairs.jsonl")
    text = f"# Made of {path.name}\n\n{dump_yaml(values)}"
    where = recipe or to
    if where is None:
        say(f"\n{text}")
        return
    say(f"\nwritten:  dpo-lite check {library.save_as(text, where)}")
