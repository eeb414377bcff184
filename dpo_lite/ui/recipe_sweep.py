"""Sweep, in the Recipes tab: the draft at several values of some keys, checked and launched."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import gradio as gr

from dpo_lite.errors import UserError
from dpo_lite.recipe import Recipe
from dpo_lite.recipe.consent import refuse_code
from dpo_lite.runs import studies
from dpo_lite.ui import parts, run_files, sweep_draft
from dpo_lite.ui.form import check_text
from dpo_lite.ui.recipe_actions import draft_at_click
from dpo_lite.ui.recipe_draft import Draft
from dpo_lite.ui.recipe_layout import AT_CLICK
from dpo_lite.ui.shared import Page, Updates
from dpo_lite.ui.sweep_layout import SweepPart

QUIET = {**parts.QUIET, "concurrency_limit": 4}


def connect_sweep(page: Page, draft: gr.State, part: SweepPart, at_click: list[Any]) -> None:
    """``at_click``: what the Launch button of a run is given too, see ``recipe_actions``."""

    def look(draft: Draft | None, *texts: Any) -> Any:
        return check(page, draft, *texts)

    def opened(draft: Draft | None, *texts: Any) -> Updates:
        recipe = check_text(draft.text).recipe if draft else None
        offered = sweep_draft.keys_offered(recipe.task if recipe else "dpo")
        menus = {menu: gr.update(choices=offered) for menu in part.keys}
        return menus | {part.said: check(page, draft, *texts)}

    def start(copy: Any, yaml: str, shown: str, *texts: Any) -> tuple[Any, Any, Any]:
        return launch(page, (copy, yaml, shown), *texts)

    def wanted(asked: list[Any]) -> Updates:
        key, text, _ = asked
        others = {field: None for field in part.keys[1:]} | {field: "" for field in part.values[1:]}
        first = {part.keys[0]: key, part.values[0]: text, part.fold: gr.update(open=True)}
        return others | first | {part.name: ""}

    asked = [draft, *part.inputs()]
    last = {"trigger_mode": "always_last", **QUIET}
    for field in (*part.keys, *part.values, part.name):
        field.change(look, asked, part.said, **last)
    draft.change(look, asked, part.said, **last)
    part.fold.expand(opened, asked, [*part.keys, part.said], **last)
    outputs = [part.said, page.tabs, page.wanted_study]
    inputs = [*at_click, *part.inputs()]
    part.launch.click(start, inputs, outputs, trigger_mode="once", js=AT_CLICK, **QUIET)
    shown = [part.fold, *part.inputs()]
    page.wanted_sweep.change(wanted, page.wanted_sweep, shown, **QUIET)


def check(page: Page, draft: Draft | None, *texts: Any) -> str:
    """How many runs it would be and by which command, or what is wrong, as HTML."""
    if draft is None:
        return ""
    try:
        planned, recipe = _planned(page, draft, texts)
    except UserError as error:
        return parts.note(error, "warn")
    names = run_files.statuses(page.runs)
    seconds = sweep_draft.seconds_of_alike(recipe, page.runs, list(names))
    line = sweep_draft.words(planned, seconds)
    return f'<p class="dl-small">{parts.esc(line)}</p>{parts.command(planned.command)}'


def launch(page: Page, at_click: tuple[Any, str, str], *texts: Any) -> tuple[Any, Any, Any]:
    """Start the sweep in the background and show it in Runs."""
    try:
        planned, _ = _planned(page, draft_at_click(page, at_click), texts, whole=True)
        studies.launch(planned.study, planned.command)
    except UserError as error:
        return parts.note(error, "bad"), gr.skip(), gr.skip()
    return gr.skip(), gr.Tabs(selected="runs"), [planned.study.name, time.time()]


def _planned(
    page: Page, draft: Draft, texts: Sequence[Any], whole: bool = False
) -> tuple[sweep_draft.Planned, Recipe]:
    *cells, name = texts
    rows = list(zip(cells[: sweep_draft.ROWS], cells[sweep_draft.ROWS :], strict=True))
    checked = check_text(draft.text)
    if checked.recipe is None:
        raise UserError(f"The recipe has a fault: {checked.reason}")
    if not page.allow_code:
        refuse_code(checked.recipe)
    planned = sweep_draft.plan(draft, checked.recipe, rows, name or "", page.runs, whole)
    if not page.allow_code:  # a key that is swept may ask for it too
        for point in planned.sweep.points:
            refuse_code(point.recipe)
    return planned, checked.recipe
