"""`dpo-lite recipes`: list, copy and explain."""

from __future__ import annotations

import shutil
from pathlib import Path

import typer
from rich.markup import escape
from rich.table import Table

from dpo_lite.cli.common import app, console
from dpo_lite.errors import UserError

recipes_app = typer.Typer(
    help="List and copy the recipes that ship.  Example:  dpo-lite recipes cp quickstart my.yaml"
)
app.add_typer(recipes_app, name="recipes")


@recipes_app.callback(invoke_without_command=True)
def recipes(context: typer.Context) -> None:
    """The recipes that ship, each with its model, card and data.

    Example:  dpo-lite recipes
    """
    if context.invoked_subcommand is not None:
        return
    from dpo_lite.recipe import RECIPES_FOLDER, load_recipe

    table = Table(box=None, pad_edge=False, padding=(0, 2, 1, 0), expand=True)
    table.add_column("recipe", no_wrap=True)
    table.add_column("for", ratio=3)
    table.add_column("base and data", ratio=4, overflow="fold")
    for path in sorted(RECIPES_FOLDER.glob("*.yaml"), key=lambda p: (p.stem != "quickstart", p)):
        recipe = load_recipe(path)
        data = " + ".join(part.source for part in recipe.data.sources)
        table.add_row(path.stem, escape(_purpose(path)), escape(f"{recipe.model.base}\n{data}"))
    console.print(table)
    console.print("\ndpo-lite recipes cp NAME FILE   makes a copy that is yours to change")


def _purpose(path: Path) -> str:
    """The first comment line of a recipe, which says what it is for."""
    first = path.read_text(encoding="utf-8").splitlines()[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""


@recipes_app.command("cp")
def recipes_cp(name: str, file: Path) -> None:
    """Copy a shipped recipe to a file of your own.

    Example:  dpo-lite recipes cp qwen3-4b my.yaml
    """
    from dpo_lite.recipe import find_recipe

    source = find_recipe(name)
    if file.exists():
        raise UserError(f"{file} exists; choose another name or remove it first.")
    shutil.copyfile(source, file)
    console.print(f"{source.name} → {file};  dpo-lite train {file}", markup=False)


@recipes_app.command("keys")
def recipes_keys() -> None:
    """Every key of a recipe, its default and its effect.

    Example:  dpo-lite recipes keys
    """
    from dpo_lite.recipe import default_text, known_keys

    table = Table(box=None, pad_edge=False)
    for column in ("key", "default", "effect"):
        table.add_column(column)
    for key, field in known_keys().items():
        table.add_row(key, escape(default_text(field)), escape(field.description))
    console.print(table)
