"""The Compare tab's votes on the answers to one prompt: blind ones, open ones, and thumbs."""

from __future__ import annotations

from typing import Any

import gradio as gr

from dpo_lite.compare.votes import BAD, LETTERS, TIE, add_vote, read_votes, win_rates
from dpo_lite.errors import UserError
from dpo_lite.ui import parts
from dpo_lite.ui.compare_generate import Answers, show_answers
from dpo_lite.ui.compare_layout import CompareTab
from dpo_lite.ui.compare_views import win_table
from dpo_lite.ui.shared import Page, Updates


def connect_votes(page: Page, tab: CompareTab) -> None:
    view = [tab.answers, tab.controls.tokens, tab.controls.differences]
    shown = [tab.message, tab.answers_html, tab.answers]
    for verdict, button in tab.ballot.buttons.items():
        button.click(
            lambda *view, verdict=verdict: _vote(page, tab, verdict, *view),
            view,
            [*shown, tab.ballot.row, tab.rates],
            **parts.QUIET,
        )

    def said(answers: Answers, tokens: bool, differences: bool, event: gr.EventData) -> Any:
        return _say(page, tab, str(event.said), str(event.letter), answers, tokens, differences)

    tab.answers_html.click(said, view, shown, concurrency_limit=None, **parts.QUIET)


def _vote(
    page: Page, tab: CompareTab, verdict: str, answers: Answers, tokens: bool, differences: bool
) -> Updates | Any:
    """Keep a vote and show who was who."""
    if not answers["columns"] or answers["verdict"] is not None:
        return gr.skip()
    _keep(page, answers, answers["columns"], verdict, blind=True)
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


def _say(
    page: Page,
    tab: CompareTab,
    said: str,
    letter: str,
    answers: Answers,
    tokens: bool,
    differences: bool,
) -> Updates | Any:
    """Keep what is said of one answer: that it is good or bad, or the best of those shown."""
    columns = answers["columns"]
    place = LETTERS.find(letter)
    if not letter or not 0 <= place < len(columns) or said not in ("good", "bad", "best"):
        return gr.skip()
    name = columns[place]["label"]
    try:
        if said == "best":
            _keep(page, answers, columns, letter, blind=False)
            now = answers | {"verdict": letter}
            words = f"{name} is preferred: a pair for DPO; win rates count blind votes alone."
        else:
            _keep(page, answers, [columns[place]], "A" if said == "good" else BAD, blind=False)
            now = answers | {"thumbs": answers["thumbs"] | {letter: said}}
            words = f"{name}'s answer is {said}: a single answer for KTO."
    except UserError as error:
        return {tab.message: parts.note(error, "bad")}
    html = show_answers(now, tokens, differences)
    return {
        tab.message: parts.note(f"Kept: {words}", "good"),
        tab.answers_html: html,
        tab.answers: now,
    }


def _keep(
    page: Page, answers: Answers, columns: list[dict[str, Any]], verdict: str, blind: bool
) -> None:
    add_vote(
        page.runs,
        run=answers["run"],
        prompt=answers["prompt"],
        shown=[
            {"label": c["label"], "fingerprint": c["fingerprint"], "answer": c["text"]}
            for c in columns
        ],
        sampling=answers["sampling"],
        verdict=verdict,
        blind=blind,
    )
