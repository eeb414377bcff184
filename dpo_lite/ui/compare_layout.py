"""The Compare tab as it is laid out: what is asked and how, the answers, the votes on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from dpo_lite.compare.columns import REFERENCE
from dpo_lite.compare.votes import BAD, LETTERS, TIE
from dpo_lite.ui import parts
from dpo_lite.ui.compare_chat_layout import ChatPart, lay_out_chat
from dpo_lite.ui.compare_round_layout import RoundPart, lay_out_round
from dpo_lite.ui.compare_sampling import lay_out_sampling
from dpo_lite.ui.compare_views import SAID_SCRIPT

MOST_COLUMNS = 4
ONE, ROUND, CHAT = "One prompt", "A round of votes", "Chat"
MODES = (ONE, ROUND, CHAT)
NOTHING = parts.empty(
    "Nothing to compare yet",
    "Train a recipe first. A finished run stands here beside the model that it came from.",
)
NO_ANSWERS = {
    "columns": [],
    "prompt": "",
    "run": "",
    "blind": False,
    "verdict": None,
    "thumbs": {},
    "sampling": {},
}


@dataclass(frozen=True)
class Question:
    """Who is asked what. ``position`` says which of the run's own prompts stands there.

    ``offered`` is the prompt that the page would put there next and ``filled`` the one it put there
    last; nobody sees either. While ``prompt`` is not ``filled``, somebody typed or paged to it.
    """

    run: gr.Dropdown
    beside: gr.Dropdown
    prompt: gr.Textbox
    back: gr.Button
    forth: gr.Button
    position: gr.HTML
    offered: gr.Textbox
    filled: gr.Textbox
    sampling: list[Any]


@dataclass(frozen=True)
class Controls:
    strength: gr.Slider
    generate: gr.Button
    stop: gr.Button
    blind: gr.Checkbox
    tokens: gr.Checkbox
    differences: gr.Checkbox


@dataclass(frozen=True)
class Ballot:
    """``buttons`` by verdict: a letter for each column, a tie, and all bad."""

    row: gr.Row
    buttons: dict[str, gr.Button]


@dataclass(frozen=True)
class Export:
    file: gr.Textbox
    kind: gr.Radio
    export: gr.Button
    outcome: gr.HTML
    train: gr.Button


@dataclass(frozen=True)
class CompareTab:
    """``answers`` are the columns as data, ``answers_html`` what is shown of them; ``sent`` is what
    the browser was told last of what others change, so that nothing is sent twice."""

    answers: gr.State
    sent: gr.State
    nothing_yet: gr.HTML
    everything: gr.Column
    question: Question
    mode: gr.Radio
    ways: dict[str, gr.Column]  # what is shown in each mode
    round: RoundPart
    chat: ChatPart
    controls: Controls
    message: gr.HTML
    answers_html: gr.HTML
    ballot: Ballot
    drawn: gr.Button
    command: gr.HTML
    loaded: gr.HTML
    free: gr.Button
    rates: gr.HTML
    export: Export

    def settings(self) -> list[Any]:
        """What decides which answers come, in the order of ``compare_generate.generate``."""
        question = self.question
        who_and_what = [question.run, question.beside, self.controls.blind, question.prompt]
        return [*who_and_what, self.controls.strength, *question.sampling]


def lay_out() -> CompareTab:
    answers = gr.State(NO_ANSWERS)
    sent = gr.State(None)
    # Said only when the runs have been looked at: until then nobody knows.
    nothing_yet = gr.HTML(parts.waiting("looking for runs"), elem_id="compare-empty")
    with gr.Column(visible=False, elem_id="compare-all") as everything:
        run, beside = _lay_out_models()
        with gr.Accordion("Sampling", open=False, elem_id="compare-sampling"):
            sampling = lay_out_sampling()
        mode = gr.Radio(
            list(MODES), value=ONE, show_label=False, container=False, elem_id="compare-mode"
        )
        strength = _strength()
        with gr.Column(elem_id="compare-one") as one:
            question = _lay_out_question(run, beside, sampling)
            controls = _lay_out_controls(strength)
            answers_html = gr.HTML(
                "",
                padding=False,
                elem_id="compare-answers",
                min_height=130,
                js_on_load=SAID_SCRIPT,
            )
            # Under the answers, which stand still when it speaks.
            message = gr.HTML("", padding=False, elem_id="compare-told")
            ballot = _lay_out_ballot()
            drawn = gr.Button(
                "Next drawn pair", visible=False, size="sm", elem_id="compare-drawn", min_width=180
            )
            command = gr.HTML("", padding=False, elem_id="compare-command")
        with gr.Column(visible=False, elem_id="compare-round") as several:
            voting = lay_out_round()
        with gr.Column(visible=False, elem_id="compare-chat") as talking:
            chat = lay_out_chat()
        strength.render()
        with gr.Row(equal_height=True):
            loaded = gr.HTML("", padding=False, elem_id="compare-loaded")
            free = gr.Button("Free", size="sm", elem_id="compare-free", min_width=90, scale=0)
        gr.HTML('<h2 class="dl-title">Win rates of the blind votes</h2>', padding=False)
        rates = gr.HTML("", padding=False, elem_id="compare-rates")
        export = _lay_out_export()
    return CompareTab(
        answers,
        sent,
        nothing_yet,
        everything,
        question,
        mode,
        {ONE: one, ROUND: several, CHAT: talking},
        voting,
        chat,
        controls,
        message,
        answers_html,
        ballot,
        drawn,
        command,
        loaded,
        free,
        rates,
        export,
    )


def _lay_out_models() -> tuple[gr.Dropdown, gr.Dropdown]:
    with gr.Row():
        run = gr.Dropdown(
            label="Run",
            choices=[],
            elem_id="compare-run",
            elem_classes="dl-field",
            scale=2,
            min_width=220,
            info="What was trained",
        )
        beside = gr.Dropdown(
            label="Beside it",
            choices=[REFERENCE],
            value=[REFERENCE],
            multiselect=True,
            max_choices=MOST_COLUMNS - 1,
            elem_id="compare-beside",
            elem_classes="dl-field",
            scale=3,
            min_width=260,
            info="The reference, or other runs on the same base",
        )
    return run, beside


def _lay_out_question(run: gr.Dropdown, beside: gr.Dropdown, sampling: list[Any]) -> Question:
    prompt = gr.Textbox(
        label="Prompt",
        lines=2,
        max_lines=8,
        elem_id="compare-prompt",
        elem_classes="dl-field",
        info="What you ask, as one user turn",
    )
    with gr.Row(elem_id="compare-pages"):
        small = {"size": "sm", "scale": 0, "min_width": 130}
        back = gr.Button("‹ Earlier prompt", elem_id="compare-back", **small)
        forth = gr.Button("Next prompt ›", elem_id="compare-next", **small)
        position = gr.HTML("", padding=False, elem_id="compare-place")
        offered, filled = (gr.Textbox("", visible="hidden") for _ in range(2))
    return Question(run, beside, prompt, back, forth, position, offered, filled, sampling)


def _strength() -> gr.Slider:
    """Made before the answers that it stands under."""
    return gr.Slider(
        0,
        3,
        value=1,
        step=0.05,
        label="Strength",
        info="The policy mixed with its reference, token by token: 0 is the reference, 1 the "
        "policy, above 1 beyond it. Generate asks again",
        elem_id="compare-strength",
        render=False,
    )


def _lay_out_controls(strength: gr.Slider) -> Controls:
    bare = {"container": False}
    with gr.Row(equal_height=True):
        return Controls(
            strength=strength,
            generate=gr.Button(
                "Generate", variant="primary", size="md", elem_id="compare-generate", min_width=140
            ),
            stop=gr.Button(
                "Stop", size="md", elem_id="compare-stop", interactive=False, min_width=90
            ),
            blind=gr.Checkbox(label="Blind", elem_id="compare-blind", min_width=110, **bare),
            tokens=gr.Checkbox(
                label="Reward by token", elem_id="compare-tokens", min_width=150, **bare
            ),
            differences=gr.Checkbox(
                label="Differences",
                value=True,
                elem_id="compare-differences",
                min_width=130,
                **bare,
            ),
        )


def _lay_out_ballot() -> Ballot:
    with gr.Row(visible=False, elem_id="compare-vote") as row:
        gr.HTML(
            '<p class="dl-muted dl-small">The keys 1, 2, … press these, as long as nobody types in'
            " a field.</p>",
            padding=False,
        )
        buttons = {
            letter: gr.Button(
                f"{letter} is better",
                elem_id=f"compare-vote-{letter.lower()}",
                visible=letter in "AB",
                min_width=110,
            )
            for letter in LETTERS[:MOST_COLUMNS]
        }
        buttons[TIE] = gr.Button("Tie", elem_id="compare-vote-tie", min_width=110)
        buttons[BAD] = gr.Button("Both bad", elem_id="compare-vote-bad", min_width=110)
    return Ballot(row, buttons)


def _lay_out_export() -> Export:
    with gr.Row(elem_id="compare-votes"):
        file = gr.Textbox(
            "votes.jsonl",
            label="Votes as training data",
            elem_id="compare-file",
            elem_classes="dl-field",
            info="A new .jsonl file beside your own recipes",
            min_width=220,
        )
        kind = gr.Radio(
            [("pairs, for DPO", "pairs"), ("single answers, for KTO", "answers")],
            value="pairs",
            label="As",
            info="A thumb is a single answer; of a vote on two the best is good, the other bad",
            elem_id="compare-kind",
            min_width=280,
        )
        export = gr.Button("Export", size="md", elem_id="compare-export", min_width=110, scale=0)
    outcome = gr.HTML("", padding=False, elem_id="compare-exported")
    train = gr.Button("Open in Recipes", visible=False, size="md", elem_id="compare-open-recipes")
    return Export(file, kind, export, outcome, train)
