"""The Recipes tab: model, data and card, or a recipe; change it, look before, launch.

The server keeps each browser tab's draft and makes changes to it one after the other, so that two
quick ones never overwrite each other; the browser keeps a copy, so that a reload loses nothing.
"""

from __future__ import annotations

from dpo_lite.ui.recipe_actions import connect_actions
from dpo_lite.ui.recipe_editing import connect_edits
from dpo_lite.ui.recipe_layout import lay_out
from dpo_lite.ui.recipe_saving import connect_saving
from dpo_lite.ui.recipe_sweep import connect_sweep
from dpo_lite.ui.shared import Page


def build(page: Page) -> None:
    tab = lay_out()
    answered = connect_edits(page, tab)
    connect_actions(page, tab, answered)
    connect_saving(page, tab)
    connect_sweep(page, tab.draft, tab.sweep, tab.at_click())
