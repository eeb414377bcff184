"""The Publish tab's preview and push of an adapter, and the command line that does the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from dpo_lite.errors import UserError
from dpo_lite.hub.push import preview, push
from dpo_lite.recipe import load_recipe
from dpo_lite.ui import parts
from dpo_lite.ui import publish_views as views
from dpo_lite.ui.publish_layout import PublishTab
from dpo_lite.ui.shared import Page, Updates


def connect_push(page: Page, tab: PublishTab) -> None:
    def show_command(
        run: str | None, checkpoint: str | None, repo: str, base_id: str, private: bool
    ) -> str:
        words = views.push_command(run or "RUN", repo, checkpoint, base_id, private)
        return parts.command([*words, *parts.runs_option(page.runs)])

    def show_preview(run: str | None, *form: Any) -> Iterator[Updates]:
        yield from _preview(page, tab, run, _options(*form))

    def do_push(run: str | None, *form: Any) -> Iterator[Updates]:
        yield from _push(page, tab, run, _options(*form))

    fields, shown = tab.form.fields(), tab.preview
    for field in fields:
        field.change(show_command, fields, tab.command, **parts.QUIET)
    outputs = [shown.files, shown.fold, shown.metadata, shown.card, tab.outcome]
    tab.show_preview.click(show_preview, fields, outputs, **parts.QUIET)
    outputs = [shown.files, tab.outcome]
    tab.push.click(do_push, fields, outputs, concurrency_limit=1, **parts.QUIET)


def _options(checkpoint: str | None, repo: str, base_id: str, private: bool) -> dict[str, Any]:
    """The form as ``dpo_lite.hub.staging.stage`` takes it."""
    return {
        "repo": repo.strip() or None,
        "base_id": base_id.strip() or None,
        "checkpoint": None if checkpoint in (None, views.RESULT) else checkpoint,
        "private": private,
    }


def _preview(
    page: Page, tab: PublishTab, run: str | None, options: dict[str, Any]
) -> Iterator[Updates]:
    yield {tab.outcome: parts.note("Putting the files together …")}
    try:
        chosen = views.known_run(page.runs, run)
        staged = preview(chosen, looking=True, **options)
        refused = views.not_for_the_hub(load_recipe(chosen.recipe_file), options["base_id"])
    except UserError as error:
        yield {tab.outcome: parts.note(views.in_fields(error), "bad")}
        return
    metadata, text = views.card_parts(staged.card)
    yield {
        tab.preview.files: views.files_table(staged),
        tab.preview.fold: gr.Accordion(visible=True),
        tab.preview.metadata: metadata,
        tab.preview.card: gr.Markdown(text, visible=True),
        tab.outcome: parts.note(refused, "warn")
        if refused
        else parts.note("Dry run: nothing was uploaded."),
    }


def _push(
    page: Page, tab: PublishTab, run: str | None, options: dict[str, Any]
) -> Iterator[Updates]:
    yield {tab.outcome: parts.note("Pushing …")}
    try:
        published = push(views.known_run(page.runs, run), **options)
    except UserError as error:
        yield {tab.outcome: parts.note(views.in_fields(error), "bad")}
        return
    yield {
        tab.preview.files: views.files_table(published.staged),
        tab.outcome: views.published_note(published),
    }
