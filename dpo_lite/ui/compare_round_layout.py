"""A round of votes as it is laid out in the Compare tab."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from dpo_lite.ui.round_views import SCRIPT
from dpo_lite.ui.uploads import ACCEPTED

HELD_OUT, FILE, LINES = "held-out data of the run", "a file", "lines"
USUAL, MOST = 20, 200  # prompts of a round


@dataclass(frozen=True)
class RoundPart:
    """``going`` is the round, which the handlers of this page write to as it stands."""

    going: gr.State
    source: gr.Radio
    count: gr.Number
    lines: gr.Textbox
    file: gr.File
    start: gr.Button
    stop: gr.Button
    message: gr.HTML
    progress: gr.HTML
    arena: gr.HTML


def lay_out_round() -> RoundPart:
    going = gr.State(None)
    with gr.Row():
        source = gr.Radio(
            [HELD_OUT, FILE, LINES],
            value=HELD_OUT,
            label="Prompts",
            info="Both models answer them ahead of your votes; names are hidden",
            elem_id="round-source",
            scale=3,
            min_width=260,
        )
        count = gr.Number(
            USUAL,
            label="How many",
            precision=0,
            minimum=1,
            maximum=MOST,
            info="More votes, a narrower interval",
            elem_id="round-count",
            elem_classes="dl-field",
            scale=1,
            min_width=130,
        )
    lines = gr.Textbox(
        label="One prompt a line",
        lines=4,
        max_lines=12,
        visible=False,
        elem_id="round-lines",
        elem_classes="dl-field",
    )
    file = gr.File(
        label="A data file, or text with one prompt a line",
        file_types=[*ACCEPTED, ".txt"],
        visible=False,
        height=110,
        elem_id="round-file",
    )
    with gr.Row(elem_classes="dl-buttons"):
        small = {"size": "md", "scale": 0}
        start = gr.Button(
            "Start a round", variant="primary", elem_id="round-start", min_width=160, **small
        )
        stop = gr.Button("Stop", elem_id="round-stop", interactive=False, min_width=90, **small)
    message = gr.HTML("", padding=False, elem_id="round-told")
    progress = gr.HTML("", padding=False, elem_id="round-progress", min_height=76)
    arena = gr.HTML("", padding=False, elem_id="round-arena", min_height=320, js_on_load=SCRIPT)
    return RoundPart(going, source, count, lines, file, start, stop, message, progress, arena)
