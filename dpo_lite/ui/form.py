"""The recipe's schema as a form, and a form's text as values: no Gradio in here.

A field shows text, so that wrong input can stand in it with a message beside it, instead of being
bent into something valid. The YAML is the truth; a form field that changes edits one key of it.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from dpo_lite.errors import UserError
from dpo_lite.recipe import Recipe, known_keys, parse_yaml
from dpo_lite.recipe.edit import UNSET, inline, set_key
from dpo_lite.recipe.faults import LEAST_SAID, by_key
from dpo_lite.recipe.one_of import OneOf, OneOrSum
from dpo_lite.runs.rlhf_steps import first_look
from dpo_lite.tasks import sections_of_tasks
from dpo_lite.ui.labels import label, suits

TITLES = {
    "": "Task",
    "run": "Run",
    "model": "Model",
    "adapter": "Adapter",
    "data": "Data",
    "train": "Training",
    "ppo": "PPO",
    "rlhf": "RLHF",
    "eval": "Evaluation",
    "judge": "Judge",
    "hub": "Publishing",
}
OF_TASK = sections_of_tasks()  # which tasks the sections are for that some tasks alone have
DEFAULT_TASK = Recipe.model_fields["task"].default
AUTOMATIC = "default"  # what a choice shows for a key that is not set and has no own default

Kind = Literal["choice", "number", "text", "lines", "yaml"]


@dataclass(frozen=True)
class FormField:
    """One key of the recipe. ``choices`` pairs what is shown with the value that it stands for."""

    key: str
    kind: Kind
    help: str
    default: Any
    common: bool
    choices: tuple[tuple[str, Any], ...] = ()
    or_text: bool = False  # of kind yaml: what is in no brackets is text as it stands
    or_sum: bool = False  # of kind choice: a sum of some of them can be written too

    @property
    def section(self) -> str:
        return self.key.rpartition(".")[0]

    @property
    def label(self) -> str:
        return label(self.key)

    def shown(self, value: Any) -> str:
        """A value of the YAML as the field's text; ``UNSET`` shows the default."""
        if self.kind == "choice":
            value = self.default if value is UNSET else value
            other = inline(value) if isinstance(value, dict) else str(value)  # a sum of losses
            return next((name for name, own in self.choices if _same(own, value)), other)
        if value is UNSET or value is None:
            return ""
        if self.kind == "lines" and _is_texts(value):
            return "\n".join(item.replace("\\", "\\\\").replace("\n", "\\n") for item in value)
        return value if isinstance(value, str) else inline(value)

    def shown_choice(self, text: str) -> str | None:
        """The text as the menu of a choice shows it; None where it is none that it can show."""
        return text if self.or_sum or any(name == text for name, _ in self.choices) else None

    def read(self, text: str) -> Any:
        """The value that a field's text means; what makes no sense stays text, for the schema."""
        if self.kind == "choice":
            value = next((own for name, own in self.choices if name == text), text)
            if value is None:
                return UNSET
            if text.strip().startswith("{"):
                with suppress(UserError):
                    return parse_yaml(text, self.key)
            return value
        if not text.strip():
            return UNSET
        if self.kind == "lines":
            return [_unescaped(line) for line in re.split(r"\r?\n", text) if line.strip()]
        if self.kind == "text":
            return text.strip()
        # A source may be plain text, such as a path with a space, or YAML in brackets.
        if self.or_text and text.strip()[0] not in "[{-":
            return text.strip()
        try:
            value = parse_yaml(text, self.key)
        except UserError:
            return text.strip()
        return text.strip() if value is None else value


@dataclass(frozen=True)
class Checked:
    """A recipe's text looked at: ``faults`` by key, and under "" what concerns no single field."""

    values: dict[str, Any] | None
    recipe: Recipe | None
    faults: dict[str, str]

    def value(self, key: str) -> Any:
        section, _, leaf = key.rpartition(".")
        holder = (self.values or {}).get(section, {}) if section else self.values or {}
        return holder.get(leaf, UNSET) if isinstance(holder, dict) else UNSET

    def shows(self, section: str) -> bool:
        """Whether a section is of use to the task, or is filled in and must be seen to be wrong."""
        task = self.value("task")
        return (
            section not in OF_TASK
            or (DEFAULT_TASK if task is UNSET else task) in OF_TASK[section]
            or bool((self.values or {}).get(section))
        )

    def offers(self, key: str) -> bool:
        """Whether a key's field is of use to the task, or is filled in and must be seen."""
        task = self.value("task")
        named = task if isinstance(task, str) else DEFAULT_TASK
        return suits(key, named) or self.value(key) is not UNSET

    @property
    def reason(self) -> str:
        """Why the recipe cannot be started, in one line; empty where it can."""
        count = len(self.faults)
        if not count:
            return ""
        key, text = next(iter(self.faults.items()))
        first = text if not key or text.startswith(key) else f"{key} {text}"
        return first if count == 1 else f"{first} (and {count - 1} more)"


def fields() -> list[FormField]:
    """Every key of the schema as a field, in the schema's order."""
    return [_field(key, info) for key, info in known_keys().items()]


