"""The Compare tab's blind votes: one is kept, and then the names are shown."""

from __future__ import annotations

from typing import Any

import gradio as gr

from dpo_lite.compare.votes import BAD, TIE, add_vote, read_votes, win_rates
from dpo_lite.ui import parts
from dpo_lite.ui.compare_generate import Answers, show_answers
from dpo_lite.ui.compare_layout import CompareTab
from dpo_lite.ui.compare_views import win_table
from dpo_lite.ui.shared import Page, Updates


def connect_votes(page: Page, tab: CompareTab) -> None:
    for verdict, button in tab.ballot.buttons.items():
        button.click(
            lambda *view, verdict=verdict: _vote(page, tab, verdict, *view),
            [tab.answers, tab.controls.tokens, tab.controls.differences],
            [tab.message, tab.answers_html, tab.answers, tab.ballot.row, tab.rates],
            **parts.QUIET,
        )


def _vote(
    page: Page, tab: CompareTab, verdict: str, answers: Answers, tokens: bool, differences: bool
) -> Updates | Any:
    """Keep a vote and show who was who."""
    if not answers["columns"] or answers["verdict"] is not None:
        return gr.skip()
    add_vote(
        page.runs,
        run=answers["run"],
        prompt=answers["prompt"],
        shown=[
            {"label": c["label"], "fingerprint": c["fingerprint"], "answer": c["text"]}
            for c in answers["columns"]
        ],
        sampling=answers["sampling"],
        verdict=verdict,
        blind=True,
    )
    voted = answers | {"verdict": verdict}
    words = {TIE: "a tie", BAD: "none is any good"}.get(verdict, f"{verdict} is better")
    message = f"Your vote is kept: {words}. Now the names are shown."
    return {
        tab.message: parts.note(message, "good"),
        tab.answers_html: show_answers(voted, tokens, differences),
        tab.answers: voted,
        tab.ballot.row: gr.Row(visible=False),
        tab.rates: win_table(*win_rates(read_votes(page.runs))),
    }
