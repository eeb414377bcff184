"""The Recipes tab's buttons: check, plan for a card, launch."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from dpo_lite.data.glance import Glance
from dpo_lite.errors import UserError
from dpo_lite.recipe import Recipe
from dpo_lite.recipe.consent import refuse_code
from dpo_lite.runs.processes import launch
from dpo_lite.ui import parts
from dpo_lite.ui import recipe_views as views
from dpo_lite.ui.form import check_text
from dpo_lite.ui.recipe_draft import Draft, as_shown
from dpo_lite.ui.recipe_layout import AT_CLICK, RecipesTab
from dpo_lite.ui.recipe_start import seen_of, summary
from dpo_lite.ui.shared import Page, Updates
from dpo_lite.ui.start import THIS_MACHINE

ASK = {**parts.QUIET, "concurrency_limit": 4}


def connect_actions(page: Page, tab: RecipesTab, answered: Sequence[Any]) -> None:
    """``answered`` are the events of the first questions; after each the plan is made anew."""
    actions = tab.actions

    def check(copy: Any, yaml: str, shown: str) -> Iterator[Updates]:
        yield from _look(page, tab, (copy, yaml, shown), "check", "Checking", views.checked)

    def plan(copy: Any, yaml: str, shown: str, card: str | None) -> Iterator[Updates]:
        gpu = None if card in (THIS_MACHINE, "", None) else card

        def view(result: dict, line: list[str]) -> str:
            return views.planned(result, gpu or THIS_MACHINE, line)

        flags = ["--gpu", gpu] if gpu else []
        at_click = (copy, yaml, shown)
        yield from _look(page, tab, at_click, "plan", "Planning", view, flags, gpu=gpu)

    def propose(copy: Any, yaml: str, shown: str, card: str | None) -> Iterator[Updates]:
        """A plan of itself after an answer, unless the data say first what is wrong with them."""
        seen = _seen_at_click(page, (copy, yaml, shown))
        if seen is not None and seen.fault:
            yield {actions.outcome: "", actions.cancel: gr.update(visible=False)}
        else:
            yield from plan(copy, yaml, shown, card)

    def clear() -> tuple[str, Any]:
        return "", gr.update(visible=False)

    def start(copy: Any, yaml: str, shown: str) -> tuple[Any, Any, Any]:
        return _launch(page, (copy, yaml, shown))

    at_click = tab.at_click()
    outputs = [actions.outcome, actions.cancel, actions.summary]
    how = {"js": AT_CLICK, **ASK}
    checking = actions.check.click(check, at_click, outputs, **how)
    planned = [*at_click, tab.start.card]
    planning = [actions.plan.click(plan, planned, outputs, **how)]
    proposing = {**how, "trigger_mode": "always_last"}
    planning += [event.success(propose, planned, outputs, **proposing) for event in answered]
    cleared = outputs[:2]
    actions.cancel.click(
        clear, None, cleared, cancels=[checking, *planning], show_progress="hidden"
    )
    started = [actions.outcome, page.tabs, page.selected]
    actions.launch.click(start, at_click, started, trigger_mode="once", **how)


def draft_at_click(page: Page, at_click: tuple[Any, str, str]) -> Draft:
    """The draft that the screen showed at a click. Raises UserError where it cannot be one."""
    copy, yaml, shown = at_click
    try:
        texts = json.loads(shown or "{}")
    except ValueError:
        texts = {}
    known = isinstance(texts, dict) and all(isinstance(text, str) for text in texts.values())
    return as_shown(copy, yaml, texts if known else {}, page.recipes)


def _seen_at_click(page: Page, at_click: tuple[Any, str, str]) -> Glance | None:
    with contextlib.suppress(UserError):
        return seen_of(draft_at_click(page, at_click))
    return None


def _look(
    page: Page,
    tab: RecipesTab,
    at_click: tuple[Any, str, str],
    task: str,
    title: str,
    view: Callable[[dict, list[str]], str],
    flags: Sequence[str] = (),
    **arguments: Any,
) -> Iterator[Updates]:
    """Do a task of the worker and show how far it is, and then what it found."""
    actions = tab.actions
    line = ["dpo-lite", task, *flags]
    try:
        draft = draft_at_click(page, at_click)
        line = ["dpo-lite", task, draft.name, *flags]
        recipe, checked = _valid_recipe(page, draft, "Not ready: "), check_text(draft.text)
        line = ["dpo-lite", task, *draft.command_words(recipe), *flags]
        for event in page.worker.run(task, recipe=draft.text, **arguments):
            if event["event"] == "result":
                result = event["result"]
                yield {
                    actions.outcome: views.marked(view(result, line), draft.text),
                    actions.cancel: gr.update(visible=False),
                    actions.summary: summary(draft, checked, views.time_found(result)),
                }
                return
            if event["event"] == "error":
                raise UserError(event["text"])
            html = parts.working(title, event.get("text", ""), event.get("seconds"))
            yield {actions.outcome: html, actions.cancel: gr.update(visible=True)}
    except UserError as error:
        fault = parts.failed(str(error), line)
        yield {actions.outcome: fault, actions.cancel: gr.update(visible=False)}


def _launch(page: Page, at_click: tuple[Any, str, str]) -> tuple[Any, Any, Any]:
    """Start the run on its own and show it in the Runs tab."""
    try:
        draft = draft_at_click(page, at_click)
        run = launch(_valid_recipe(page, draft, "Not started: "), draft.name, page.runs)
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
