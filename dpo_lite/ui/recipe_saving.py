"""A draft kept as a recipe of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from dpo_lite.errors import UserError
from dpo_lite.recipe import library
from dpo_lite.ui import parts
from dpo_lite.ui.form import check_text
from dpo_lite.ui.recipe_actions import draft_at_click
from dpo_lite.ui.recipe_draft import Draft
from dpo_lite.ui.recipe_editing import EDIT, show_draft
from dpo_lite.ui.recipe_layout import AT_CLICK, RecipesTab
from dpo_lite.ui.shared import Page, Updates


def connect_saving(page: Page, tab: RecipesTab) -> None:
    def save(copy: Any, yaml: str, shown: str, name: str) -> Updates:
        return _save(page, tab, (copy, yaml, shown), name, force=False)

    def overwrite(copy: Any, yaml: str, shown: str, name: str) -> Updates:
        return _save(page, tab, (copy, yaml, shown), name, force=True)

    inputs = [*tab.at_click(), tab.saving.name]
    outputs = [*tab.shows_draft(), tab.saving.note, tab.saving.overwrite]
    tab.saving.save.click(save, inputs, outputs, js=AT_CLICK, **EDIT)
    tab.saving.overwrite.click(overwrite, inputs, outputs, js=AT_CLICK, **EDIT)


def _save(
    page: Page, tab: RecipesTab, at_click: tuple[Any, str, str], name: str, force: bool
) -> Updates:
    note, overwrite = tab.saving.note, tab.saving.overwrite
    try:
        draft = draft_at_click(page, at_click)
    except UserError as error:
        return {note: parts.note(error, "warn")}
    text = draft.text
    if draft.origin:
        text = library.with_origin(text, draft.origin)
        text = library.renamed(text, draft.origin, name.strip())
    is_its_own = draft.picked == f"own:{name.strip()}"
    try:
        path = library.save_own(text, name, draft.folder, overwrite=force or is_its_own)
    except UserError as error:
        taken = str(error).endswith("choose another name.") and "exists" in str(error)
        return {note: parts.note(error, "warn"), overwrite: gr.update(visible=taken)}
    saved = Draft(f"own:{path.stem}", text, draft.folder, draft.aside, draft.card)
    return {
        **show_draft(page, tab, draft, saved, cards=True),
        note: parts.note(f"Saved as {path}.", "good") + _copy_command(draft, path, force),
        overwrite: gr.update(visible=False),
    }


def _copy_command(draft: Draft, path: Path, force: bool) -> str:
    """The command that saves the same; none for a text with faults, or one saved in its place."""
    recipe = check_text(draft.text).recipe
    if recipe is None or draft.picked == f"own:{path.stem}":
        return ""
    try:
        word, *overrides = draft.command_words(recipe)
    except UserError:
        return ""
    name = path.stem if path.parent == library.OWN_FOLDER else str(path)
    flag = ["--force"] if force else []
    return parts.command(["dpo-lite", "recipes", "cp", word, name, *overrides, *flag])
