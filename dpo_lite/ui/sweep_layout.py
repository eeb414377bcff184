"""Sweep as it is laid out in the Recipes tab: a small table of keys and values, and its button."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from dpo_lite.ui import sweep_draft

USUAL = {"train.beta": "0.03, 0.1, 0.3"}  # what stands in the first row


@dataclass(frozen=True)
class SweepPart:
    fold: gr.Accordion
    keys: list[gr.Dropdown]
    values: list[gr.Textbox]
    name: gr.Textbox
    said: gr.HTML
    launch: gr.Button

    def inputs(self) -> list[Any]:
        return [*self.keys, *self.values, self.name]


def lay_out_sweep() -> SweepPart:
    keys, values = [], []
    with gr.Accordion(
        "Sweep: this recipe at several values",
        open=False,
        elem_id="recipes-sweep",
        elem_classes=["dl-plain"],
    ) as fold:
        first = [*USUAL.items(), *[(None, "")] * (sweep_draft.ROWS - 1)]
        for number, (key, text) in enumerate(first, 1):
            with gr.Row(equal_height=False):
                look = {"elem_classes": ["dl-field"], "show_label": number == 1}
                keys.append(
                    gr.Dropdown(
                        sweep_draft.keys_offered("dpo"),
                        value=key,
                        label="Key",
                        allow_custom_value=True,
                        elem_id=f"sweep-key-{number}",
                        min_width=180,
                        **look,
                    )
                )
                values.append(
                    gr.Textbox(
                        text,
                        label="Values, with commas between them",
                        elem_id=f"sweep-values-{number}",
                        min_width=200,
                        max_lines=1,
                        **look,
                    )
                )
        with gr.Row(equal_height=False, elem_classes="dl-buttons"):
            name = gr.Textbox(
                label="Name of the sweep",
                placeholder="after the recipe and the keys",
                elem_id="sweep-name",
                elem_classes=["dl-field"],
                min_width=200,
                max_lines=1,
            )
            launch = gr.Button(
                "Launch the sweep", elem_id="sweep-launch", size="md", min_width=170, scale=0
            )
        said = gr.HTML(elem_id="sweep-said", min_height=60)
    return SweepPart(fold, keys, values, name, said, launch)
