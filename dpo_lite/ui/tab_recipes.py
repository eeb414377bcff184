"""The Recipes tab."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from dpo_lite.ui import parts

if TYPE_CHECKING:
    from dpo_lite.ui.page import Page


def build(page: Page) -> None:
    gr.HTML(
        parts.empty("No recipes to show yet", "dpo-lite recipes lists what ships."),
        elem_id="recipes-empty",
    )
