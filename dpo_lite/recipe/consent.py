"""Whether a recipe runs Python code that is not ours (the base's own, or a reward's function), or
has this machine ask an address: that of a judge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dpo_lite.errors import UserError
from dpo_lite.names import is_function
from dpo_lite.recipe.schema import Recipe


def code_in(recipe: Recipe) -> str | None:
    """The key by which a recipe, or a step of one made of runs, runs such code; else None."""
    return _first(recipe, _runs_code)


def address_in(recipe: Recipe) -> str | None:
    """The key by which it asks an address, in the same way."""
    return _first(recipe, lambda key, value: _ends_in(key, "judge.url") and value is not None)


def _first(recipe: Recipe, asked: Callable[[str, Any], bool]) -> str | None:
    waiting: list[tuple[str, Any]] = list(recipe.model_dump().items())
    while waiting:
        key, value = waiting.pop()
        if asked(key, value):
            return key
        if isinstance(value, Mapping):
            waiting += [(f"{key}.{name}", inner) for name, inner in value.items()]
    return None


def _runs_code(key: str, value: Any) -> bool:
    if _ends_in(key, "trust_remote_code"):
        return value not in (False, None)
    return _ends_in(key, "ppo.reward") and any(map(is_function, _texts(value)))


def _ends_in(key: str, name: str) -> bool:
    return f".{key}".endswith(f".{name}")


def _texts(value: Any) -> list[str]:
    """All texts in it, however deep: rewards may be a list, and of mappings."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, Mapping) else value
    return [t for v in inner for t in _texts(v)] if isinstance(inner, Iterable) else []


def refuse_code(recipe: Recipe) -> None:
    """Raises UserError where a recipe of somebody who may not have code run would do so, or would
    have this machine, which reaches more than they do, ask an address of their choice."""
    if key := address_in(recipe):
        raise UserError(
            f"{key}: this page is open to others and asks no judge at an address that a recipe"
            " names; whoever started it can allow that by `dpo-lite ui --allow-code`."
        )
    if key := code_in(recipe):
        raise UserError(
            f"{key}: this page is open to others and runs no Python code of a base or a reward;"
            " whoever started it can allow that by `dpo-lite ui --allow-code`."
        )
