"""The Runs tab: all runs from disk, one or several of them live, and what can be done with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from dpo_lite.runs.folder import ACTIVE
from dpo_lite.ui import parts
from dpo_lite.ui import run_views as views
from dpo_lite.ui.run_actions import connect_actions
from dpo_lite.ui.run_layout import RunsTab, lay_out
from dpo_lite.ui.shared import Page, changed

MOST_SELECTED = 6
RESUMABLE = ("stopped", "failed", "interrupted")


def build(page: Page) -> None:
    tab = lay_out()
    _connect_refresh(page, tab)
    _connect_selection(page, tab)
    connect_actions(page, tab)


# --- what is shown --------------------------------------------------------------------------------


def _connect_refresh(page: Page, tab: RunsTab) -> None:
    def tick(selected: list[str] | None, smooth: float, sent: dict, most: int) -> Any:
        return refresh(page, selected, smooth, sent, most)

    inputs, outputs = [page.selected, tab.smooth, tab.sent, tab.most], tab.follows_runs()
    at_once = {**parts.QUIET, "concurrency_limit": None}
    changed("runs").click(tick, inputs, outputs, trigger_mode="always_last", **at_once)
    tab.smooth.release(tick, inputs, outputs, **parts.QUIET)
    page.selected.change(tick, inputs, outputs, **at_once)
    tab.most.change(tick, inputs, outputs, **at_once)


def refresh(
    page: Page,
    selected: Sequence[str] | None,
    smooth: float,
    sent: dict,
    most: int = views.SHOWN_RUNS,
) -> Any:
    """New values for ``RunsTab.follows_runs()``; what has not changed since it was sent is skipped.

    ``sent`` marks texts by their hash, buttons by their label and whether they can be pressed.
    """
    statuses = views.statuses(page.runs)
    selected = [name for name in selected or [] if name in statuses][:MOST_SELECTED]
    signature = f"{views.signature(page.runs, statuses, selected)} {smooth} {most}"
    if sent.get("signature") == signature:
        return gr.skip()
    folder = page.runs
    texts = {
        "table": views.run_table(statuses, selected, most),
        "detail": _said(lambda: views.detail(folder, statuses, selected)),
        "curves": _said(lambda: views.curve_grid(folder, selected, smooth)),
        "samples": _said(lambda: views.samples(folder, selected)),
        "log": _said(lambda: views.log_tail(folder, selected)),
        "difference": _said(lambda: views.recipe_difference(folder, selected)),
    }
    buttons = _buttons(page, statuses, selected)
    manage = bool(selected) and statuses[selected[0]]["state"] not in ACTIVE
    values = {
        **texts,
        **{key: gr.Button(value=label, interactive=on) for key, (label, on) in buttons.items()},
        "manage": gr.Accordion(visible=manage),
    }
    marks = {key: hash(text) for key, text in texts.items()} | buttons | {"manage": manage}
    changes = [gr.skip() if sent.get(key) == marks[key] else value for key, value in values.items()]
    return [*changes, marks | {"signature": signature}]


def _said(view: Callable[[], str]) -> str:
    """What a view shows. One that fails is a sentence: the browser keeps what is selected, so a
    damaged run would else empty the tab until somebody forgets it there."""
    try:
        return view()
    except Exception as error:
        kind = type(error).__name__
        return parts.note(
            f"A file of the run is damaged ({kind}), so this cannot be shown; `dpo-lite runs show`"
            " says more, and another run can be selected.",
            "bad",
        )


def _buttons(
    page: Page, statuses: views.Statuses, selected: Sequence[str]
) -> dict[str, tuple[str, bool]]:
    """What the buttons say for the first selected run, and whether they can be pressed."""
    status = statuses[selected[0]] if selected else {"state": None}
    active = status["state"] in ACTIVE
    stops_already = active and status.get("stopping")
    answers = status["state"] == "finished" and views.can_answer(page.runs, selected[0])
    return {
        "stop": ("Break off" if stops_already else "Stop and save", active),
        "resume": ("Resume", status["state"] in RESUMABLE),
        "compare": ("Compare", answers),
    }


# --- which runs are selected ----------------------------------------------------------------------


def _connect_selection(page: Page, tab: RunsTab) -> None:
    def pick(selected: list[str] | None, most: int, event: gr.EventData) -> tuple[Any, Any]:
        if event.run is None:
            return gr.skip(), most + views.SHOWN_RUNS
        return select(selected or [], event.run, event.add), gr.skip()

    inputs, outputs = [page.selected, tab.most], [page.selected, tab.most]
    for rows in (tab.table, tab.curves):
        rows.click(pick, inputs, outputs, concurrency_limit=None, **parts.QUIET)


def select(selected: Sequence[str], name: str, add: bool) -> list[str]:
    """The selection after a click: this run alone, or put to the others or taken away."""
    if not add:
        return [name]
    if name in selected:
        return [other for other in selected if other != name]
    return [*selected, name][:MOST_SELECTED]
