"""The Publish tab."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from dpo_lite.ui import parts

if TYPE_CHECKING:
    from dpo_lite.ui.page import Page


def build(page: Page) -> None:
    gr.HTML(
        parts.empty("Nothing to publish yet", "A finished run can be published from here."),
        elem_id="publish-empty",
    )
