"""The Runs tab."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from dpo_lite.ui import parts

if TYPE_CHECKING:
    from dpo_lite.ui.page import Page


def build(page: Page) -> None:
    gr.HTML(parts.empty("No runs yet", "Pick a recipe and launch it."), elem_id="runs-empty")
