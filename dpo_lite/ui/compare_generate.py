"""The Compare tab at work: columns that grow in lockstep, and what is shown of them."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from dpo_lite.compare.columns import AT, POLICY, REFERENCE, Column, columns
from dpo_lite.compare.votes import BAD, LETTERS
from dpo_lite.errors import UserError
from dpo_lite.files import safe_name
from dpo_lite.runs.folder import named_run
from dpo_lite.ui import parts
from dpo_lite.ui.compare_layout import MOST_COLUMNS, NO_ANSWERS, CompareTab
from dpo_lite.ui.compare_sampling import read_sampling, sampling_flags
from dpo_lite.ui.compare_views import answer_cards
from dpo_lite.ui.shared import Page, Updates

FRAME = 0.08  # seconds between two looks at a growing answer
ALL_THE_SAME = "All say the same: nothing to vote on. Take another prompt, or a higher temperature."

Answers = dict[str, Any]  # as ``NO_ANSWERS``


def connect_generate(page: Page, tab: CompareTab) -> None:
    _connect_streaming(page, tab)
    _connect_view(tab)
    _connect_command(page, tab)


def _connect_streaming(page: Page, tab: CompareTab) -> None:
    def stream(*values: Any) -> Iterator[Updates]:
        *settings, tokens, differences = values
        yield from generate(page, tab, settings, tokens, differences)

    controls = tab.controls
    shown = [tab.message, tab.answers_html, tab.answers]
    ballot = [tab.ballot.row, *tab.ballot.buttons.values()]
    generating = gr.on(
        [controls.generate.click, tab.question.prompt.submit],
        stream,
        [*tab.settings(), controls.tokens, controls.differences],
        [*shown, *ballot, controls.generate, controls.stop],
        concurrency_limit=None,
        trigger_mode="once",
        **parts.QUIET,
    )
    controls.stop.click(None, None, None, cancels=[generating], **parts.QUIET).then(
        lambda: ("", gr.Button(interactive=True), gr.Button(interactive=False)),
        None,
        [tab.message, controls.generate, controls.stop],
        **parts.QUIET,
    )


def _connect_view(tab: CompareTab) -> None:
    """Another look at the same answers."""
    controls = tab.controls
    gr.on(
        [controls.tokens.change, controls.differences.change],
        show_answers,
        [tab.answers, controls.tokens, controls.differences],
        tab.answers_html,
        **parts.QUIET,
    )


def _connect_command(page: Page, tab: CompareTab) -> None:
    gr.on(
        [component.change for component in tab.settings()],
        lambda *settings: command(page, *settings),
        tab.settings(),
        tab.command,
        trigger_mode="always_last",
        **parts.QUIET,
    )


# --- generating -----------------------------------------------------------------------------------


def generate(
    page: Page, tab: CompareTab, settings: Sequence[Any], tokens: bool, differences: bool
) -> Iterator[Updates]:
    """Stream the columns; a click on Stop or a closed page closes this, and with it the task."""
    run, beside, blind, prompt, strength, *numbers = settings
    sampling = read_sampling(numbers)
    try:
        if not (prompt or "").strip():
            raise UserError("Type a prompt, or page to one of the run's own.")
        names = [*(beside or []), policy_name(strength)]
        chosen = chosen_columns(page, run, names, distinct=blind)
    except UserError as error:
        not_asked = {tab.message: parts.note(error, "bad"), tab.ballot.row: gr.Row(visible=False)}
        yield not_asked | _busy(tab, False)
        return
    if blind:
        random.shuffle(chosen)
    labels = [column.label for column in chosen]
    answers = {
        **NO_ANSWERS,
        "columns": [{"label": label, "text": ""} for label in labels],
        "prompt": prompt,
        "run": run,
        "blind": blind,
        "sampling": sampling,
    }
    view = (tokens, differences)
    yield screen(tab, parts.note("asking the worker"), answers, *view) | _busy(tab, True)
    task = page.worker.run("generate", run=run, columns=labels, prompt=prompt, sampling=sampling)
    with contextlib.closing(task) as events:
        yield from _follow(tab, events, answers, *view)


def _follow(
    tab: CompareTab, events: Iterator[dict], answers: Answers, tokens: bool, differences: bool
) -> Iterator[Updates]:
    """The screen after each of the worker's events that changes it."""
    drawn = 0.0
    for event in events:
        kind = event["event"]
        if kind == "token":
            for column, text in zip(answers["columns"], event["texts"], strict=True):
                column["text"] = text
            if time.monotonic() - drawn > FRAME:
                drawn = time.monotonic()
                yield _growing(tab, "", answers)
        elif kind == "result":
            answers["columns"] = event["result"]
            texts = [column["text"] for column in event["result"]]
            same = len(texts) > 1 and len(set(texts)) == 1
            message = parts.note(ALL_THE_SAME) if same else ""
            yield screen(tab, message, answers, tokens, differences) | _busy(tab, False)
        elif kind == "error":
            message = parts.note(event["text"], "bad")
            yield screen(tab, message, answers, tokens, differences) | _busy(tab, False)
        else:  # once a second at least: Gradio can close this only where it says something
            progress = f"{event['text']} … {event.get('seconds', 0):.0f} s"
            begun = any(column["text"] for column in answers["columns"])
            yield _growing(tab, "" if begun else parts.note(progress), answers)


