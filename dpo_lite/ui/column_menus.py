"""Menus that say which column of a file is the prompt, the preferred and the other answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dpo_lite.data.examples import Ranked
from dpo_lite.data.glance import Glance, likely_columns
from dpo_lite.recipe.edit import inline
from dpo_lite.ui.parts import esc, note

NONE = "(none)"
LABELS = {
    "prompt": "What is asked (prompt)",
    "chosen": "The better answer (chosen)",
    "rejected": "The worse answer (rejected)",
}
SHOWN = 400  # characters of a text
MOST_NAMES = 12


@dataclass(frozen=True)
class ColumnMenus:
    """A menu for each of our columns; the row is hidden where there is nothing to say."""

    row: gr.Row
    menus: dict[str, gr.Dropdown]

    def shown(self) -> list[Any]:
        return [self.row, *self.menus.values()]


def lay_out_menus(place: str) -> ColumnMenus:
    with gr.Row(visible=False, equal_height=False, elem_id=f"{place}-columns") as row:
        menus = {
            name: gr.Dropdown(
                [NONE],
                value=NONE,
                label=label,
                allow_custom_value=True,  # the file's own columns come later
                elem_id=f"{place}-column-{name}",
                elem_classes=["dl-field"],
                min_width=150,
            )
            for name, label in LABELS.items()
        }
    return ColumnMenus(row, menus)


def show_menus(shown: ColumnMenus, seen: Glance | None, columns: dict[str, str]) -> dict[Any, Any]:
    """The menus for what was seen: there where the file's own names do not say it all."""
    wanted = seen is not None and bool(seen.columns) and (bool(seen.fault) or bool(columns))
    if not wanted:
        return {shown.row: gr.update(visible=False)}
    choices = [NONE, *seen.columns]
    updates: dict[Any, Any] = {shown.row: gr.update(visible=True)}
    shown_names = columns or likely_columns(seen.columns)  # what is left to say is seen to be so
    for name, menu in shown.menus.items():
        updates[menu] = gr.update(choices=choices, value=shown_names.get(name, NONE))
    return updates


def chosen_columns(texts: Sequence[str | None]) -> dict[str, str]:
    """What the menus say: our names -> the file's, without those that are called so already."""
    pairs = zip(LABELS, texts, strict=True)
    return {ours: theirs for ours, theirs in pairs if theirs and theirs not in (NONE, ours)}


def proposal(seen: Glance) -> dict[str, str]:
    """What the menus begin with where a file's columns say nothing by themselves; empty where
    not all three can be guessed from what they are called, and where they are called as we call
    them, whatever the fault is: then nothing need be said."""
    likely = likely_columns(seen.columns)
    spelled = all(theirs.strip().casefold() == ours for ours, theirs in likely.items())
    if len(likely) < len(LABELS) or spelled:
        return {}
    return {ours: theirs for ours, theirs in likely.items() if ours != theirs}


def columns_key(columns: dict[str, str]) -> list[str]:
    """The override that says the same."""
    return [f"data.columns={inline(columns)}"] if columns else []


def seen_html(seen: Glance | None) -> str:
    """The first row as it is read, or why it cannot be."""
    if seen is None:
        return ""
    if seen.fault and "no known format" in seen.fault:
        names = ", ".join(seen.columns[:MOST_NAMES])
        return note(f"Its columns are called {names}: say above which is what.", "warn")
    if seen.fault:
        return note(seen.fault.removeprefix("data: "), "warn")
    if seen.first is None:
        return ""
    prompt = seen.first.prompt[-1]["content"] if seen.first.prompt else ""
    texts = [("prompt", "", prompt)]
    answers = [answer_text(answer) for answer in _best_first(seen.first)]
    if len(answers) > 1:
        texts += [("chosen", "dl-good", answers[0]), ("rejected", "dl-bad", answers[-1])]
    elif answers:
        texts.append(("answer", "", answers[0]))
    cells = "".join(
        f'<section class="dl-response {kind}"><h2>{name}</h2>'
        f'<div class="dl-text"><mark>{esc(_short(text))}</mark></div></section>'
        for name, kind, text in texts
    )
    return f'<div class="dl-seen">{cells}</div>'


def _best_first(first: Ranked) -> list[Any]:
    if first.scores is None:
        return list(first.responses)
    places = sorted(range(len(first.responses)), key=lambda place: -first.scores[place])
    return [first.responses[place] for place in places]


def answer_text(answer: Any) -> str:
    """An answer's words: of a list of messages the last one's."""
    if isinstance(answer, list) and answer:
        answer = answer[-1]
    if isinstance(answer, dict):
        answer = answer.get("content", "")
    return str(answer)


def _short(text: Any) -> str:
    text = str(text)
    return text if len(text) <= SHOWN else text[:SHOWN] + " …"
