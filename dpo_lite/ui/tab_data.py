"""The Data tab."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from dpo_lite.ui import parts

if TYPE_CHECKING:
    from dpo_lite.ui.page import Page


def build(page: Page) -> None:
    gr.HTML(
        parts.empty("No data chosen", "dpo-lite data FILE examines a data set."),
        elem_id="data-empty",
    )
