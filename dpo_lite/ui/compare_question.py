"""The Compare tab's choice of a run: what can stand beside it, and the prompts it was asked."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from dpo_lite.compare.columns import REFERENCE, columns, prompts_of
from dpo_lite.errors import UserError
from dpo_lite.model.adapter_files import CONFIG, WEIGHTS, is_reward
from dpo_lite.runs.folder import Run, named_run, run_names
from dpo_lite.ui import parts
from dpo_lite.ui.compare_layout import CompareTab
from dpo_lite.ui.shared import Page

# Decided in the browser at the moment it is put there: what was typed or paged to meanwhile stays.
OFFER = """(offered, typed, filled) =>
  typed === filled || typed === "" ? [offered, offered] : [typed, filled]"""
# Where the run was chosen before anybody looked here, the browser knew no prompt yet to offer.
OFFER_FIRST = """(offered, typed, filled) =>
  typed === "" && filled === "" ? [offered, offered] : [typed, filled]"""


def connect_question(page: Page, tab: CompareTab) -> None:
    question = tab.question

    def clicked_in_table(selected: list[str] | None) -> Any:
        names = answering(page.runs)
        if not selected or selected[0] not in names:
            return gr.skip()
        return gr.Dropdown(choices=names, value=selected[0])  # it may be named anew just now

    def chose_run(name: str | None) -> tuple[Any, Any]:
        return _of_run(page, name)

    page.selected.change(clicked_in_table, page.selected, question.run, **parts.QUIET)
    page.wanted_run.change(
        lambda wanted: clicked_in_table(wanted[:1]), page.wanted_run, question.run, **parts.QUIET
    )
    question.run.change(
        chose_run, question.run, [question.beside, question.offered], **parts.QUIET
    ).then(*offering(tab), js=OFFER, **parts.QUIET)
    for button, step in ((question.back, -1), (question.forth, 1)):
        button.click(
            lambda name, prompt, step=step: _turn(page, name, prompt, step),
            [question.run, question.prompt],
            [question.prompt, question.position],
            **parts.QUIET,
        )
    gr.on(
        [question.run.change, question.prompt.change],
        lambda name, prompt: _position(page, name, prompt),
        [question.run, question.prompt],
        question.position,
        trigger_mode="always_last",
        **parts.QUIET,
    )


def offering(tab: CompareTab) -> tuple[None, list[Any], list[Any]]:
    """Function, inputs and outputs of the events that ``OFFER`` and ``OFFER_FIRST`` are for."""
    question = tab.question
    fields = [question.prompt, question.filled]
    return None, [question.offered, *fields], fields


def answering(folder: Path, among: Iterable[str] | None = None) -> list[str]:
    """Names of the runs whose adapter can answer, newest first; ``among`` these, if given."""
    names = run_names(folder) if among is None else among
    return [name for name in names if _answers(f"{folder}/{name}/adapter")]


def _answers(adapter: str) -> bool:
    """Whether there is an adapter, and no reward model; one that did not change is not read."""
    try:
        os.stat(f"{adapter}/{WEIGHTS}")
        facts = os.stat(f"{adapter}/{CONFIG}")
        return _policy(adapter, facts.st_mtime_ns, facts.st_size, facts.st_ino)
    except (OSError, UserError):  # gone between two looks, or damaged
        return False


@lru_cache(maxsize=10_000)
def _policy(adapter: str, *version: int) -> bool:
    return not is_reward(Path(adapter))


def _of_run(page: Page, name: str | None) -> tuple[Any, Any]:
    """Another run was chosen: what can stand beside it, and its first prompt."""
    if not name:
        return gr.skip(), gr.skip()
    run = named_run(name, page.runs)
    others = [other for other in answering(page.runs) if _fits_beside(page, run, other)]
    beside = gr.Dropdown(choices=[REFERENCE, *others], value=[REFERENCE])
    return beside, next(iter(prompts_of(run)), "")


def _fits_beside(page: Page, run: Run, other: str) -> bool:
    """Whether it is another run, of the same base."""
    with contextlib.suppress(UserError):
        return other != run.name and bool(columns(run, [other], page.runs))
    return False


def _turn(page: Page, name: str | None, prompt: str, step: int) -> tuple[Any, Any]:
    """The next of the prompts that the run was asked before and after its training."""
    prompts = prompts_of(named_run(name, page.runs)) if name else []
    if not prompts:
        nothing = '<p class="dl-muted dl-small">this run was asked nothing</p>'
        return gr.skip(), nothing
    here = prompts.index(prompt) if prompt in prompts else (-1 if step > 0 else 0)
    new = prompts[(here + step) % len(prompts)]
    return new, gr.skip()


def _position(page: Page, name: str | None, prompt: str) -> str:
    prompts = prompts_of(named_run(name, page.runs)) if name else []
    if prompt not in prompts:
        return ""
    position = f"prompt {prompts.index(prompt) + 1} of {len(prompts)} of this run"
    return f'<p class="dl-muted dl-small">{position}</p>'
