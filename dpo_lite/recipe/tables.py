"""The schema as tables: every key with its default and its effect."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from dpo_lite.recipe.schema import Recipe


def known_keys(model: type[BaseModel] = Recipe, prefix: str = "") -> dict[str, Any]:
    """Return every leaf key of the schema, as ``train.beta`` -> its pydantic field, in order."""
    keys: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys |= known_keys(field.annotation, f"{prefix}{name}.")
        else:
            keys[prefix + name] = field
    return keys


def default_text(field) -> str:
    """A field's default for a table: ``required`` where there is none."""
    if field.is_required():
        return "required"
    return str(field.get_default(call_default_factory=True))


def keys_table() -> str:
    """The Markdown table of every key, its default and its effect (docs/recipes.md)."""
    lines = ["| key | default | effect |", "| --- | --- | --- |"]
    for key, field in known_keys().items():
        effect = field.description.replace("|", "\\|")
        lines.append(f"| `{key}` | `{default_text(field)}` | {effect} |")
    return "\n".join(lines) + "\n"
