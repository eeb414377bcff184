"""Whether a recipe runs Python code that is not ours: the base's own, or a reward's function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpo_lite.errors import UserError
from dpo_lite.names import is_function
from dpo_lite.recipe.schema import Recipe


def code_in(recipe: Recipe) -> str | None:
    """The key by which a recipe, or a step of one made of runs, runs such code; else None."""
    waiting: list[tuple[str, Any]] = list(recipe.model_dump().items())
    while waiting:
        key, value = waiting.pop()
        leaf = key.rpartition(".")[2]
        if isinstance(value, Mapping):
            waiting += [(f"{key}.{name}", inner) for name, inner in value.items()]
            continue
        trusts = leaf == "trust_remote_code" and value not in (False, None)
        if trusts or (leaf == "reward" and isinstance(value, str) and is_function(value)):
            return key
    return None


def refuse_code(recipe: Recipe) -> None:
    """Raises UserError where a recipe of somebody who may not have code run would do so."""
    if key := code_in(recipe):
        raise UserError(
            f"{key}: this page is open to others and runs no Python code of a base or a reward;"
            " whoever started it can allow that by `dpo-lite ui --allow-code`."
        )
