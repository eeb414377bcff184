"""The chat at work: all columns answer a turn, and what is said of their answers is kept."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from dpo_lite.compare.chat import (
    Chat,
    Turn,
    asked_next,
    edited,
    groups,
    last_changed,
    turn_changed,
    vote_columns,
    with_turn,
    without_last,
)
from dpo_lite.compare.votes import BAD, LETTERS, add_vote
from dpo_lite.errors import UserError
from dpo_lite.recipe import load_recipe
from dpo_lite.runs.folder import named_run
from dpo_lite.ui import parts
from dpo_lite.ui.chat_views import conversation
from dpo_lite.ui.compare_chat_layout import TOGETHER
from dpo_lite.ui.compare_generate import FRAME, chosen_columns, policy_name
from dpo_lite.ui.compare_layout import CompareTab
from dpo_lite.ui.compare_sampling import read_sampling
from dpo_lite.ui.shared import Page, Updates

SAME_AGAIN = "At temperature 0 the same words come again; raise it under Sampling for others."


def connect_chat(page: Page, tab: CompareTab) -> None:
    _connect_turns(page, tab)
    _connect_said(page, tab)
    _connect_editing(page, tab)


def _connect_turns(page: Page, tab: CompareTab) -> None:
    part, question = tab.chat, tab.question

    def say(*values: Any) -> Iterator[Updates]:
        yield from next_turn(page, tab, False, *values)

    def again(*values: Any) -> Iterator[Updates]:
        yield from next_turn(page, tab, True, *values)

    inputs = [part.chat, question.run, question.beside, tab.controls.strength]
    inputs += [part.system, part.follow, part.user, *question.sampling]
    outputs = [part.chat, part.message, part.shown, part.user, part.edit, part.send]
    outputs += [part.stop, part.again]
    options = {**parts.QUIET, "concurrency_limit": None, "trigger_mode": "once"}
    running = [
        gr.on([part.send.click, part.user.submit], say, inputs, outputs, **options),
        part.again.click(again, inputs, outputs, **options),
    ]
    part.stop.click(None, None, None, cancels=running, **parts.QUIET).then(
        lambda chat: _stopped(tab, chat), part.chat, outputs, **parts.QUIET
    )
    part.new.click(
        lambda: [Chat(), "", conversation(Chat()), gr.Column(visible=False)],
        None,
        [part.chat, part.message, part.shown, part.edit],
        **parts.QUIET,
    )


def next_turn(page: Page, tab: CompareTab, again: bool, *values: Any) -> Iterator[Updates]:
    """Ask all columns; ``again``: the last turn anew. Stop or a closed page closes this."""
    chat, run, beside, strength, system, follow, user, *numbers = values
    part, sampling = tab.chat, read_sampling(numbers)
    try:
        chat, user = _begun(page, chat, run, beside, strength, system or "", user or "", again)
        asked = asked_next(chat, user, follow == TOGETHER)
    except UserError as error:
        yield {part.message: parts.note(error, "bad")} | _busy(tab, False)
        return
    sampling["seed"] += len(chat.turns) + (time.time_ns() % 10**6 if again else 0)
    empty: list[dict[str, Any]] = [{"label": label, "text": ""} for label in chat.labels]
    chat = with_turn(chat, Turn(user, asked, empty))
    edit = {part.edit: gr.Column(visible=False)}
    yield _shown(tab, chat, "asking the worker") | edit | {part.user: ""} | _busy(tab, True)
    try:
        for group in groups(asked):
            for grown, words in _answers(page, chat, group, sampling):
                chat = grown
                yield _shown(tab, chat, words)
        end = parts.note(SAME_AGAIN) if again and not sampling["temperature"] else ""
    except UserError as error:
        end = parts.note(error, "bad")
    yield {**_shown(tab, chat, ""), part.message: end} | _busy(tab, False)


def _begun(
    page: Page,
    chat: Chat,
    run: str | None,
    beside: Sequence[str] | None,
    strength: float | None,
    system: str,
    user: str,
    again: bool,
) -> tuple[Chat, str]:
    """The chat to go on with, and what is said; other models or another system prompt begin one."""
    names = [*(beside or []), policy_name(strength)]
    labels = tuple(c.label for c in chosen_columns(page, run, names, distinct=False))
    assert run is not None  # which chosen_columns has looked at
    if load_recipe(named_run(run, page.runs).recipe_file).data.raw:
        raise UserError(f"{run} is trained on text as it is, without turns; ask it one prompt.")
    same = (chat.run, chat.labels, chat.system) == (run, labels, system)
    if again:
        if not chat.turns or not same:
            raise UserError("There is no answer of these models to regenerate; send a turn first.")
        return without_last(chat), chat.turns[-1].user
    return (chat if same else Chat(run, labels, system)), user


def _answers(
    page: Page, chat: Chat, group: list[int], sampling: dict[str, Any]
) -> Iterator[tuple[Chat, str]]:
    """The chat as the answers of these columns grow; something comes every second."""
    turn = chat.turns[-1]
    columns = [dict(column) for column in turn.columns]
    labels = [chat.labels[place] for place in group]
    task = page.worker.run(
        "generate", run=chat.run, columns=labels, prompt=turn.asked[group[0]], sampling=sampling
    )
    drawn = 0.0
    with contextlib.closing(task) as events:
        for event in events:
            kind = event["event"]
            if kind == "error":
                raise UserError(event["text"])
            if kind == "token" and time.monotonic() - drawn < FRAME:
                continue
            if kind == "token":
                drawn = time.monotonic()
                for place, text in zip(group, event["texts"], strict=True):
                    columns[place]["text"] = text
            if kind == "result":
                for place, column in zip(group, event["result"], strict=True):
                    columns[place] = column
            waits = kind != "result" and not any(columns[place]["text"] for place in group)
            words = f"{event.get('text', '')} … {event.get('seconds', 0):.0f} s" if waits else ""
            yield last_changed(chat, columns=list(columns)), words


# --- what is said of answers ----------------------------------------------------------------------


def _connect_said(page: Page, tab: CompareTab) -> None:
    part = tab.chat

    def said(chat: Chat, event: gr.EventData) -> Any:
        return act(page, tab, chat, str(event.act), int(event.turn), int(event.place))

    outputs = [part.chat, part.message, part.shown, part.edit, part.words, part.editing]
    part.shown.click(said, part.chat, outputs, concurrency_limit=None, **parts.QUIET)


def act(page: Page, tab: CompareTab, chat: Chat, what: str, number: int, place: int) -> Any:
    """Keep that an answer is good, bad or preferred; or open the last turn's for editing."""
    part = tab.chat
    if not 0 <= number < len(chat.turns) or not 0 <= place < len(chat.labels):
        return gr.skip()
    turn = chat.turns[number]
    if not turn.whole:
        return gr.skip()
    if what == "edit" and number == len(chat.turns) - 1:
        words = turn.columns[place]["text"]
        return {part.edit: gr.Column(visible=True), part.words: words, part.editing: place}
    try:
        chat, told = _judged(page, chat, number, place, what)
    except UserError as error:
        return {part.message: parts.note(error, "bad")}
    return {
        part.chat: chat,
        part.shown: conversation(chat),
        part.message: parts.note(told, "good"),
    }


