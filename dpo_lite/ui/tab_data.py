"""The Data tab: a source or an upload, the data doctor's report on it, and its examples."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from dpo_lite.errors import UserError
from dpo_lite.ui import data_views, parts
from dpo_lite.ui.recipe_views import failed, working
from dpo_lite.ui.uploads import ACCEPTED, keep_upload

if TYPE_CHECKING:
    from dpo_lite.ui.shared import Page

EXAMPLES = 50  # to leaf through
BUILTIN = "builtin:myths"
QUIET = {**parts.QUIET, "concurrency_limit": 4}


def build(page: Page) -> None:
    with gr.Row(equal_height=False):
        source = gr.Textbox(
            BUILTIN,
            label="Source",
            info="File, folder[:split], Hub id `org/name[:config][:split]` or `builtin:myths`.",
            elem_id="data-source",
            elem_classes=["dl-field"],
            max_lines=1,
            min_width=260,
            scale=3,
        )
        base = gr.Textbox(
            BUILTIN,
            label="Base",
            info="Whose tokenizer and chat template are used; empty: lengths in characters.",
            elem_id="data-base",
            elem_classes=["dl-field"],
            max_lines=1,
            min_width=220,
            scale=2,
        )
        keys = gr.Textbox(
            label="Further keys",
            info="As in a recipe, for example `data.limit=1000 data.format=orca`.",
            elem_id="data-keys",
            elem_classes=["dl-field"],
            max_lines=1,
            min_width=220,
            scale=2,
        )
    with gr.Row():
        upload = gr.UploadButton(
            "Upload a file",
            file_types=ACCEPTED,
            elem_id="data-upload",
            size="md",
            min_width=130,
            scale=1,
        )
        look = gr.Button(
            "Examine", variant="primary", elem_id="data-examine", size="md", min_width=130, scale=2
        )
        use = gr.Button(
            "Use in the recipe",
            interactive=False,
            elem_id="data-use",
            size="md",
            min_width=130,
            scale=1,
        )
    line = gr.HTML(
        lambda: parts.command(words(BUILTIN, BUILTIN, "")), elem_id="data-command", min_height=38
    )
    stop = gr.Button("Cancel", elem_id="data-cancel", visible=False, size="sm")
    shown = gr.HTML(
        parts.empty("No data examined yet", "Name a source or upload a file, then examine it."),
        elem_id="data-report",
    )
    with gr.Column(visible=False) as pages:
        gr.HTML('<h3 class="dl-title">Examples as the model reads them</h3>')
        with gr.Row():
            back = gr.Button("Previous", elem_id="data-previous", min_width=90, size="sm")
            at = gr.HTML(elem_id="data-at")
            forth = gr.Button("Next", elem_id="data-next", min_width=90, size="sm")
        example = gr.HTML(elem_id="data-example")
    found = gr.State(None)
    place = gr.State(0)
    fields = [source, base, keys]

    def show_line(source: str, base: str, keys: str) -> Any:
        return parts.command(words(source, base, keys))

    for each in fields:
        each.change(show_line, fields, line, trigger_mode="always_last", **QUIET)

    outputs = [shown, stop, found, place, use, pages, example, at]

    def examine(source: str, base: str, keys: str) -> Iterator[dict]:
        hidden = {use: gr.update(interactive=False), pages: gr.update(visible=False), found: None}
        try:
            if not source.strip():
                raise UserError("Name a source, or upload a file.")
            asked = {"source": source.strip(), "overrides": split(keys), "model": base.strip()}
            asked["model"] = asked["model"] or None
            for event in page.worker.run("doctor", examples=EXAMPLES, **asked):
                if event["event"] == "result":
                    yield {**_result(event["result"]), stop: gr.update(visible=False)}
                    return
                if event["event"] == "error":
                    raise UserError(event["text"])
                told = working("Examining", event.get("text", ""), event.get("seconds"))
                yield {**hidden, shown: told, stop: gr.update(visible=True)}
        except UserError as error:
            told = failed(str(error), words(source, base, keys))
            yield {**hidden, shown: told, stop: gr.update(visible=False)}

    def _result(report: dict) -> dict:
        return {
            shown: data_views.report(report),
            found: report,
            place: 0,
            use: gr.update(interactive=True),
            pages: gr.update(visible=bool(report["examples"])),
            **_turned(report, 0),
        }

    def _turned(report: dict, number: int) -> dict:
        count = len(report["examples"])
        if not count:
            return {example: "", at: ""}
        number %= count
        told = f'<p class="dl-muted dl-at">{number + 1} of {count}</p>'
        return {example: data_views.example(report, number), at: told, place: number}

    def turn(step: int):
        return lambda report, number: _turned(report, number + step)

    def uploaded(file: str) -> tuple[Any, Any]:
        try:
            kept = keep_upload(Path(file), page.recipes / "data")
        except UserError as error:
            return gr.skip(), parts.note(error, "bad")
        return str(kept), parts.note(f"Kept as {kept}; now examine it.", "info")

    def into_recipe(source: str, keys: str) -> tuple[Any, Any, Any]:
        try:
            wanted = [source.strip(), split(keys), time.time()]  # the same again is a change too
        except UserError as error:
            return gr.skip(), gr.skip(), parts.note(error, "bad")
        return wanted, gr.Tabs(selected="recipes"), gr.skip()

    event = look.click(examine, fields, outputs, **QUIET)
    entered = source.submit(examine, fields, outputs, **QUIET)
    stop.click(
        lambda: ("", gr.update(visible=False)),
        None,
        [shown, stop],
        cancels=[event, entered],
        show_progress="hidden",
        api_visibility="private",
    )
    back.click(turn(-1), [found, place], [example, at, place], **QUIET)
    forth.click(turn(1), [found, place], [example, at, place], **QUIET)
    upload.upload(uploaded, upload, [source, shown], **QUIET)
    use.click(into_recipe, [source, keys], [page.wanted_data, page.tabs, shown], **QUIET)


def words(source: str, base: str, keys: str) -> list[str]:
    """The command that examines the same."""
    try:
        more = split(keys)
    except UserError:
        more = [keys]
    model = ["--model", base.strip()] if base.strip() else []
    return ["dpo-lite", "data", source.strip(), *more, *model]


def split(keys: str) -> list[str]:
    """Overrides as a shell would split them."""
    try:
        return shlex.split(keys)
    except ValueError:
        raise UserError("Further keys: a quotation mark is not closed.") from None
