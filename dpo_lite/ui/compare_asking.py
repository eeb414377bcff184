"""The Compare tab at work: columns that grow in lockstep, what is shown of them, blind votes."""

from __future__ import annotations

import contextlib
import random
import time
from typing import TYPE_CHECKING, Any

import gradio as gr

from dpo_lite.compare.columns import POLICY, REFERENCE, columns
from dpo_lite.compare.votes import BAD, TIE, add_vote, read_votes, win_rates
from dpo_lite.errors import UserError
from dpo_lite.files import safe_name
from dpo_lite.runs.folder import named_run
from dpo_lite.ui import parts
from dpo_lite.ui.answers import answers, win_table

if TYPE_CHECKING:
    from dpo_lite.ui.shared import Page

FRAME = 0.08  # seconds between two looks at a growing answer
MOST_COLUMNS = 4
OPTIONS = ("temperature", "top_p", "top_k", "repetition_penalty", "max_new_tokens", "seed")
DEFAULTS = {
    "temperature": 0.0,
    "top_p": 1.0,
    "top_k": 0,
    "repetition_penalty": 1.0,
    "max_new_tokens": 64,
    "seed": 0,
}
NOTHING = {"columns": [], "prompt": "", "run": "", "blind": False, "verdict": None, "sampling": {}}
SAME = "All say the same here: take another prompt, or a higher temperature."


def generate(page: Page, run, beside, blind, prompt, *rest):
    """Stream the columns; a click on Stop or a closed page closes this, and with it the task."""
    *numbers, tokens, differences = rest
    sampling = _numbers(numbers)
    try:
        names = [name for name in [*(beside or []), POLICY] if name]
        found = _columns(page, run, names, blind, prompt)
    except UserError as error:
        yield _now(parts.note(error, "bad"), None)
        return
    if blind:
        random.shuffle(found)
    state = {
        **NOTHING,
        "columns": [{"label": c.label, "text": ""} for c in found],
        "prompt": prompt,
        "run": run,
        "blind": blind,
        "sampling": sampling,
    }
    view = (tokens, differences)
    drawn = 0.0
    yield _now(parts.note("asking the worker"), state, *view, busy=True)
    labels = [c.label for c in found]
    asked = page.worker.run("generate", run=run, columns=labels, prompt=prompt, sampling=sampling)
    with contextlib.closing(asked) as events:
        for event in events:
            if event["event"] == "token":
                for column, text in zip(state["columns"], event["texts"], strict=True):
                    column["text"] = text
                if time.monotonic() - drawn > FRAME:
                    drawn = time.monotonic()
                    yield _growing("", state)
            elif event["event"] == "result":
                state["columns"] = event["result"]
                same = len(found) > 1 and len({c["text"] for c in event["result"]}) == 1
                yield _now(parts.note(SAME) if same else "", state, *view)
            elif event["event"] == "error":
                yield _now(parts.note(event["text"], "bad"), state, *view)
            elif event.get("text") != "generating":
                told = f"{event['text']} … {event.get('seconds', 0):.0f} s"
                yield _growing(parts.note(told), state)


def _columns(page: Page, run, names, blind, prompt) -> list[Any]:
    """The columns, checked here already, before anything is loaded."""
    if not run:
        raise UserError("Choose a run first.")
    if not (prompt or "").strip():
        raise UserError("Type a prompt, or page to one of the run's own.")
    for name in names:
        safe_name(name)  # no path reaches the disk from here
    found = columns(named_run(run, page.runs), names, page.runs)
    if blind and len({c.fingerprint for c in found}) < 2:
        raise UserError("A blind vote needs two different models: add one under Beside it.")
    return found


def _numbers(values) -> dict[str, Any]:
    """Sampling as JSON; an emptied field takes its default."""
    given = dict(zip(OPTIONS, values, strict=True))
    return {
        key: type(default)(given[key] if given[key] is not None else default)
        for key, default in DEFAULTS.items()
    }


def _growing(told: str, state) -> tuple[Any, ...]:
    """The outputs while answers grow: one that comes late must not undo what Stop did."""
    return (told, show(state, False, False), state, *[gr.skip()] * (MOST_COLUMNS + 5))


def _now(told: str, state, *view, busy: bool = False) -> tuple[Any, ...]:
    """The outputs at the start and at the end of generating."""
    done = bool(state) and not busy and all("tokens" in c for c in state["columns"])
    votable = done and state["blind"] and state["verdict"] is None
    count = len(state["columns"]) if state else 2
    return (
        told,
        show(state, *view) if state else gr.skip(),
        state if state is not None else gr.skip(),
        gr.Row(visible=votable),
        *(gr.Button(visible=place < count) for place in range(MOST_COLUMNS)),
        gr.Button(),
        gr.Button("Both bad" if count == 2 else "All bad"),
        gr.Button(interactive=not busy),
        gr.Button(interactive=busy),
    )


def show(state, tokens: bool, differences: bool) -> str:
    if not state["columns"]:
        return ""
    hidden = state["blind"] and state["verdict"] is None
    return answers(
        state["columns"],
        hidden=hidden,
        tokens=tokens,
        differences=differences,
        best=state["verdict"],
    )


def vote(page: Page, verdict: str, state, tokens: bool, differences: bool):
    """Keep a vote and show who was who."""
    if not state["columns"] or state["verdict"] is not None:
        return [gr.skip()] * 5
    add_vote(
        page.runs,
        run=state["run"],
        prompt=state["prompt"],
        shown=[
            {"label": c["label"], "fingerprint": c["fingerprint"], "answer": c["text"]}
            for c in state["columns"]
        ],
        sampling=state["sampling"],
        verdict=verdict,
        blind=True,
    )
    state = state | {"verdict": verdict}
    words = {TIE: "a tie", BAD: "none is any good"}.get(verdict, f"{verdict} is better")
    return (
        parts.note(f"Your vote is kept: {words}. Now the names are shown.", "good"),
        show(state, tokens, differences),
        state,
        gr.Row(visible=False),
        win_table(*win_rates(read_votes(page.runs))),
    )


def command(page: Page, run, beside, blind, prompt, *numbers) -> str:
    """The same from a terminal."""
    if not run or not prompt:
        return ""
    beside = beside or []
    words = ["dpo-lite", "compare", run, "--prompt", prompt]
    words += [] if REFERENCE in beside else ["--no-reference"]
    for name in beside:
        words += ["--with", name] if name != REFERENCE else []
    words += ["--blind"] if blind else []
    for key, value in _numbers(numbers).items():
        if value != DEFAULTS[key]:
            words += [f"--{key.replace('_', '-')}", f"{value:g}"]
    return parts.command([*words, *parts.runs_option(page.runs)])
