"""A round of votes at work: pairs are answered ahead, a key or a click votes on the open one."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from dpo_lite.compare import rounds
from dpo_lite.compare.columns import Column
from dpo_lite.compare.prompt_lists import choose, held_out_prompts, lines_as_prompts, prompts_in
from dpo_lite.compare.rounds import Round
from dpo_lite.compare.votes import Asked, add_vote, read_votes, win_rates
from dpo_lite.errors import UserError
from dpo_lite.runs.folder import named_run
from dpo_lite.ui import parts, round_views
from dpo_lite.ui.compare_generate import chosen_columns, policy_name
from dpo_lite.ui.compare_layout import CompareTab
from dpo_lite.ui.compare_round_layout import FILE, LINES, MOST, USUAL
from dpo_lite.ui.compare_sampling import read_sampling
from dpo_lite.ui.compare_views import win_table
from dpo_lite.ui.shared import Page, Updates


def connect_rounds(page: Page, tab: CompareTab) -> None:
    part = tab.round
    part.source.change(
        lambda source: (gr.Textbox(visible=source == LINES), gr.File(visible=source == FILE)),
        part.source,
        [part.lines, part.file],
        **parts.QUIET,
    )
    _connect_answering(page, tab)
    _connect_voting(page, tab)


def _connect_answering(page: Page, tab: CompareTab) -> None:
    part, question = tab.round, tab.question

    def start(*values: Any) -> Iterator[Updates]:
        yield from answer_ahead(page, tab, *values)

    inputs = [question.run, question.beside, tab.controls.strength, part.source, part.count]
    inputs += [part.lines, part.file, *question.sampling]
    outputs = [part.going, part.message, part.progress, part.arena, part.start, part.stop]
    answering = part.start.click(
        start, inputs, outputs, concurrency_limit=None, trigger_mode="once", **parts.QUIET
    )
    part.stop.click(None, None, None, cancels=[answering], **parts.QUIET).then(
        lambda going: _stopped(tab, going), part.going, outputs[1:], **parts.QUIET
    )


def _connect_voting(page: Page, tab: CompareTab) -> None:
    part = tab.round

    def vote(going: Round | None, event: gr.EventData) -> Any:
        return keep_vote(page, tab, going, int(event.pair), str(event.verdict))

    outputs = [part.message, part.progress, part.arena, tab.rates]
    part.arena.click(
        vote,
        part.going,
        outputs,
        concurrency_limit=None,
        trigger_mode="multiple",
        **parts.QUIET,
    )


# --- answering ------------------------------------------------------------------------------------


def answer_ahead(page: Page, tab: CompareTab, *values: Any) -> Iterator[Updates]:
    """Answer all prompts of a new round; a click on Stop or a closed page closes this.

    The open pair is drawn here only while nobody has one to vote on, else by the votes.
    """
    run, beside, strength, source, count, lines, file, *numbers = values
    part, sampling = tab.round, read_sampling(numbers)
    try:
        columns = _two_columns(page, run, beside, strength)
        prompts = _prompts(page, run, source, lines, file)
        prompts = choose(prompts, _count(count), read_votes(page.runs), sampling["seed"])
    except UserError as error:
        yield {part.message: parts.note(error, "bad")} | _busy(tab, False)
        return
    going = Round(run, prompts, sampling)
    first = {part.going: going, part.message: "", part.arena: round_views.arena(going)}
    yield first | _progress(tab, going, "asking the worker") | _busy(tab, True)
    labels = [column.label for column in columns]
    try:
        for prompt in prompts:
            yield from _answer_one(page, tab, going, labels, prompt)
        fault = ""
    except UserError as error:
        fault = parts.note(error, "bad")
    finally:
        waited = going.waits
        going.ended = True  # also where the page is closed or Stop closes this
    end = {part.message: fault} | _progress(tab, going) | _busy(tab, False)
    yield end | ({part.arena: round_views.arena(going)} if waited else {})


def _answer_one(
    page: Page, tab: CompareTab, going: Round, labels: Sequence[str], prompt: Asked
) -> Iterator[Updates]:
    """Something is said every second, so that Gradio can close this while a model works."""
    task = page.worker.run(
        "generate", run=going.run, columns=labels, prompt=prompt, sampling=going.sampling
    )
    with contextlib.closing(task) as events:
        for event in events:
            if event["event"] == "error":
                raise UserError(event["text"])
            if event["event"] == "result":
                waited = going.waits
                columns = list(event["result"])
                random.shuffle(columns)
                rounds.answered(going, prompt, columns)
                drawn = {tab.round.arena: round_views.arena(going)} if waited else {}
                yield _progress(tab, going) | drawn
            elif event["event"] != "token":
                seconds = event.get("seconds", 0)
                yield _progress(tab, going, f"{event['text']}, {seconds:.0f} s")


def _two_columns(
    page: Page, run: str | None, beside: Sequence[str] | None, strength: float | None
) -> list[Column]:
    if len(beside or []) != 1:
        raise UserError("A round compares two models: leave exactly one under Beside it.")
    return chosen_columns(page, run, [*beside, policy_name(strength)], distinct=True)


def _prompts(page: Page, run: str, source: str, lines: str, file: str | None) -> list[Asked]:
    if source == LINES:
        found = lines_as_prompts(lines or "")
        if not found:
            raise UserError("Paste prompts first, one a line.")
        return found
    if source == FILE:
        if not file:
            raise UserError("Choose a file with prompts first.")
        return prompts_in(Path(file))
    found = held_out_prompts(named_run(run, page.runs))
    if not found:
        raise UserError(f"{run} was asked nothing of held-out data; give a file or lines.")
    return found


def _count(count: float | None) -> int:
    return min(max(int(count or USUAL), 1), MOST)


# --- voting ---------------------------------------------------------------------------------------


def keep_vote(page: Page, tab: CompareTab, going: Round | None, pair: int, verdict: str) -> Any:
    """Keep a vote on the open pair and draw the next one; another pair's vote is none."""
    if going is None or not rounds.may_vote(going, pair, verdict):
        return gr.skip()
    prompt, columns = going.pairs[pair]
    try:
        vote = add_vote(
            page.runs,
            run=going.run,
            prompt=prompt,
            shown=[
                {"label": c["label"], "fingerprint": c["fingerprint"], "answer": c["text"]}
                for c in columns
            ],
            sampling=going.sampling,
            verdict=verdict,
            blind=True,
        )
    except UserError as error:
        shown = {tab.round.message: parts.note(error, "bad")}
        return shown | {tab.round.arena: round_views.arena(going)}
    going.votes.append(vote)
    return {
        tab.round.message: "",
        tab.round.progress: round_views.progress(going),
        tab.round.arena: round_views.arena(going),
        tab.rates: win_table(*win_rates(read_votes(page.runs))),
    }


# --- what is shown --------------------------------------------------------------------------------


def _progress(tab: CompareTab, going: Round, doing: str = "") -> Updates:
    return {tab.round.progress: round_views.progress(going, doing)}


def _busy(tab: CompareTab, busy: bool) -> Updates:
    return {
        tab.round.start: gr.Button(interactive=not busy),
        tab.round.stop: gr.Button(interactive=busy),
    }


def _stopped(tab: CompareTab, going: Round | None) -> Updates:
    """What is answered can still be voted on."""
    if going is not None:
        going.ended = True
    shown = {tab.round.message: "", tab.round.progress: round_views.progress(going)}
    return shown | {tab.round.arena: round_views.arena(going)} | _busy(tab, False)