def chosen_columns(
    page: Page, run: str | None, names: Sequence[str], distinct: bool
) -> list[Column]:
    """The columns, checked here already, before anything is loaded; ``distinct``: not all alike."""
    if not run:
        raise UserError("Choose a run first.")
    for name in names:
        safe_name(name.partition(AT)[0])  # no path reaches the disk from here
    chosen = columns(named_run(run, page.runs), names, page.runs)
    if distinct and len({column.fingerprint for column in chosen}) < 2:
        raise UserError("A blind vote needs two different models: add one under Beside it.")
    return chosen


def policy_name(strength: float | None) -> str:
    """The policy's column; an emptied slider is the policy as it is."""
    return POLICY if strength in (None, 1) else f"{POLICY}{AT}{strength:g}"


# --- what is shown --------------------------------------------------------------------------------


def _growing(tab: CompareTab, message: str, answers: Answers) -> Updates:
    """While answers grow nothing else is sent: what comes late must not undo what Stop did."""
    html = show_answers(answers, tokens=False, differences=False)
    return {tab.message: message, tab.answers_html: html, tab.answers: answers}


def screen(
    tab: CompareTab, message: str, answers: Answers, tokens: bool, differences: bool
) -> Updates:
    """The screen at the start and at the end of generating; votes only on whole answers."""
    count = len(answers["columns"])
    whole = all("tokens" in column for column in answers["columns"])
    differ = len({column["text"] for column in answers["columns"]}) > 1
    buttons = tab.ballot.buttons
    return {
        tab.message: message,
        tab.answers_html: show_answers(answers, tokens, differences),
        tab.answers: answers,
        tab.ballot.row: gr.Row(visible=whole and differ and answers["blind"]),
        **{
            buttons[letter]: gr.Button(visible=place < count)
            for place, letter in enumerate(LETTERS[:MOST_COLUMNS])
        },
        buttons[BAD]: gr.Button("Both bad" if count == 2 else "All bad"),
    }


def _busy(tab: CompareTab, busy: bool) -> Updates:
    return {
        tab.controls.generate: gr.Button(interactive=not busy),
        tab.controls.stop: gr.Button(interactive=busy),
    }


def show_answers(answers: Answers, tokens: bool, differences: bool) -> str:
    """The answers as HTML; of a blind vote without names until it is given."""
    if not answers["columns"]:
        return ""
    hidden = answers["blind"] and answers["verdict"] is None
    whole = all("tokens" in column for column in answers["columns"])
    return answer_cards(
        answers["columns"],
        hidden=hidden,
        tokens=tokens,
        differences=differences,
        best=answers["verdict"],
        thumbs=answers["thumbs"] if whole and not hidden else None,
    )


def command(page: Page, run, beside, blind, prompt, strength, *numbers) -> str:
    """The same from a terminal."""
    if not run or not prompt:
        return ""
    beside = beside or []
    words = ["dpo-lite", "compare", run, "--prompt", prompt]
    words += [] if REFERENCE in beside else ["--no-reference"]
    words += [word for name in beside if name != REFERENCE for word in ("--with", name)]
    if policy_name(strength) != POLICY:
        words += ["--no-policy", "--strength", f"{strength:g}"]
    words += ["--blind"] if blind else []
    words += sampling_flags(read_sampling(numbers))
    return parts.command([*words, *parts.runs_option(page.runs)])
