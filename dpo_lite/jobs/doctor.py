"""The data doctor: look at a data set before anything is trained on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from dpo_lite.data.prepare import FEW, PreparedData, prepare
from dpo_lite.data.report import DataReport
from dpo_lite.recipe import Recipe, apply_override, library, load_recipe, validate_recipe
from dpo_lite.recipe.consent import refuse_code
from dpo_lite.tasks import TASKS

NO_BASE = "none"


def examine(
    source: str,
    overrides: Sequence[str] = (),
    base: str | None = None,
    say: Callable[[str], None] = lambda text: None,
    shown: int = FEW,
    note: Callable[[str], None] = lambda text: None,
    code: bool = True,
) -> DataReport:
    """Report on a source, or on the data of a recipe (file or name); ``overrides`` are keys.

    With a base the text is rendered with its chat template and counted in its tokens, exactly as a
    run would train on it; without one lengths are in characters. ``shown`` is how many rendered
    examples the report holds; ``note`` is told what an override took along. Without
    ``code`` a recipe that runs Python code of its base is refused. Raises UserError in
    one sentence.
    """
    recipe = asked_recipe(source, overrides, base, note)
    if not code:
        refuse_code(recipe)
    return prepared(recipe, say, shown)[1].report


def prepared(
    recipe: Recipe, say: Callable[[str], None] = lambda text: None, shown: int = FEW
) -> tuple[Any | None, PreparedData]:
    """The tokenizer and the data of a recipe; without a base there is no tokenizer."""
    if recipe.model.base == NO_BASE:
        seed, limit = recipe.train.seed, recipe.eval.limit
        return None, prepare(recipe.data, None, seed=seed, eval_limit=limit, shown=shown, say=say)
    from dpo_lite.training.recipe_data import load_data  # transformers, for the tokenizer alone

    return load_data(recipe, say, shown)


def asked_recipe(
    source: str, overrides: Sequence[str], base: str | None, note: Callable[[str], None]
) -> Recipe:
    """The recipe of that name or file, or one of a source alone."""
    if _names_recipe(source):
        return load_recipe(source, [*overrides, *([f"model.base={base}"] if base else [])], note)
    values = {"model": {"base": base or NO_BASE}, "data": {"train": source}}
    overridden: dict[str, Any] = {}
    for override in overrides:
        apply_override(overridden, override)
    name = overridden.get("task") or _task_of(overridden.get("data", {}).get("pairs"))
    if name in TASKS:  # what else it needs has nothing to do with the data
        values |= {"task": name} | deepcopy(dict(TASKS[name].data_alone))
    for override in overrides:
        apply_override(values, override)
    return validate_recipe(values, "dpo-lite data")


def _names_recipe(source: str) -> bool:
    """A recipe's file, or the name of one; a data set of that name in this folder goes first."""
    if source.endswith((".yaml", ".yml")):
        return True
    return source in library.names() and not Path(source).exists()


def _task_of(pairs: str | None) -> str | None:
    """The task whose alone a value of data.pairs is, which then need not be named."""
    takers = [task.name for task in TASKS.values() if not task.composed and pairs in task.pairs]
    return takers[0] if len(takers) == 1 else None
