"""What stands in the Recipes tab: a recipe's file and the text that became of it. No Gradio."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpo_lite.errors import UserError
from dpo_lite.recipe import RECIPES_FOLDER, Recipe, library, load_recipe
from dpo_lite.recipe.edit import UNSET, inline, override_text, set_key
from dpo_lite.recipe.replaced import BELONGINGS, OF_ADAPTER, OF_DATA, in_words, outdated, value_of
from dpo_lite.ui.form import FormField, change, check_text, fields

START = f"shipped:{library.FIRST}"


@dataclass(frozen=True)
class Draft:
    """``picked`` is ``shipped:name`` or ``own:name``; ``folder`` is where one's own are.

    ``aside`` is the last changed draft that another recipe took the place of; ``card`` is what the
    menu says of where it will be trained.
    """

    picked: str
    text: str
    folder: Path
    aside: Draft | None = None
    card: str | None = None

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
    before = fields.get("aside")
    aside = replace(restore_draft(before, folder), aside=None) if before else None
    card = fields.get("card")
    named = card if isinstance(card, str) else None
    return Draft(open_draft(picked, folder).picked, text, folder, aside, named)


def browser_copy(draft: Draft) -> dict[str, Any]:
    """What the browser keeps of a draft; ``restore_draft`` reads it."""
    aside = draft.aside and {"picked": draft.aside.picked, "text": draft.aside.text}
    return {"picked": draft.picked, "text": draft.text, "aside": aside, "card": draft.card}


def as_shown(copy: Any, yaml: str | None, shown: Mapping[str, str], folder: Path) -> Draft:
    """What the screen shows at a click: the draft that the browser knows, and what was typed since.

    ``copy`` came with the form's texts, ``yaml`` is the text beside it and ``shown`` the fields'
    texts by key, as they are now. A field that says what the copy says was not typed in; one that
    is not shown is in none of ``shown``. Raises UserError where text and form cannot go together.
    """
    draft = restore_draft(copy, folder)
    first = open_draft(START, folder)
    if yaml is not None and yaml.strip() == first.text.strip() != draft.text.strip():
        # As the page begins, before what the browser remembers has been put there.
        draft = replace(first, aside=draft.aside, card=draft.card)
    known = check_text(draft.text)
    if yaml is not None and yaml.strip() != draft.text.strip():
        draft = replace(draft, text=yaml)
    if known.values is None:
        return draft
    for form_field in fields():
        text = shown.get(form_field.key)
        value = known.value(form_field.key)
        if text is None or _one_line(form_field, text, form_field.shown(value)):
            continue
        if form_field.kind == "choice" and not text:  # a menu that cannot show what the text says
            continue
        if form_field.read(text) != value:
            draft = with_field(draft, form_field, text)
    return draft


def _one_line(form_field: FormField, text: str, known: str) -> bool:
    """Whether a field shows a text; one of a single line shows no ends of lines."""
    if form_field.kind == "lines":
        return text == known
    return text.splitlines() == known.splitlines() or text == "".join(known.splitlines())


def put_aside(old: Draft | None, new: Draft) -> Draft:
    """The new draft, which keeps the old one's changes to be taken back, or what that one kept."""
    if old is None:
        return new
    aside = replace(old, aside=None) if _is_changed(old) else old.aside
    return replace(new, aside=aside, card=old.card)


def take_back(draft: Draft) -> Draft:
    """What was put aside; what stands there now is put aside in turn, if it was changed."""
    aside = replace(draft, aside=None) if _is_changed(draft) else None
    return replace(draft.aside or draft, aside=aside, card=draft.card)


def _is_changed(draft: Draft) -> bool:
    return draft.text.strip() != open_draft(draft.picked, draft.folder).text.strip()


def aside_words(draft: Draft) -> str:
    """What the button says that takes back what was put aside; empty where nothing was."""
    if draft.aside is None:
        return ""
    written, values = file_values(draft.aside), check_text(draft.aside.text).values or {}
    keys = [f.key for f in fields() if value_of(values, f.key) != value_of(written, f.key)]
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    what = f": {', '.join(keys[:3])}{more}" if keys else ""
    return f"Back to {draft.aside.name} with your changes{what}"


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
