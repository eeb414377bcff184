"""On-policy rounds, begun from the selected run in the Runs tab."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dpo_lite.errors import UserError
from dpo_lite.recipe import load_recipe
from dpo_lite.recipe.consent import refuse_code
from dpo_lite.runs import studies
from dpo_lite.runs.folder import named_run
from dpo_lite.ui import parts, rounds_draft
from dpo_lite.ui.rounds_draft import JUDGES, MODEL, REWARD, Asked
from dpo_lite.ui.shared import Page, Updates

QUIET = {**parts.QUIET, "concurrency_limit": 4}


@dataclass(frozen=True)
class RoundsPart:
    column: gr.Column
    judge: gr.Radio
    reward: gr.Dropdown
    url: gr.Textbox
    model: gr.Textbox
    rounds: gr.Number
    prompts: gr.Number
    launch: gr.Button
    close: gr.Button
    said: gr.HTML

    def inputs(self) -> list[Any]:
        return [self.judge, self.reward, self.url, self.model, self.rounds, self.prompts]


def lay_out_rounds() -> RoundsPart:
    look = {"elem_classes": ["dl-field"], "min_width": 180}
    with gr.Column(
        visible=False, elem_id="runs-rounds", elem_classes=["dl-part", "dl-plain"]
    ) as column:
        gr.HTML(
            '<p class="dl-small"><b>On-policy rounds</b>: the run answers its own prompts, a judge'
            " picks the better and the worse answer, DPO learns from them, and again from the new"
            " policy.</p>"
        )
        with gr.Row(equal_height=False):
            judge = gr.Radio(
                list(JUDGES), value=REWARD, label="Who judges?", elem_id="rounds-judge", **look
            )
            reward = gr.Dropdown(
                [],
                label="Which reward?",
                info="A reward run, its adapter, or `file.py:function`.",
                allow_custom_value=True,
                elem_id="rounds-reward",
                **look,
            )
            url = gr.Textbox(
                label="Address of the judge",
                info="Such as `http://127.0.0.1:8000/v1`.",
                visible=False,
                max_lines=1,
                elem_id="rounds-url",
                **look,
            )
            model = gr.Textbox(
                label="Name of the judge",
                info="As it is called there.",
                visible=False,
                max_lines=1,
                elem_id="rounds-model",
                **look,
            )
        with gr.Row(equal_height=False):
            rounds = gr.Number(3, precision=0, label="Rounds", elem_id="rounds-count", **look)
            prompts = gr.Number(
                0,
                precision=0,
                label="Prompts a round (0: all)",
                elem_id="rounds-prompts",
                **look,
            )
        said = gr.HTML(elem_id="rounds-said", min_height=38)
        with gr.Row(elem_classes="dl-buttons"):
            small = {"size": "sm", "min_width": 150, "scale": 0}
            launch = gr.Button(
                "Launch the rounds", variant="primary", elem_id="rounds-launch", **small
            )
            close = gr.Button("Close", elem_id="rounds-close", **small)
    return RoundsPart(column, judge, reward, url, model, rounds, prompts, launch, close, said)


def connect_rounds_start(page: Page, part: RoundsPart, button: gr.Button) -> None:
    """``button`` opens it for the selected run."""

    def opened(selected: list[str] | None, *texts: Any) -> Updates:
        runs = rounds_draft.reward_runs(page.runs)
        menu = gr.Dropdown(choices=runs, value=texts[1] or next(iter(runs), None))
        asked = [texts[0], texts[1] or next(iter(runs), ""), *texts[2:]]
        shown = {part.column: gr.Column(visible=True), part.reward: menu}
        return shown | {part.said: check(page, selected, *asked)}

    def look(selected: list[str] | None, *texts: Any) -> str:
        return check(page, selected, *texts)

    def who(judge: str) -> tuple[Any, Any, Any]:
        named = gr.Textbox(visible=judge == MODEL)
        return gr.Dropdown(visible=judge == REWARD), named, named

    def start(selected: list[str] | None, *texts: Any) -> tuple[Any, Any, Any]:
        return launch(page, selected, *texts)

    asked = [page.selected, *part.inputs()]
    button.click(opened, asked, [part.column, part.reward, part.said], **QUIET)
    part.close.click(lambda: gr.Column(visible=False), None, part.column, **QUIET)
    part.judge.change(who, part.judge, [part.reward, part.url, part.model], **QUIET)
    for field in (*part.inputs(), page.selected):
        field.change(look, asked, part.said, trigger_mode="always_last", **QUIET)
    outputs = [part.said, part.column, page.wanted_study]
    part.launch.click(start, asked, outputs, trigger_mode="once", **QUIET)


def check(page: Page, selected: list[str] | None, *texts: Any) -> str:
    """The command, or what is still missing."""
    try:
        return parts.command(_command(page, selected, texts))
    except UserError as error:
        return parts.note(error, "warn")


def launch(page: Page, selected: list[str] | None, *texts: Any) -> tuple[Any, Any, Any]:
    """Start them in the background and show them above."""
    try:
        words = _command(page, selected, texts)
        name, asked = (selected or [""])[0], _asked(texts)
        study = studies.rounds_from(name, page.runs)
        count, by = rounds_draft.count_of(asked), rounds_draft.by(asked)
        facts = {"first": name, "rounds": count, "by": by}
        studies.launch(study, words, facts)
    except UserError as error:
        return parts.note(error, "bad"), gr.skip(), gr.skip()
    return "", gr.Column(visible=False), [study.name, time.time()]


def _command(page: Page, selected: list[str] | None, texts: tuple[Any, ...]) -> list[str]:
    if not selected:
        raise UserError("Select a run first.")
    run = named_run(selected[0], page.runs)
    if not page.allow_code:
        refuse_code(load_recipe(run.recipe_file))
    return rounds_draft.command(page.runs, run.name, _asked(texts), page.allow_code)


def _asked(texts: tuple[Any, ...]) -> Asked:
    judge, reward, url, model, rounds, prompts = texts
    who = judge if judge in JUDGES else REWARD
    return Asked(who, str(reward or ""), str(url or ""), str(model or ""), rounds, prompts)
