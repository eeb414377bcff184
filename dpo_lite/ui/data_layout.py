"""The Data tab as it is laid out: the source, what to do with it, the report, the examples."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from dpo_lite.ui import parts
from dpo_lite.ui.column_menus import ColumnMenus, lay_out_menus
from dpo_lite.ui.data_review import ReviewPart, lay_out_review
from dpo_lite.ui.uploads import ACCEPTED

BUILTIN = "builtin:myths"


@dataclass(frozen=True)
class Source:
    """What is to be examined."""

    name: gr.Textbox
    base: gr.Textbox
    keys: gr.Textbox

    def fields(self) -> list[gr.Textbox]:
        return [self.name, self.base, self.keys]


@dataclass(frozen=True)
class Examples:
    """One example at a time, to leaf through."""

    column: gr.Column
    back: gr.Button
    forth: gr.Button
    position: gr.HTML
    text: gr.HTML


@dataclass(frozen=True)
class DataTab:
    """``report`` is the doctor's report as JSON, ``place`` the number of the example shown."""

    source: Source
    menus: ColumnMenus
    seen: gr.HTML
    upload: gr.UploadButton
    examine: gr.Button
    audit: gr.Button
    use: gr.Button
    command: gr.HTML
    cancel: gr.Button
    report_html: gr.HTML
    examples: Examples
    report: gr.State
    place: gr.State
    review: ReviewPart


def lay_out(command: str) -> DataTab:
    """``command``: the command line that stands there at first."""
    source = _lay_out_source()
    menus = lay_out_menus("data")
    seen = gr.HTML(elem_id="data-seen")
    with gr.Row():
        upload = gr.UploadButton(
            "Upload a file",
            file_types=ACCEPTED,
            elem_id="data-upload",
            size="md",
            min_width=130,
            scale=1,
        )
        examine = gr.Button(
            "Examine", variant="primary", elem_id="data-examine", size="md", min_width=130, scale=2
        )
        audit = gr.Button(
            "Audit the labels", elem_id="data-audit", size="md", min_width=130, scale=1
        )
        use = gr.Button(
            "Use in the recipe",
            interactive=False,
            elem_id="data-use",
            size="md",
            min_width=130,
            scale=1,
        )
    return DataTab(
        source,
        menus,
        seen,
        upload,
        examine,
        audit,
        use,
        command=gr.HTML(command, elem_id="data-command", min_height=38),
        cancel=gr.Button("Cancel", elem_id="data-cancel", visible=False, size="sm"),
        report_html=gr.HTML(
            parts.empty("No data examined yet", "Name a source or upload a file, then examine it."),
            elem_id="data-report",
        ),
        examples=_lay_out_examples(),
        report=gr.State(None),
        place=gr.State(0),
        review=lay_out_review(),
    )


def _lay_out_source() -> Source:
    look = {"elem_classes": ["dl-field"], "max_lines": 1}
    with gr.Row(equal_height=False):
        return Source(
            name=gr.Textbox(
                BUILTIN,
                label="Source",
                info="File, folder[:split], Hub id `org/name[:config][:split]` or `builtin:myths`.",
                elem_id="data-source",
                min_width=260,
                scale=3,
                **look,
            ),
            base=gr.Textbox(
                BUILTIN,
                label="Base",
                info="Its tokenizer and chat template; empty: characters.",
                elem_id="data-base",
                min_width=220,
                scale=2,
                **look,
            ),
            keys=gr.Textbox(
                label="Further keys",
                info="As in a recipe, such as `data.limit=1000`.",
                elem_id="data-keys",
                min_width=220,
                scale=2,
                **look,
            ),
        )


def _lay_out_examples() -> Examples:
    with gr.Column(visible=False) as column:
        gr.HTML('<h2 class="dl-title">Examples as the model reads them</h2>')
        with gr.Row(elem_classes="dl-buttons"):
            small = {"size": "sm", "scale": 0, "min_width": 110}
            back = gr.Button("‹ Previous", elem_id="data-previous", **small)
            forth = gr.Button("Next ›", elem_id="data-next", **small)
            position = gr.HTML(elem_id="data-at")
        text = gr.HTML(elem_id="data-example")
    return Examples(column, back, forth, position, text)
