"""The Runs tab: all runs from disk, one or several of them live, and what can be done with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from dpo_lite.files import NAME
from dpo_lite.runs.folder import ACTIVE
from dpo_lite.ui import parts, run_files
from dpo_lite.ui import run_views as views
from dpo_lite.ui.curves import View
from dpo_lite.ui.run_actions import connect_actions
from dpo_lite.ui.run_csv import metrics_csv
from dpo_lite.ui.run_layout import RunsTab, lay_out
from dpo_lite.ui.run_messages import Said, shown
from dpo_lite.ui.run_next import LABELS, next_steps
from dpo_lite.ui.run_rounds import connect_rounds_start
from dpo_lite.ui.run_studies import connect_studies
from dpo_lite.ui.shared import Page, changed

MOST_SELECTED = 6
SAVE_FILE = """() => setTimeout(() => {
  const file = document.querySelector("#runs-csv-file");
  (file?.matches("a, button") ? file : file?.querySelector("a, button"))?.click();
}, 150)"""
RESUMABLE = ("stopped", "failed", "interrupted")


def build(page: Page) -> None:
    tab = lay_out()
    tick = changed("runs")
    _connect_refresh(page, tab, tick)
    connect_studies(page, tab.studies, tick)
    connect_rounds_start(page, tab.rounds, tab.next["rounds"])
    _connect_selection(page, tab)
    _connect_csv(page, tab)
    connect_actions(page, tab)


# --- what is shown --------------------------------------------------------------------------------


def _connect_refresh(page: Page, tab: RunsTab, changed: gr.Button) -> None:
    def tick(
        selected: list[str] | None,
        smooth: float,
        log: bool,
        window: dict[str, Any] | None,
        said: Said | None,
        sent: dict,
        most: int,
    ) -> Any:
        view = _view(smooth, log, window, selected)
        return refresh(page, selected, view, said, sent, most)

    look = tab.look
    inputs = [page.selected, *look.inputs(), tab.said, tab.sent, tab.most]
    outputs = tab.follows_runs()
    at_once = {**parts.QUIET, "concurrency_limit": None}
    changed.click(tick, inputs, outputs, trigger_mode="always_last", **at_once)
    gr.on(
        [look.smooth.release, look.log.change, look.window.change],
        tick,
        inputs,
        outputs,
        **parts.QUIET,
    )
    look.window.change(
        lambda window: gr.Button(visible=window is not None), look.window, look.whole, **parts.QUIET
    )
    look.whole.click(lambda: None, None, look.window, **parts.QUIET)
    page.selected.change(tick, inputs, outputs, **at_once)
    tab.most.change(tick, inputs, outputs, **at_once)


def refresh(
    page: Page,
    selected: Sequence[str] | None,
    view: View,
    said: Said | None,
    sent: dict,
    most: int = views.SHOWN_RUNS,
) -> Any:
    """New values for ``RunsTab.follows_runs()``; what has not changed since it was sent is skipped.

    ``sent`` marks texts by their hash, buttons by their label and whether they can be pressed.
    """
    statuses = run_files.statuses(page.runs)
    selected = [name for name in selected or [] if name in statuses][:MOST_SELECTED]
    signature = f"{run_files.signature(page.runs, statuses, selected)} {view} {most}"
    if sent.get("signature") == signature:
        return gr.skip()
    folder = page.runs
    texts = {
        "table": views.run_table(statuses, selected, most),
        "detail": _said(lambda: views.detail(folder, statuses, selected)),
        "curves": _said(lambda: views.curve_grid(folder, selected, view)),
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
    messages = shown(said, selected, statuses).values()
    return [*changes, *messages, marks | {"signature": signature}]


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
    page: Page, statuses: run_files.Statuses, selected: Sequence[str]
) -> dict[str, tuple[str, bool]]:
    """What the buttons say for the first selected run, and whether they can be pressed."""
    status = statuses[selected[0]] if selected else {"state": None}
    active = status["state"] in ACTIVE
    stops_already = active and status.get("stopping")
    answers = status["state"] == "finished" and run_files.can_answer(page.runs, selected[0])
    return {
        "stop": ("Break off" if stops_already else "Stop and save", active),
        "resume": ("Resume", status["state"] in RESUMABLE),
        "compare": ("Compare", answers),
        **_following(page, status, selected),
    }


def _following(
    page: Page, status: dict[str, Any], selected: Sequence[str]
) -> dict[str, tuple[str, bool]]:
    """The next steps; one that cannot be done says why when it is pressed."""
    if not selected:
        return {step: (label, False) for step, label in LABELS.items()}
    steps = next_steps(page.runs, selected[0], status)
    return {name: (step.label, True) for name, step in steps.items()}


def _connect_csv(page: Page, tab: RunsTab) -> None:
    def write(selected: list[str] | None) -> Any:
        records = run_files.records(page.runs, (selected or [])[:MOST_SELECTED])
        return str(metrics_csv(records)) if any(records.values()) else gr.skip()

    file = tab.look.file
    written = tab.look.csv.click(write, page.selected, file, **parts.QUIET)
    written.success(None, None, None, js=SAVE_FILE, **parts.QUIET)


def _view(
    smooth: float | None, log: bool | None, window: dict[str, Any] | None, selected: Any
) -> View:
    """What the controls say; an emptied one takes its default. What was marked on the curves of
    other runs is none of these."""
    ends = None
    if window and window["of"] == selected:
        ends = (float(window["ends"][0]), float(window["ends"][1]))
    return View(View.smooth if smooth is None else smooth, bool(log), ends)


# --- which runs are selected ----------------------------------------------------------------------


def _connect_selection(page: Page, tab: RunsTab) -> None:
    def pick(most: int, event: gr.EventData) -> tuple[Any, Any]:
        if event.run is None:
            return gr.skip(), most + views.SHOWN_RUNS
        before = [name for name in event.before if NAME.match(name)]
        return select(before, event.run, event.add), gr.skip()

    def in_curves(selected: list[str] | None, event: gr.EventData) -> tuple[Any, Any]:
        if hasattr(event, "run"):
            return select(selected or [], event.run, event.add), gr.skip()
        return gr.skip(), {"of": selected, "ends": event.window} if event.window else None

    at_once = {**parts.QUIET, "concurrency_limit": None}
    chosen = [page.selected, tab.most]
    one_by_one = {**parts.QUIET, "trigger_mode": "multiple", "concurrency_limit": 1}
    tab.table.click(pick, tab.most, chosen, **one_by_one)
    tab.curves.click(in_curves, page.selected, [page.selected, tab.look.window], **at_once)


def select(selected: Sequence[str], name: str, add: bool) -> list[str]:
    """The selection after a click: this run alone, or put to the others or taken away."""
    if not add:
        return [name]
    if name in selected:
        return [other for other in selected if other != name]
    return [*selected, name][:MOST_SELECTED]