def check_text(text: str) -> Checked:
    """Read a recipe's YAML; never raises: what is wrong stands in ``faults``."""
    try:
        values = parse_yaml(text, "the YAML,")
    except UserError as error:
        return Checked(None, None, {"": str(error)})
    if not isinstance(values, dict):
        return Checked({}, None, {"": "The recipe is empty; it starts with `model:` and `data:`."})
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        return Checked(values, None, _beside(by_key(error.errors())))
    try:
        first_look(recipe, "rlhf")  # the recipes of its steps
    except UserError as error:
        key, _, fault = str(error).partition(": ")
        return Checked(values, None, {key: fault} if key in known_keys() else {"": str(error)})
    return Checked(values, recipe, {})


def change(text: str, field: FormField, shown: str) -> str:
    """The YAML after a field was changed; raises UserError where the YAML cannot be read."""
    return set_key(text, field.key, field.read(shown))


def _beside(faults: dict[str, str]) -> dict[str, str]:
    """A missing section is said beside the key that it lacks, what is no field under ""."""
    keys = known_keys()
    beside: dict[str, str] = {}
    for key, text in faults.items():
        required = [k for k, f in keys.items() if k.startswith(f"{key}.") and f.is_required()]
        if key not in keys and required and "missing" in text:
            beside |= dict.fromkeys(required, "is missing; it is required")
        elif key in keys:
            beside[key] = text.removeprefix(f"{key} ").removeprefix(f"{key}: ")
        else:
            full = text if text.startswith(key) else f"{key} {text}"
            beside[""] = f"{beside[''].rstrip('.')}; {full}" if "" in beside else full
    return beside


def _field(key: str, info: FieldInfo) -> FormField:
    registry = next((meta.names for meta in info.metadata if isinstance(meta, OneOf)), None)
    kind, choices = _kind(info.annotation) if registry is None else _named(registry)
    default = UNSET if info.is_required() else info.get_default(call_default_factory=True)
    if kind == "choice" and default is None:
        choices = ((AUTOMATIC, None), *choices)
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    text = info.description + _hint(info, kind, default)
    return FormField(
        key,
        kind,
        text,
        default,
        bool(extra.get("common")),
        tuple(choices),
        or_text=kind == "yaml" and str in _alternatives(info.annotation),
        or_sum=any(isinstance(meta, OneOrSum) for meta in info.metadata),
    )


def _kind(annotation: Any) -> tuple[Kind, tuple]:
    """The kind of field for a type, and its choices."""
    parts = [part for part in _alternatives(annotation) if part is not type(None)]
    words = [word for part in parts if get_origin(part) is Literal for word in get_args(part)]
    if all(get_origin(part) is Literal or part is bool for part in parts):
        switch = [("yes", True), ("no", False)] if bool in parts else []
        return "choice", tuple((str(word), word) for word in words) + tuple(switch)
    if all(part in (int, float) or get_origin(part) is Literal for part in parts):
        return "number", ()
    if parts == [str]:
        return "text", ()
    entries = [get_args(part)[0] for part in parts if get_origin(part) is list]
    if len(parts) == len(entries) == 1 and _alternatives(entries[0]) == [str]:
        return "lines", ()
    return "yaml", ()


def _named(registry: Mapping[str, Any]) -> tuple[Kind, tuple]:
    return "choice", tuple((name, name) for name in registry)


def _alternatives(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [inner for part in get_args(annotation) for inner in _alternatives(part)]
    return [annotation]


# Bounds that nobody comes near are not told: they keep nonsense out.
_BOUNDS: dict[str, Callable[[Any], str]] = {
    "gt": lambda bound: f"above {bound:g}",
    "ge": lambda bound: "above 0" if 0 < bound <= LEAST_SAID else f"{bound:g} or more",
    "lt": lambda bound: f"below {bound:g}",
    "le": lambda bound: f"{bound:g} at most" if bound <= 4096 else "",
}


def _hint(info: FieldInfo, kind: Kind, default: Any) -> str:
    """Bounds and default in words, behind the description."""
    inner = [
        meta
        for part in get_args(info.annotation)
        if get_origin(part) is Annotated
        for outer in get_args(part)[1:]
        for meta in getattr(outer, "metadata", [outer])
    ]
    hints = [
        word(getattr(meta, name))
        for meta in [*info.metadata, *inner]
        for name, word in _BOUNDS.items()
        if getattr(meta, name, None) is not None
    ]
    hints = [hint for hint in hints if hint]
    if kind == "lines":
        hints.append("one per line")
    elif kind != "choice" and default not in (UNSET, None):
        hints.append(f"default {default if isinstance(default, str) else inline(default)}")
    return f" ({', '.join(hints)})" if hints else ""


def _same(one: Any, other: Any) -> bool:
    """Equal, and not merely as True equals 1."""
    return type(one) is type(other) and one == other


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _unescaped(line: str) -> str:
    return line.strip().replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\")


def plain(text: str) -> str:
    """Text for a field's hint, which reads tags and `code`, shown without either."""
    return text.translate(str.maketrans({"<": "‹", ">": "›", "`": "'", "&": "＆"}))
