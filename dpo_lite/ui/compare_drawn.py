"""The Compare tab's drawn pairs: answers that a round has drawn and that wait for a blind vote."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import gradio as gr

from dpo_lite.compare.ballots import LABELS, Pair, waiting
from dpo_lite.compare.columns import POLICY, columns
from dpo_lite.compare.votes import read_votes
from dpo_lite.runs.folder import named_run
from dpo_lite.ui import parts
from dpo_lite.ui.compare_generate import screen
from dpo_lite.ui.compare_layout import NO_ANSWERS, CompareTab
from dpo_lite.ui.shared import Page, Updates


def connect_drawn(page: Page, tab: CompareTab) -> None:
    run = tab.question.run
    run.change(
        lambda name, answers: button_of(waiting_for(page, name, answers)),
        [run, tab.answers],
        tab.drawn,
        trigger_mode="always_last",
        **parts.QUIET,
    )
    tab.drawn.click(
        lambda name, answers: _next(page, tab, name, answers),
        [run, tab.answers],
        [
            *(tab.message, tab.answers_html, tab.answers, tab.question.prompt, tab.drawn),
            *(tab.ballot.row, *tab.ballot.buttons.values()),
        ],
        **parts.QUIET,
    )


def waiting_for(page: Page, name: str | None, answers: Mapping[str, Any]) -> list[Pair]:
    """The pairs of a run's policy without a vote, but for the one that is open among the
    ``answers``; none where no run is chosen."""
    if not name:
        return []
    pairs = waiting(page.runs, named_run(name, page.runs).name, read_votes(page.runs))
    shown = answers["prompt"], frozenset(column.get("text") for column in answers["columns"])
    return [pair for pair in pairs if pair.key != shown]


def button_of(pairs: list[Pair]) -> gr.Button:
    """Seen where something waits."""
    return gr.Button(f"Next drawn pair ({len(pairs):,} wait)", visible=bool(pairs))


def _next(page: Page, tab: CompareTab, name: str | None, answers: Mapping[str, Any]) -> Updates:
    pairs = waiting_for(page, name, answers)
    if not pairs:
        message = parts.note("You have voted on all drawn pairs of this run.", "good")
        return {tab.message: message, tab.drawn: button_of(pairs)}
    drawn = ballot(page, pairs[0])
    earlier = [f"{turn['role']}: {turn['content']}" for turn in pairs[0].conversation[:-1]]
    message = parts.note("Before the prompt: " + " / ".join(earlier)) if earlier else ""
    shown = screen(tab, message, drawn, False, True)
    return shown | {tab.question.prompt: pairs[0].prompt, tab.drawn: button_of(pairs[1:])}


def ballot(page: Page, pair: Pair) -> dict[str, Any]:
    """The pair as answers of a blind vote, in an order that says nothing."""
    (policy,) = columns(named_run(pair.policy, page.runs), [POLICY], page.runs)
    shown = [
        {"label": label, "fingerprint": policy.fingerprint, "text": text, "tokens": []}
        for label, text in zip(LABELS, pair.answers, strict=True)
    ]
    random.shuffle(shown)
    asked = {"prompt": pair.prompt, "run": pair.policy, "blind": True}
    return NO_ANSWERS | asked | {"columns": shown}
