"""From keyword arguments to a recipe, by the way that the command line's overrides go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dpo_lite.api.rows import as_source
from dpo_lite.errors import UserError
from dpo_lite.recipe import (
    Recipe,
    apply_overrides,
    find_recipe,
    known_keys,
    load_recipe,
    parse_yaml,
    recipe_stem,
    validate_recipe,
)
from dpo_lite.recipe.edit import inline
from dpo_lite.recipe.replaced import value_of
from dpo_lite.runs.room import check_output

STEM = "run"  # what runs without a recipe's name are called
ROWS = {"data": "data.train", "eval": "data.eval"}  # arguments that may hold rows themselves


def asked_recipe(
    recipe: str | Path | Mapping[str, Any] | None,
    keys: Mapping[str, Any] | None,
    given: Mapping[str, Any],
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Recipe, str]:
    """The validated recipe and what its runs are called.

    ``recipe``: a recipe's file or name, or its sections as nested dicts; ``keys`` by their dotted
    names, ``given`` by the last part of the name where it is one key's alone. ``say`` is told which
    keys of the recipe went with what was replaced. Raises UserError as the command line does.
    """
    if keys is not None and not isinstance(keys, Mapping):
        raise UserError(
            f"keys is a {type(keys).__name__}; give a dict of keys such as {{'train.beta': 0.05}}."
        )
    changes = dotted(given) | dict(keys or {})
    values = _values(recipe)
    folder = changes.get("run.folder") or value_of(values, "run.folder") or "runs"
    for argument, key in ROWS.items():
        section, _, leaf = key.partition(".")
        if key in changes:
            changes[key] = as_source(changes[key], _writable(folder, changes[key]), argument)
        elif not isinstance(recipe, str | Path) and (own := value_of(values, key)) is not None:
            values[section][leaf] = as_source(own, _writable(folder, own), key)
    overrides = [f"{key}={_inline(key, value)}" for key, value in changes.items()]
    if isinstance(recipe, str | Path):
        return load_recipe(recipe, overrides, say), recipe_stem(recipe)
    apply_overrides(values, overrides, say)
    return validate_recipe(values, "the recipe"), STEM


def dotted(given: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments by the full names of the keys they are.

    A section's name takes its keys as a dict. A name that is no key's stays as it is: the schema
    then says what it may have meant. Raises UserError for one that several keys have.
    """
    known = known_keys()
    sections = {key.partition(".")[0] for key in known if "." in key}
    changes: dict[str, Any] = {}
    for name, value in given.items():
        if name in sections and isinstance(value, Mapping) and not _has_splits(value):
            changes |= {f"{name}.{leaf}": inner for leaf, inner in value.items()}
            continue
        ends = [key for key in known if key == name or key.endswith(f".{name}")]
        # rlhf's reward and answers are steps and measures of a run of runs.
        found = [key for key in ends if not key.startswith("rlhf.")] or ends
        if len(found) > 1:
            raise UserError(
                f"{name} may be {' or '.join(found)}; say which: keys={{{found[0]!r}: ...}}."
            )
        changes[ROWS.get(name) or (found[0] if found else name)] = value
    return changes


def _has_splits(value: Mapping[str, Any]) -> bool:
    """Whether a mapping is a ``datasets.DatasetDict``, which is no section."""
    return any(hasattr(inner, "column_names") for inner in value.values())


def _values(recipe: str | Path | Mapping[str, Any] | None) -> dict[str, Any]:
    """What the recipe says itself, of a file read without judging it."""
    if recipe is None:
        return {"model": {}, "data": {}}  # so that a fault names the key in them
    if isinstance(recipe, Mapping):
        return {k: dict(v) if isinstance(v, Mapping) else v for k, v in recipe.items()}
    if not isinstance(recipe, str | Path):
        raise UserError(
            f"The recipe is a {type(recipe).__name__}; give its name, its file, or its sections as "
            "a dict."
        )
    path = find_recipe(recipe)
    values = parse_yaml(path.read_text(encoding="utf-8", errors="replace"), str(path))
    return values if isinstance(values, dict) else {}


def _writable(folder: Any, rows: Any) -> str:
    """The folder of the runs; looked at before rows are written beside them."""
    if not isinstance(rows, str | None):
        check_output(str(folder))
    return str(folder)


def _inline(key: str, value: Any) -> str:
    """A value as the command line takes it."""
    try:
        return inline(_plain(value))
    except Exception as error:  # PyYAML has its own, below no common one of Python's
        raise UserError(
            f"{key}: a {type(value).__name__} cannot be written into a recipe; give a number, a "
            "text, or a list or dict of them."
        ) from error


def _plain(value: Any) -> Any:
    """Numbers of numpy, tuples and paths as what YAML has."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    return value.tolist() if hasattr(value, "tolist") else value
