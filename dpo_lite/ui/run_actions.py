"""The Runs tab's buttons: stop, resume, compare, what comes next, rename, delete."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gradio as gr

from dpo_lite.compare.vote_rows import export_votes, training_keys
from dpo_lite.errors import UserError
from dpo_lite.recipe import load_recipe
from dpo_lite.recipe.consent import refuse_code
from dpo_lite.runs import processes
from dpo_lite.runs.folder import ACTIVE, Run, named_run
from dpo_lite.ui import parts
from dpo_lite.ui.run_layout import RunsTab
from dpo_lite.ui.run_messages import Said, said
from dpo_lite.ui.run_next import STEPS, free_file, next_steps
from dpo_lite.ui.shared import Page

NOTHING = "Select a run first."


def connect_actions(page: Page, tab: RunsTab) -> None:
    _connect_button(page, tab, tab.stop, processes.stop, ACTIVE)
    _connect_button(page, tab, tab.resume, lambda run: _resume(page, run), ACTIVE)
    tab.compare.click(_compare, page.selected, [page.tabs, page.wanted_run], **parts.QUIET)
    for step in STEPS:
        if step != "rounds":  # which opens fields of its own, see run_rounds
            _connect_next(page, tab, step)
    _connect_rename(page, tab)
    _connect_delete(page, tab)


def _connect_button(
    page: Page,
    tab: RunsTab,
    button: gr.Button,
    do: Callable[[Run], str],
    during: tuple[str, ...],
) -> None:
    """A button that does something to the first selected run and says what came of it.

    What it says holds in the states ``during`` of the run; a fault holds until another is selected.
    """

    def act(selected: list[str] | None) -> tuple[str, Said]:
        name = next(iter(selected or []), None)
        try:
            if name is None:
                raise UserError(NOTHING)
            message = said(parts.note(do(named_run(name, page.runs))), name, during=during)
        except UserError as error:
            message = said(parts.note(error, "bad"), name)
        return message["html"], message

    outputs = [tab.message, tab.said]
    button.click(act, page.selected, outputs, trigger_mode="once", **parts.QUIET)


def _compare(selected: list[str] | None) -> tuple[Any, Any]:
    """Open Compare with the first selected run, whichever was chosen there."""
    wanted = [selected[0], time.time()] if selected else gr.skip()
    return gr.Tabs(selected="compare"), wanted


def _resume(page: Page, run: Run) -> str:
    if not page.allow_code:
        refuse_code(load_recipe(run.recipe_file))
    processes.resume(run)
    return f"{run.name} goes on; it waits for the device by itself."


def _connect_next(page: Page, tab: RunsTab, step: str) -> None:
    """Open the recipe of a next step in Recipes, or say why there is none."""

    def go(selected: list[str] | None) -> tuple[Any, Any, Any, str, Said]:
        name = next(iter(selected or []), None)
        try:
            if name is None:
                raise UserError(NOTHING)
            keys, sweep = _recipe_of_step(page, name, step)
        except UserError as error:
            message = said(parts.note(error, "warn"), name)
            return gr.skip(), gr.skip(), gr.skip(), message["html"], message
        wanted, now = [name, keys, time.time(), "run"], time.time()
        swept = [*sweep, now] if sweep else gr.skip()
        return wanted, swept, gr.Tabs(selected="recipes"), "", said("", name)

    outputs = [page.wanted_data, page.wanted_sweep, page.tabs, tab.message, tab.said]
    tab.next[step].click(go, page.selected, outputs, trigger_mode="once", **parts.QUIET)


def _recipe_of_step(page: Page, name: str, step: str) -> tuple[list[str], tuple[str, str] | None]:
    """The keys of the recipe, and what of it is swept; votes are written to a new file."""
    run = named_run(name, page.runs)
    wanted = next_steps(page.runs, name, run.status())[step]
    if wanted.why_not:
        raise UserError(wanted.why_not)
    if step == "votes":
        file = free_file(page.recipes, name)
        export_votes(page.runs, file, name)
        return training_keys(page.runs, name, file), None
    return wanted.keys, wanted.sweep


def _connect_rename(page: Page, tab: RunsTab) -> None:
    def rename(selected: list[str], new_name: str) -> tuple[str, Said, Any, Any]:
        try:
            run = processes.rename(named_run(selected[0], page.runs), new_name.strip())
        except UserError as error:
            message = said(parts.note(error, "bad"), selected[0], "manage")
            return message["html"], message, gr.skip(), gr.skip()
        message = said(parts.note(f"Renamed to {run.name}."), run.name, "manage")
        return message["html"], message, [run.name, *selected[1:]], ""

    manage = tab.manage
    outputs = [manage.message, tab.said, page.selected, manage.name]
    manage.rename.click(rename, [page.selected, manage.name], outputs, **parts.QUIET)


def _connect_delete(page: Page, tab: RunsTab) -> None:
    def ask(selected: list[str]) -> tuple[gr.Row, str]:
        try:
            what = processes.what_is_deleted(named_run(selected[0], page.runs))
        except UserError as error:
            return gr.Row(visible=False), parts.note(error, "bad")
        question = f"Delete {selected[0]} with {what}? It cannot be brought back."
        return gr.Row(visible=True), parts.note(question, "warn")

    def delete(selected: list[str]) -> tuple[gr.Row, str, str, Said, Any]:
        try:
            processes.delete(named_run(selected[0], page.runs))
        except UserError as error:
            message = said(parts.note(error, "bad"), selected[0], "manage")
            return gr.Row(visible=False), message["html"], "", message, gr.skip()
        left = list(selected[1:])
        # The fold goes with the run; what was done is said where the run's buttons are.
        message = said(parts.note(f"Deleted {selected[0]}."), next(iter(left), None))
        return gr.Row(visible=False), "", message["html"], message, left

    manage = tab.manage
    manage.delete.click(ask, page.selected, [manage.sure, manage.question], **parts.QUIET)
    manage.no.click(lambda: gr.Row(visible=False), None, manage.sure, **parts.QUIET)
    outputs = [manage.sure, manage.message, tab.message, tab.said, page.selected]
    manage.yes.click(delete, page.selected, outputs, **parts.QUIET)
