"""The Recipes tab's buttons: check, plan for a card, launch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from dpo_lite.errors import UserError
from dpo_lite.recipe import Recipe
from dpo_lite.recipe.consent import refuse_code
from dpo_lite.runs.processes import launch
from dpo_lite.ui import parts
from dpo_lite.ui import recipe_views as views
from dpo_lite.ui.form import check_text
from dpo_lite.ui.recipe_draft import Draft
from dpo_lite.ui.recipe_layout import THIS_MACHINE, RecipesTab
from dpo_lite.ui.shared import Page

ASK = {**parts.QUIET, "concurrency_limit": 4}


def connect_actions(page: Page, tab: RecipesTab) -> None:
    def check(draft: Draft) -> Iterator[tuple[str, Any]]:
        yield from _ask_worker(page, draft, "check", "Checking", [], views.checked)

    def plan(draft: Draft, card: str | None) -> Iterator[tuple[str, Any]]:
        gpu = None if card in (THIS_MACHINE, "", None) else card
        flags = ["--gpu", gpu] if gpu else []

        def view(result: dict, line: list[str]) -> str:
            return views.planned(result, gpu or THIS_MACHINE, line)

        yield from _ask_worker(page, draft, "plan", "Planning", flags, view, gpu=gpu)

    def clear() -> tuple[str, Any]:
        return "", gr.update(visible=False)

    actions = tab.actions
    outputs = [actions.outcome, actions.cancel]
    checking = actions.check.click(check, tab.draft, outputs, **ASK)
    planning = actions.plan.click(plan, [tab.draft, actions.card], outputs, **ASK)
    actions.cancel.click(clear, None, outputs, cancels=[checking, planning], show_progress="hidden")
    actions.launch.click(
        lambda draft: _launch(page, draft),
        tab.draft,
        [actions.outcome, page.tabs, page.selected],
        trigger_mode="once",
        **ASK,
    )


def _ask_worker(
    page: Page,
    draft: Draft,
    task: str,
    title: str,
    flags: list[str],
    view: Callable[[dict, list[str]], str],
    **arguments: Any,
) -> Iterator[tuple[str, Any]]:
    """Do a task of the worker and show how far it is, and then what it found."""
    line = ["dpo-lite", task, draft.name, *flags]
    try:
        recipe = _valid_recipe(page, draft, "Not ready: ")
        line = ["dpo-lite", task, *draft.command_words(recipe), *flags]
        for event in page.worker.run(task, recipe=draft.text, **arguments):
            if event["event"] == "result":
                yield view(event["result"], line), gr.update(visible=False)
                return
            if event["event"] == "error":
                raise UserError(event["text"])
            html = parts.working(title, event.get("text", ""), event.get("seconds"))
            yield html, gr.update(visible=True)
    except UserError as error:
        yield parts.failed(str(error), line), gr.update(visible=False)


def _launch(page: Page, draft: Draft) -> tuple[Any, Any, Any]:
    """Start the run on its own and show it in the Runs tab."""
    try:
        run = launch(_valid_recipe(page, draft), draft.name, page.runs)
    except UserError as error:
        return parts.note(error, "bad"), gr.skip(), gr.skip()
    return "", gr.Tabs(selected="runs"), [run.name]


def _valid_recipe(page: Page, draft: Draft, before: str = "") -> Recipe:
    checked = check_text(draft.text)
    if checked.recipe is None:
        raise UserError(before + checked.reason)
    if not page.allow_code:
        refuse_code(checked.recipe)
    return checked.recipe
