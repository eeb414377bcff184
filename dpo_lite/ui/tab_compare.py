"""The Compare tab."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from dpo_lite.ui import parts

if TYPE_CHECKING:
    from dpo_lite.ui.page import Page


def build(page: Page) -> None:
    gr.HTML(
        parts.empty("Nothing to compare yet", "A finished run can be compared with its base here."),
        elem_id="compare-empty",
    )
