"""The Compare tab: columns in lockstep, blind votes, and votes as data for the next run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from dpo_lite.compare.ballots import ENDING
from dpo_lite.compare.votes import read_votes, votes_file, win_rates
from dpo_lite.ui import parts
from dpo_lite.ui.compare_chat import connect_chat
from dpo_lite.ui.compare_drawn import button_of, connect_drawn, waiting_for
from dpo_lite.ui.compare_export import connect_export
from dpo_lite.ui.compare_generate import connect_generate
from dpo_lite.ui.compare_layout import NOTHING, CompareTab, lay_out
from dpo_lite.ui.compare_question import (
    OFFER_FIRST,
    answering,
    connect_question,
    offering,
)
from dpo_lite.ui.compare_rounds import connect_rounds
from dpo_lite.ui.compare_views import win_table
from dpo_lite.ui.compare_votes import connect_votes
from dpo_lite.ui.shared import Page, changed


def build(page: Page) -> None:
    tab = lay_out()
    _connect_refresh(page, tab)
    connect_question(page, tab)
    connect_generate(page, tab)
    connect_votes(page, tab)
    connect_drawn(page, tab)
    connect_rounds(page, tab)
    connect_chat(page, tab)
    tab.mode.change(
        lambda mode: [gr.Column(visible=mode == name) for name in tab.ways],
        tab.mode,
        [*tab.ways.values()],
        **parts.QUIET,
    )
    _connect_free(page, tab)
    connect_export(page, tab)


def _connect_refresh(page: Page, tab: CompareTab) -> None:
    """What others change: the runs there are, what is loaded, the votes."""

    def refresh(
        sent: list | None, run: str | None, selected: list[str] | None, answers: dict[str, Any]
    ) -> Any:
        return _refresh(page, sent, run, selected, answers)

    run = tab.question.run
    inputs = [tab.sent, run, page.selected, tab.answers]
    outputs = [tab.sent, tab.nothing_yet, tab.everything, run, tab.loaded, tab.rates, tab.drawn]
    page.blocks.load(refresh, inputs, outputs, **parts.QUIET)
    changed("compare").click(
        refresh, inputs, outputs, trigger_mode="always_last", concurrency_limit=None, **parts.QUIET
    ).then(*offering(tab), js=OFFER_FIRST, **parts.QUIET)


def _refresh(
    page: Page,
    sent: list | None,
    run: str | None,
    selected: list[str] | None,
    answers: dict[str, Any],
) -> Any:
    """New values for ``_connect_refresh``; only where something changed since it was ``sent``."""
    now = facts(page)
    if now == sent:
        return gr.skip()
    names, loaded, *_ = now
    run = run if run in names else None
    # What is chosen there already is left alone: by now it may be another one.
    value = {} if run else {"value": _first(names, selected)}
    menu = gr.Dropdown(choices=names, **value)
    return [
        now,
        gr.HTML(value=NOTHING if not names else "", visible=not names),
        gr.Column(visible=bool(names)),
        menu if not sent or names != sent[0] else gr.skip(),
        _loaded(loaded),
        win_table(*win_rates(read_votes(page.runs))),
        button_of(waiting_for(page, run, answers)),
    ]


def facts(page: Page, runs: list[str] | None = None) -> list[Any]:
    """What is shown of things that others change; equal where nothing did. ``runs``: those that
    answer, where somebody has looked."""
    names = answering(page.runs) if runs is None else runs
    # Their sizes and not what they say: every browser asks every other second.
    files = [votes_file(page.runs), *sorted(page.runs.glob(f"*{ENDING}"))]
    return [names, page.worker.state()["loaded"], [size_of(file) for file in files]]


def size_of(file: Path) -> int:
    """In bytes; 0 of one that is not there, or not any more."""
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _first(names: list[str], selected: list[str] | None) -> str | None:
    """The run that was clicked in the table, else the newest."""
    wanted = [name for name in selected or [] if name in names]
    return next(iter(wanted or names), None)


def _connect_free(page: Page, tab: CompareTab) -> None:
    def free() -> str:
        page.worker.free()
        return _loaded(None)

    tab.free.click(free, None, tab.loaded, **parts.QUIET)


def _loaded(name: str | None) -> str:
    text = f"loaded: {name}" if name else "nothing is loaded"
    return f'<p class="dl-muted dl-small">{parts.esc(text)}</p>'
