"""The Recipes tab: model, data and card, or a recipe; change it, look before, launch.

The server keeps each browser tab's draft and makes changes to it one after the other, so that two
quick ones never overwrite each other; the browser keeps a copy, so that a reload loses nothing.
"""

from __future__ import annotations

import gradio as gr

from dpo_lite.ui.recipe_actions import connect_actions
from dpo_lite.ui.recipe_draft import START, open_draft
from dpo_lite.ui.recipe_editing import connect_edits, show_draft
from dpo_lite.ui.recipe_layout import RecipesTab, lay_out
from dpo_lite.ui.recipe_saving import connect_saving
from dpo_lite.ui.recipe_sweep import connect_sweep
from dpo_lite.ui.shared import Page


def build(page: Page) -> None:
    tab = lay_out()
    answered = connect_edits(page, tab)
    connect_actions(page, tab, answered)
    connect_saving(page, tab)
    connect_sweep(page, tab.draft, tab.sweep, tab.at_click())
    _show_at_first(page, tab)


def _show_at_first(page: Page, tab: RecipesTab) -> None:
    """The quickstart stands there as soon as the page is drawn, before the server is asked: on a
    busy machine its answer, with what the browser remembers, takes seconds."""
    first = show_draft(page, tab, None, open_draft(START, page.recipes), cards=True)
    tab.draft.value = first[tab.draft]
    for component, shown in first.items():
        if isinstance(component, gr.HTML) and isinstance(shown, str):
            component.value = shown
    tab.start.audit.visible = first[tab.start.audit]["visible"]
    tab.saving.name.value = first[tab.saving.name]
    for menu in (tab.start.model, tab.start.data):
        value = first[menu]["value"]
        menu.choices, menu.value = [(value, value)], value
