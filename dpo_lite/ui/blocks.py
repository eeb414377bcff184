"""Gradio's parts with what they lack: sense for what no browser of ours sends."""

from __future__ import annotations

from typing import Any

import gradio as gr

KEPT_SECONDS = 3600  # how long a download lies in Gradio's temporary folder


class Blocks(gr.Blocks):
    """An event with inputs that are none is answered, and is no fault of the program: nothing is
    printed of it."""

    def __init__(self, **options: Any):
        super().__init__(delete_cache=(KEPT_SECONDS, KEPT_SECONDS), **options)

    async def preprocess_data(self, *arguments: Any, **named: Any) -> Any:
        try:
            return await super().preprocess_data(*arguments, **named)
        except gr.Error:
            raise
        except Exception as error:
            words = "This is no event of the page; load it anew."
            raise gr.Error(words, print_exception=False) from error


def remembered_names(**options: Any) -> gr.BrowserState:
    """A list of names that a browser keeps, whatever stands in its storage.

    No class of its own: Gradio writes a file beside the source of each component's class.
    """
    state = gr.BrowserState([], **options)
    state.preprocess = names_alone
    return state


def names_alone(payload: Any) -> list[str]:
    found = payload if isinstance(payload, list) else []
    return [name for name in found if isinstance(name, str)]
