"""What stands in the Recipes tab: a recipe's file and the text that became of it. No Gradio."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpo_lite.errors import UserError
from dpo_lite.recipe import RECIPES_FOLDER, Recipe, library, load_recipe
from dpo_lite.recipe.edit import UNSET, inline, override_text, set_key
from dpo_lite.recipe.replaced import BELONGINGS, OF_ADAPTER, OF_DATA, in_words, outdated, value_of
from dpo_lite.ui.form import FormField, change, check_text

START = f"shipped:{library.FIRST}"


@dataclass(frozen=True)
class Draft:
    """``picked`` is ``shipped:name`` or ``own:name``; ``folder`` is where one's own are."""

    picked: str
    text: str
    folder: Path

    @property
    def name(self) -> str:
        return self.picked.partition(":")[2]

    @property
    def origin(self) -> str:
        """The shipped recipe that this comes from; empty where none is known."""
        return library.origin(self.text) or (self.name if _is_shipped(self.picked) else "")

    def command_words(self, recipe: Recipe) -> list[str]:
        """How the command line says this recipe: a name or file, and what differs from it.

        Raises UserError where the file has faults, so that it can only be said once it is saved.
        """
        path = recipe_path(self.picked, self.folder)
        word = self.name if _is_shipped(self.picked) else str(path)
        try:
            return [word, *library.as_overrides(load_recipe(path), recipe)]
        except UserError:
            raise UserError(f"{path} itself has faults; save this text first.") from None

    def differences(self, recipe: Recipe) -> list[tuple[str, Any, Any]] | None:
        """From the shipped recipe to this; None where it comes from none."""
        return library.difference(load_recipe(self.origin), recipe) if self.origin else None


def open_draft(picked: str, folder: Path) -> Draft:
    """A recipe as its file has it; the quickstart where there is no such recipe (any more)."""
    try:
        return Draft(picked, recipe_path(picked, folder).read_text(encoding="utf-8"), folder)
    except (UserError, OSError, UnicodeDecodeError):
        return open_draft(START, folder) if picked != START else Draft(START, "", folder)


def restore_draft(browser_copy: Any, folder: Path) -> Draft:
    """What the browser kept, or the quickstart; what it sends is not trusted to have a shape."""
    fields = browser_copy if isinstance(browser_copy, dict) else {}
    picked, text = fields.get("picked"), fields.get("text")
    if not isinstance(picked, str) or not isinstance(text, str) or not text.strip():
        return open_draft(START, folder)
    return Draft(open_draft(picked, folder).picked, text, folder)


def of_run(run: Path, overrides: list[str], folder: Path) -> Draft:
    """A run's recipe with other keys, told apart from the shipped recipe that it came from."""
    text = override_text((run / "recipe.yaml").read_text(encoding="utf-8"), overrides)
    origin = library.origin(text)
    return Draft(f"shipped:{origin}" if origin else START, text, folder)


def recipe_path(picked: str, folder: Path) -> Path:
    """The file of a picked recipe; raises UserError for a name that would leave its folder."""
    kind, _, name = picked.partition(":")
    if kind == "shipped" and name in {path.stem for path in RECIPES_FOLDER.glob("*.yaml")}:
        return RECIPES_FOLDER / f"{name}.yaml"
    if kind == "own":
        return library.own_path(name, folder)
    raise UserError(f"There is no recipe {picked}.")


def with_data(text: str, source: str, overrides: list[str]) -> str:
    """The recipe's text with this source to train on, and the keys that go with it.

    The keys of another source are taken out: its columns and filters fit nothing here.
    """
    own = [override for override in overrides if override.startswith("data.")]
    text = set_key(text, "data.limit", UNSET)
    return override_text(text, [f"data.train={inline(source)}", *own])


def with_field(draft: Draft, form_field: FormField, shown: str) -> Draft:
    """The draft after a field of the form was changed.

    What the picked recipe's file says of the data or the adapter that it replaces goes: once, when
    the file's own value is replaced, so that what is set anew after that stays.
    """
    written, values = file_values(draft), check_text(draft.text).values or {}
    key, text = form_field.key, change(draft.text, form_field, shown)
    if value_of(values, key) == value_of(written, key):
        now = check_text(text).values or {}
        given = changed(written, now, [key, *OF_ADAPTER, *OF_DATA])
        for gone in outdated(written, given):
            text = set_key(text, gone, UNSET)
    return replace(draft, text=text)


def left_out(draft: Draft) -> list[str]:
    """What to say of keys that the picked recipe's file had for what the draft replaces."""
    written, values = file_values(draft), check_text(draft.text).values or {}
    given = changed(written, values, BELONGINGS) | {
        key: value_of(values, key)
        for key in OF_ADAPTER + OF_DATA
        if value_of(values, key) is not None
    }
    return in_words(written, outdated(written, given))


def file_values(draft: Draft) -> dict[str, Any]:
    """What the picked recipe's file says; nothing where it cannot be read any more."""
    try:
        text = recipe_path(draft.picked, draft.folder).read_text(encoding="utf-8")
    except (UserError, OSError, UnicodeDecodeError):
        return {}
    return check_text(text).values or {}


def changed(written: dict[str, Any], values: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Those of the keys whose values differ from the file's."""
    return {
        key: value_of(values, key)
        for key in keys
        if value_of(values, key) != value_of(written, key)
    }


def _is_shipped(picked: str) -> bool:
    return picked.startswith("shipped:")
