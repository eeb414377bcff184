"""Sweeps and rounds in the Runs tab: one of them live, stopped, taken up again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dpo_lite.errors import UserError
from dpo_lite.runs import studies
from dpo_lite.runs.studies import AT_WORK, Study, named_study
from dpo_lite.ui import parts, run_files, study_views
from dpo_lite.ui.shared import Page, Updates

QUIET = {**parts.QUIET, "concurrency_limit": 4}
CAN_GO_ON = ("stopped", "failed", "interrupted", "waits")


@dataclass(frozen=True)
class StudyPart:
    """``vote`` opens Compare where pairs wait; ``sent``: mark of what the browser was sent last."""

    fold: gr.Accordion
    chosen: gr.Dropdown
    stop: gr.Button
    go_on: gr.Button
    vote: gr.Button
    message: gr.HTML
    shown: gr.HTML
    sent: gr.State

    def follows(self) -> list[Any]:
        return [self.fold, self.chosen, self.stop, self.go_on, self.vote, self.shown, self.sent]


def lay_out_studies(row_script: str) -> StudyPart:
    """``row_script``: by which a click on a row with a run tells it."""
    with gr.Accordion(
        "Sweeps and rounds", open=False, visible=False, elem_id="runs-studies"
    ) as fold:
        with gr.Row(elem_classes="dl-buttons"):
            chosen = gr.Dropdown(
                [],
                show_label=False,
                container=False,
                elem_id="studies-chosen",
                elem_classes="dl-field",
                allow_custom_value=True,  # a study that is gone is no fault of the menu
                min_width=220,
            )
            small = {"size": "sm", "min_width": 110, "scale": 0, "interactive": False}
            stop = gr.Button("Stop and save", elem_id="studies-stop", **small)
            go_on = gr.Button("Go on", elem_id="studies-go-on", **small)
            vote = gr.Button(
                "Vote on its pairs",
                variant="primary",
                visible=False,
                elem_id="studies-vote",
                **(small | {"interactive": True, "min_width": 140}),
            )
        message = gr.HTML(elem_id="studies-message")
        shown = gr.HTML(elem_id="studies-shown", js_on_load=row_script)
    return StudyPart(fold, chosen, stop, go_on, vote, message, shown, gr.State(None))


def connect_studies(page: Page, part: StudyPart, tick: gr.Button) -> None:
    """``tick`` is pressed by the browser where something of the tab has changed."""

    def look(name: str | None, sent: str | None) -> Any:
        return refresh(page, part, name, sent)

    def choose(name: str | None) -> Updates:
        return {part.message: "", **refresh(page, part, name, None)}

    def wanted(asked: list[Any]) -> Updates:
        opened = {part.fold: gr.Accordion(open=True, visible=True), part.message: ""}
        return {**refresh(page, part, asked[0], None), **opened}

    at_once = {**parts.QUIET, "concurrency_limit": None}
    follows = part.follows()
    tick.click(look, [part.chosen, part.sent], follows, trigger_mode="always_last", **at_once)
    part.chosen.input(choose, part.chosen, [*follows, part.message], **QUIET)
    page.wanted_study.change(wanted, page.wanted_study, [*follows, part.message], **QUIET)
    _connect_button(page, part, part.stop, studies.stop)
    _connect_button(page, part, part.go_on, lambda study: _go_on(page, study))

    def to_vote(name: str | None) -> tuple[Any, Any]:
        run = study_views.to_vote_on(named_study(name or "", page.runs))
        return (
            (gr.skip(), gr.skip())
            if run is None
            else ([run, time.time()], gr.Tabs(selected="compare"))
        )

    def pick(event: gr.EventData) -> list[str]:
        return [str(event.run)]

    part.vote.click(to_vote, part.chosen, [page.wanted_run, page.tabs], **QUIET)

    part.shown.click(pick, None, page.selected, **at_once)


def refresh(page: Page, part: StudyPart, name: str | None, sent: str | None) -> Any:
    """What there is to see of the chosen study, or of the last one begun; skipped where nothing
    has changed since it was sent."""
    found = studies.studies(page.runs)
    statuses = run_files.statuses(page.runs)
    names = [study.name for study in found]
    known = name if name in names else next(iter(names), None)
    mark = f"{known} {study_views.mark(found)} {run_files.signature(page.runs, statuses, [])}"
    if mark == sent:
        return gr.skip()
    if known is None:
        off = gr.Button(interactive=False)
        empty = {part.stop: off, part.go_on: off, part.shown: "", part.sent: mark}
        empty |= {part.vote: gr.Button(visible=False)}
        return {part.fold: gr.Accordion(visible=False), part.chosen: gr.skip()} | empty
    study = Study(page.runs / known)
    state = study.status()["state"]
    try:
        html = study_views.study_html(study, statuses)
    except UserError as error:  # a recipe of another version
        html = parts.note(error, "bad")
    except Exception as error:  # what is shown next must not hang on one damaged file
        html = parts.note(f"A file of {known} is damaged ({type(error).__name__}).", "bad")
    return {
        part.fold: gr.Accordion(visible=True),
        part.chosen: gr.Dropdown(choices=names, value=known),
        part.stop: gr.Button(interactive=state in AT_WORK),
        part.go_on: gr.Button(interactive=state in CAN_GO_ON),
        part.vote: gr.Button(visible=state == "waits" and bool(study_views.to_vote_on(study))),
        part.shown: html,
        part.sent: mark,
    }


def _connect_button(
    page: Page, part: StudyPart, button: gr.Button, do: Callable[[Study], str]
) -> None:
    def act(name: str | None) -> str:
        try:
            return parts.note(do(named_study(name or "", page.runs)))
        except UserError as error:
            return parts.note(error, "bad")

    button.click(act, part.chosen, part.message, trigger_mode="once", **QUIET)


def _go_on(page: Page, study: Study) -> str:
    if not page.allow_code:
        raise UserError(
            f"{study.name} goes on where it was started: this page may not run all that its command"
            " could name, as it was started without --allow-code."
        )
    studies.resume(study)
    return f"{study.name} goes on with what is not finished."
