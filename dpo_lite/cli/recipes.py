"""`dpo-lite recipes`: list, copy and explain."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from dpo_lite.cli.common import Overrides, RecipeName, app, console, say
from dpo_lite.names import last_name

recipes_app = typer.Typer(
    help="List, copy and compare recipes.  Example:  dpo-lite recipes cp quickstart"
)
app.add_typer(recipes_app, name="recipes")


@recipes_app.callback(invoke_without_command=True)
def recipes(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """Your recipes and those that ship, each with its model, card and data.

    Example:  dpo-lite recipes
    """
    if context.invoked_subcommand is not None:
        return
    from dpo_lite.recipe import library

    entries = [*library.own(), *library.shipped()]
    if as_json:
        print(json.dumps([_facts(entry) for entry in entries], ensure_ascii=False, indent=2))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for entry in entries:
        yours = "yours: " if entry.own else ""
        table.add_row(entry.name, escape(yours + (entry.purpose or entry.base)))
        if entry.fault:
            table.add_row("", f"[red]{escape(entry.fault)}[/]")
            continue
        facts = (last_name(entry.base), entry.card, entry.time)
        table.add_row("", escape(" · ".join(filter(None, facts))), style="dim")
    console.print(table)
    console.print(
        f"\ndpo-lite recipes cp NAME   makes a copy in {library.OWN_FOLDER}/ to change\n"
        "dpo-lite plan NAME --gpu 12GB   will it fit, and how long"
    )


def _facts(entry) -> dict[str, Any]:
    """What a machine is told of a recipe."""
    return {
        "name": entry.name,
        "file": str(entry.path),
        "own": entry.own,
        "purpose": entry.purpose,
        "base": entry.base,
        "data": entry.data,
        "card": entry.card,
        "time": entry.time,
        "fault": entry.fault or None,
    }


@recipes_app.command("cp")
def recipes_cp(
    name: RecipeName,
    file: Annotated[
        str | None, typer.Argument(help="A file, or a name in my-recipes/; default: my-NAME.")
    ] = None,
    overrides: Overrides = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
) -> None:
    """Copy a recipe to one that is yours to change; it remembers where it comes from.

    Example:  dpo-lite recipes cp qwen3-4b
    Example:  dpo-lite recipes cp quickstart gentle train.beta=0.05
    """
    from dpo_lite.recipe import find_recipe, library, load_recipe, recipe_text
    from dpo_lite.recipe.edit import override_text

    if file and "=" in file:
        file, overrides = None, [file, *(overrides or [])]
    source = find_recipe(name)
    text = recipe_text(source)
    if source.parent == library.RECIPES_FOLDER:
        text = library.with_origin(text, source.stem)
    if overrides:
        load_recipe(source, overrides)  # says what is wrong with them
        text = override_text(text, overrides, say)
    own = file or library.free_name(source.stem)
    target = library.save_as(library.renamed(text, source.stem, own), own, overwrite=force)
    console.print(f"{source.name} → {target};  dpo-lite train {target}", markup=False)


@recipes_app.command("diff")
def recipes_diff(
    file: RecipeName,
    shipped: Annotated[
        str | None, typer.Argument(help="The recipe to compare with; default: where it comes from.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """The keys in which a recipe differs from the shipped one that it comes from.

    Example:  dpo-lite recipes diff my-quickstart
    """
    from dpo_lite.recipe import library

    name, rows = library.compare_with_shipped(file, shipped)
    if as_json:
        differences = [{"key": key, "shipped": old, "own": new} for key, old, new in rows]
        print(json.dumps({"shipped": name, "keys": differences}, ensure_ascii=False, indent=2))
        return
    if not rows:
        console.print(f"no key differs from {name}")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("key", name, file):
        table.add_column(escape(column), overflow="fold")
    for key, old, new in rows:
        table.add_row(key, escape(str(old)), escape(str(new)))
    console.print(table)


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
