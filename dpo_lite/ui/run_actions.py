"""The Runs tab's buttons: stop, resume, compare, rename, delete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from dpo_lite.errors import UserError
from dpo_lite.recipe import load_recipe
from dpo_lite.recipe.consent import refuse_code
from dpo_lite.runs import processes
from dpo_lite.runs.folder import Run, named_run
from dpo_lite.ui import parts
from dpo_lite.ui.run_layout import RunsTab
from dpo_lite.ui.shared import Page


def connect_actions(page: Page, tab: RunsTab) -> None:
    _connect_button(page, tab, tab.stop, processes.stop)
    _connect_button(page, tab, tab.resume, lambda run: _resume(page, run))
    tab.compare.click(lambda: gr.Tabs(selected="compare"), None, page.tabs, **parts.QUIET)
    _connect_rename(page, tab)
    _connect_delete(page, tab)


def _connect_button(page: Page, tab: RunsTab, button: gr.Button, do: Callable[[Run], str]) -> None:
    """A button that does something to the first selected run and says what came of it."""

    def act(selected: list[str]) -> str:
        try:
            return parts.note(do(named_run(selected[0], page.runs)))
        except UserError as error:
            return parts.note(error, "bad")
        except IndexError:
            return parts.note("Select a run first.", "warn")

    button.click(act, page.selected, tab.message, trigger_mode="once", **parts.QUIET)


def _resume(page: Page, run: Run) -> str:
    if not page.allow_code:
        refuse_code(load_recipe(run.recipe_file))
    processes.resume(run)
    return f"{run.name} goes on; it waits for the device by itself."


def _connect_rename(page: Page, tab: RunsTab) -> None:
    def rename(selected: list[str], new_name: str) -> tuple[str, Any, Any]:
        try:
            run = processes.rename(named_run(selected[0], page.runs), new_name.strip())
        except UserError as error:
            return parts.note(error, "bad"), gr.skip(), gr.skip()
        return parts.note(f"Renamed to {run.name}."), [run.name, *selected[1:]], ""

    name = tab.manage.name
    outputs = [tab.message, page.selected, name]
    tab.manage.rename.click(rename, [page.selected, name], outputs, **parts.QUIET)


def _connect_delete(page: Page, tab: RunsTab) -> None:
    def ask(selected: list[str]) -> tuple[gr.Row, str]:
        try:
            what = processes.what_is_deleted(named_run(selected[0], page.runs))
        except UserError as error:
            return gr.Row(visible=False), parts.note(error, "bad")
        question = f"Delete {selected[0]} with {what}? It cannot be brought back."
        return gr.Row(visible=True), parts.note(question, "warn")

    def delete(selected: list[str]) -> tuple[gr.Row, str, Any]:
        try:
            processes.delete(named_run(selected[0], page.runs))
        except UserError as error:
            return gr.Row(visible=False), parts.note(error, "bad"), gr.skip()
        message = parts.note(f"Deleted {selected[0]}.")
        return gr.Row(visible=False), message, list(selected[1:])

    manage = tab.manage
    manage.delete.click(ask, page.selected, [manage.sure, manage.question], **parts.QUIET)
    manage.no.click(lambda: gr.Row(visible=False), None, manage.sure, **parts.QUIET)
    outputs = [manage.sure, tab.message, page.selected]
    manage.yes.click(delete, page.selected, outputs, **parts.QUIET)