def _judged(page: Page, chat: Chat, number: int, place: int, what: str) -> tuple[Chat, str]:
    turn, name = chat.turns[number], chat.labels[place]
    if what == "best" and turn.is_pair:
        everyone = range(len(turn.columns))
        _keep(page, chat, turn, list(everyone), LETTERS[place], place)
        return turn_changed(chat, number, best=place), f"Kept: {name} is preferred, a pair for DPO."
    if what in ("good", "bad"):
        _keep(page, chat, turn, [place], LETTERS[0] if what == "good" else BAD, place)
        thumbs = turn.thumbs | {place: what}
        told = f"Kept: {name}'s answer is {what}, a single answer for KTO."
        return turn_changed(chat, number, thumbs=thumbs), told
    raise UserError("These answers are no pair: they were not asked the same.")


def _keep(page: Page, chat: Chat, turn: Turn, places: list[int], verdict: str, place: int) -> None:
    add_vote(
        page.runs,
        run=chat.run,
        prompt=turn.asked[place],
        shown=vote_columns(turn, places),
        sampling={},
        verdict=verdict,
        blind=False,
    )


# --- editing --------------------------------------------------------------------------------------


def _connect_editing(page: Page, tab: CompareTab) -> None:
    part = tab.chat

    def save(chat: Chat, place: int | None, words: str) -> Any:
        if place is None or not chat.turns or not chat.turns[-1].whole:
            return gr.skip()
        try:
            chat = edited(chat, place, words or "")
        except UserError as error:
            return {part.message: parts.note(error, "bad")}
        told = "The answer has your words now; prefer it to make it a pair."
        return {
            part.chat: chat,
            part.shown: conversation(chat),
            part.message: parts.note(told),
            part.edit: gr.Column(visible=False),
        }

    outputs = [part.chat, part.shown, part.message, part.edit]
    part.save.click(save, [part.chat, part.editing, part.words], outputs, **parts.QUIET)
    part.leave.click(lambda: gr.Column(visible=False), None, part.edit, **parts.QUIET)


# --- what is shown --------------------------------------------------------------------------------


def _shown(tab: CompareTab, chat: Chat, words: str) -> Updates:
    part = tab.chat
    message = parts.note(words) if words else ""
    whole = chat.turns[-1].whole
    return {part.chat: chat, part.message: message, part.shown: conversation(chat, busy=not whole)}


def _busy(tab: CompareTab, busy: bool) -> Updates:
    part = tab.chat
    return {
        part.send: gr.Button(interactive=not busy),
        part.again: gr.Button(interactive=not busy),
        part.stop: gr.Button(interactive=busy),
    }


def _stopped(tab: CompareTab, chat: Chat) -> Updates:
    """What was said so far stands, broken off: it can be regenerated."""
    return {tab.chat.message: "", tab.chat.shown: conversation(chat)} | _busy(tab, False)
