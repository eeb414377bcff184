"""The Publish tab: look at what would go up, push it, merge it, take it home.

There is no field for a token: the page shows whose token huggingface_hub finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from dpo_lite.errors import UserError
from dpo_lite.ui import parts
from dpo_lite.ui import publish_views as views

if TYPE_CHECKING:
    from dpo_lite.ui.shared import Page

# The archive is made when it is asked for; then the hidden button of its file is pressed.
SAVE = "() => setTimeout(() => document.querySelector('#publish-archive').click(), 150)"
LABEL = "Publish"
NOTHING = parts.empty(
    "Nothing to publish yet", "Train a run first; when it has a checkpoint, it can be chosen here."
)
NO_PREVIEW = parts.empty(
    "No preview yet", "Preview shows every file and the card; it uploads nothing."
)


def build(page: Page) -> None:
    empty = gr.HTML(NOTHING, elem_id="publish-empty")
    with gr.Row(equal_height=False, visible=False, elem_id="publish-body") as body:
        with gr.Column(min_width=330, scale=2):
            account = gr.HTML(min_height=40, elem_id="publish-account")
            asked = gr.Button("Who is logged in?", size="sm", elem_id="publish-whoami")
            run = gr.Dropdown([], label="Run", elem_id="publish-run")
            part = gr.Dropdown([], label="What of it", elem_id="publish-part")
            repo = gr.Textbox(label="Repository", placeholder="user/name", elem_id="publish-repo")
            private = gr.Checkbox(True, label="Private, if it is new", elem_id="publish-private")
            base_id = gr.Textbox(
                label="The base's id on the Hub",
                info="Only where the recipe's base is a folder of yours.",
                placeholder="user/base",
                elem_id="publish-base",
            )
            with gr.Row():
                look = gr.Button("Preview", elem_id="publish-preview", min_width=120)
                push = gr.Button("Push", variant="primary", elem_id="publish-push", min_width=120)
            outcome = gr.HTML(elem_id="publish-outcome")
            command = gr.HTML(min_height=38, elem_id="publish-command")
            take = gr.Button("Download the adapter", size="sm", elem_id="publish-zip")
            archive = gr.DownloadButton(visible="hidden", elem_id="publish-archive")
            merging = _lay_out_merge()
        with gr.Column(min_width=330, scale=3):
            files = gr.HTML(NO_PREVIEW, elem_id="publish-files")
            with gr.Accordion("Metadata for the Hub", open=False, visible=False) as more:
                metadata = gr.HTML(elem_id="publish-metadata")
            card = gr.Markdown(
                sanitize_html=True, latex_delimiters=[], elem_id="publish-card", visible=False
            )

    form = [run, part, repo, base_id, private]
    shown = [files, more, metadata, card, outcome]

    def refresh(chosen: str | None, selected: list[str] | None):
        names = views.run_names(page.runs)
        wanted = (
            chosen if chosen in names else next((n for n in selected or [] if n in names), None)
        )
        value = wanted or (names[0] if names else None)
        return (
            gr.HTML(visible=not names),
            gr.Row(visible=bool(names)),
            gr.Dropdown(names, value=value),
        )

    def choose(name: str | None):
        if not name:
            return gr.skip(), gr.skip(), gr.skip()
        found = views.known_run(page.runs, name)
        options = views.checkpoints(found)
        return (
            gr.Dropdown(options, value=options[0] if options else None),
            gr.Textbox(name),
            "",
        )

    def options(name: str, what: str, repo: str, base_id: str, private: bool) -> dict[str, Any]:
        checkpoint = None if what in (None, views.RESULT) else what
        return {
            "repo": repo.strip() or None,
            "base_id": base_id.strip() or None,
            "checkpoint": checkpoint,
            "private": private,
        }

    def show_preview(*values):
        from dpo_lite.hub.push import preview

        yield {outcome: parts.note("Putting the files together …")}
        try:
            staged = preview(views.known_run(page.runs, values[0]), **options(*values))
        except UserError as fault:
            yield {outcome: parts.note(fault, "bad")}
            return
        head, text = views.card_parts(staged.card)
        yield {
            files: views.files_table(staged),
            more: gr.Accordion(visible=True),
            metadata: head,
            card: gr.Markdown(text, visible=True),
            outcome: parts.note("Dry run: nothing was uploaded."),
        }

    def do_push(*values) -> Iterator[dict]:
        from dpo_lite.hub.push import push

        yield {outcome: parts.note("Pushing …")}
        try:
            done = push(views.known_run(page.runs, values[0]), **options(*values))
        except UserError as fault:
            yield {outcome: parts.note(fault, "bad")}
            return
        yield {files: views.files_table(done.staged), outcome: views.published_note(done)}

    def ask_account():
        from dpo_lite.hub.push import logged_in

        try:
            return views.account_line(logged_in())
        except UserError as fault:
            return parts.note(fault, "warn")

    def line(name, what, repo, base_id, private):
        words = views.push_command(name or "RUN", repo, what, base_id, private)
        return parts.command([*words, *parts.runs_option(page.runs)])

    def download(name):
        try:
            return str(views.zipped(views.known_run(page.runs, name))), gr.skip()
        except UserError as fault:
            return None, parts.note(fault, "bad")

    def opened(chosen, selected, event: gr.SelectData):
        """The runs as they are now, and who is logged in, whenever the tab is opened."""
        if event.value != LABEL:
            return (gr.skip(),) * 4
        return *refresh(chosen, selected), ask_account()

    def loaded(chosen, selected, request: gr.Request):
        here = request.query_params.get("tab") == "publish"
        return *refresh(chosen, selected), ask_account() if here else gr.skip()

    arrival = [run, page.selected], [empty, body, run, account]
    page.tabs.select(opened, *arrival, **parts.QUIET)
    gr.context.Context.root_block.load(loaded, *arrival, **parts.QUIET)
    asked.click(ask_account, None, account, **parts.QUIET)
    run.change(choose, run, [part, merging.name, outcome], **parts.QUIET)
    for field in form:
        field.change(line, form, command, **parts.QUIET)
    look.click(show_preview, form, shown, **parts.QUIET)
    push.click(do_push, form, [files, outcome], concurrency_limit=1, **parts.QUIET)
    packed = take.click(download, run, [archive, outcome], **parts.QUIET)
    packed.success(None, None, None, js=SAVE)
    _connect_merge(page, run, merging)


@dataclass(frozen=True)
class Merging:
    """The controls of the folded part that merges."""

    name: gr.Textbox
    measure: gr.Checkbox
    modelfile: gr.Checkbox
    start: gr.Button
    outcome: gr.HTML
    command: gr.HTML


def _lay_out_merge() -> Merging:
    with gr.Accordion("Merge into a model of its own", open=False, elem_id="publish-merge"):
        return Merging(
            name=gr.Textbox(label="Folder below merged/", elem_id="publish-merge-name"),
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


def _connect_merge(page: Page, run: gr.Dropdown, controls: Merging) -> None:
    def do_merge(run, name, measure, modelfile):
        try:
            views.known_run(page.runs, run)
            folder = views.merge_folder(name)
        except UserError as fault:
            yield parts.note(fault, "bad")
            return
        asked = {"run": run, "out": str(folder), "measure": measure, "modelfile": modelfile}
        for event in page.worker.run("merge", **asked):
            if event["event"] == "result":
                yield views.merged_note(event["result"])
            elif event.get("text"):
                yield parts.note(event["text"], "bad" if event["event"] == "error" else "info")

    def line(run, name, measure, modelfile):
        words = views.merge_command(run or "RUN", name, measure, modelfile)
        return parts.command([*words, *parts.runs_option(page.runs)])

    inputs = [run, controls.name, controls.measure, controls.modelfile]
    controls.start.click(do_merge, inputs, controls.outcome, **parts.QUIET)
    for field in inputs:
        field.change(line, inputs, controls.command, **parts.QUIET)
