"""The Publish tab as it is laid out: what to publish and where, beside what would go up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from dpo_lite.export.gguf_levels import LEVELS
from dpo_lite.ui import parts

NOTHING = parts.empty(
    "Nothing to publish yet", "Train a run first; when it has a checkpoint, it can be chosen here."
)
NO_PREVIEW = parts.empty(
    "No preview yet", "Preview shows every file and the card; it uploads nothing."
)


@dataclass(frozen=True)
class Form:
    """What is published where; ``checkpoint`` chooses between the result and what came before."""

    run: gr.Dropdown
    checkpoint: gr.Dropdown
    repo: gr.Textbox
    private: gr.Checkbox
    base_id: gr.Textbox

    def fields(self) -> list[Any]:
        """In the order of what ``publish_push`` takes."""
        return [self.run, self.checkpoint, self.repo, self.base_id, self.private]


@dataclass(frozen=True)
class Preview:
    """What would go up: files, the card's metadata in a fold, and the card."""

    files: gr.HTML
    fold: gr.Accordion
    metadata: gr.HTML
    card: gr.Markdown


@dataclass(frozen=True)
class Merging:
    """The fold that merges."""

    name: gr.Textbox
    measure: gr.Checkbox
    modelfile: gr.Checkbox
    start: gr.Button
    outcome: gr.HTML
    command: gr.HTML


@dataclass(frozen=True)
class Gguf:
    """The fold that writes GGUF."""

    name: gr.Textbox
    quant: gr.Dropdown
    measure: gr.Checkbox
    start: gr.Button
    outcome: gr.HTML
    command: gr.HTML


@dataclass(frozen=True)
class PublishTab:
    """``archive`` is a hidden button that saves the file which ``download`` made."""

    nothing_yet: gr.HTML
    everything: gr.Row
    account: gr.HTML
    ask_account: gr.Button
    log_in: gr.Button
    form: Form
    show_preview: gr.Button
    push: gr.Button
    outcome: gr.HTML
    command: gr.HTML
    download: gr.Button
    archive: gr.DownloadButton
    merging: Merging
    gguf: Gguf
    preview: Preview
    followed: gr.State


def lay_out(login: bool) -> PublishTab:
    """``login``: whether the page offers to log in on the Hub."""
    followed = gr.State(None)  # the selection of Runs that the menu has taken
    nothing_yet = gr.HTML(NOTHING, elem_id="publish-empty")
    with gr.Row(equal_height=False, visible=False, elem_id="publish-body") as everything:
        with gr.Column(min_width=330, scale=2):
            account = gr.HTML(min_height=40, elem_id="publish-account")
            with gr.Row():
                ask_account = gr.Button("Who is logged in?", size="sm", elem_id="publish-whoami")
                log_in = gr.Button("Log in", size="sm", elem_id="publish-login", visible=login)
            form = _lay_out_form()
            with gr.Row():
                show = gr.Button("Preview", elem_id="publish-preview", min_width=120)
                push = gr.Button("Push", variant="primary", elem_id="publish-push", min_width=120)
            outcome = gr.HTML(elem_id="publish-outcome")
            command = gr.HTML(min_height=38, elem_id="publish-command")
            download = gr.Button("Download the adapter", size="sm", elem_id="publish-zip")
            archive = gr.DownloadButton(visible="hidden", elem_id="publish-archive")
            merging, gguf = _lay_out_merging(), _lay_out_gguf()
        with gr.Column(min_width=330, scale=3):
            preview = _lay_out_preview()
    return PublishTab(
        nothing_yet,
        everything,
        account,
        ask_account,
        log_in,
        form,
        show,
        push,
        outcome,
        command,
        download,
        archive,
        merging,
        gguf,
        preview,
        followed,
    )


def _lay_out_form() -> Form:
    look = {"elem_classes": "dl-field"}
    return Form(
        run=gr.Dropdown([], label="Run", elem_id="publish-run", **look),
        checkpoint=gr.Dropdown([], label="What of it", elem_id="publish-part", **look),
        repo=gr.Textbox(
            label="Repository", placeholder="user/name", elem_id="publish-repo", **look
        ),
        private=gr.Checkbox(True, label="Private, if it is new", elem_id="publish-private"),
        base_id=gr.Textbox(
            label="The model's id on the Hub",
            info="Where the recipe names a folder or a builtin model that is there too.",
            placeholder="user/base",
            elem_id="publish-base",
            **look,
        ),
    )


def _lay_out_merging() -> Merging:
    with gr.Accordion("Merge into a model of its own", open=False, elem_id="publish-merge"):
        return Merging(
            name=gr.Textbox(
                label="Folder below merged/", elem_id="publish-merge-name", elem_classes="dl-field"
            ),
            measure=gr.Checkbox(
                True, label="Score held-out rows before and after", elem_id="publish-measure"
            ),
            modelfile=gr.Checkbox(
                False, label="Ready for llama.cpp and Ollama", elem_id="publish-modelfile"
            ),
            start=gr.Button("Merge", elem_id="publish-merge-start"),
            outcome=gr.HTML(elem_id="publish-merge-outcome"),
            command=gr.HTML(min_height=38, elem_id="publish-merge-command"),
        )


def _lay_out_gguf() -> Gguf:
    fold = "GGUF for llama.cpp, Ollama and LM Studio"
    with gr.Accordion(fold, open=False, elem_id="publish-gguf"):
        return Gguf(
            name=gr.Textbox(
                label="Folder below exports/", elem_id="publish-gguf-name", elem_classes="dl-field"
            ),
            quant=gr.Dropdown(
                list(LEVELS),
                value=["q8_0"],
                multiselect=True,
                label="Quantisation: a file for each",
                elem_id="publish-quant",
                elem_classes="dl-field",
            ),
            measure=gr.Checkbox(
                True, label="Show what survived on held-out rows", elem_id="publish-gguf-measure"
            ),
            start=gr.Button("Write GGUF", elem_id="publish-gguf-start"),
            outcome=gr.HTML(elem_id="publish-gguf-outcome"),
            command=gr.HTML(min_height=38, elem_id="publish-gguf-command"),
        )


def _lay_out_preview() -> Preview:
    files = gr.HTML(NO_PREVIEW, elem_id="publish-files")
    with gr.Accordion("Metadata for the Hub", open=False, visible=False) as fold:
        metadata = gr.HTML(elem_id="publish-metadata")
    card = gr.Markdown(
        sanitize_html=True, latex_delimiters=[], elem_id="publish-card", visible=False
    )
    return Preview(files, fold, metadata, card)
