"""A component for every key of the recipe, by section: the form of the Recipes tab."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dpo_lite.recipe import RECIPES_FOLDER, library
from dpo_lite.ui.form import OF_TASK, TITLES, FormField, check_text, fields

FIELDS = fields()
# What the form shows before a browser asks, so that it need not be filled in while one waits.
FIRST_TEXT = (RECIPES_FOLDER / f"{library.FIRST}.yaml").read_text(encoding="utf-8")
AT_FIRST = check_text(FIRST_TEXT)


@dataclass(frozen=True)
class Form:
    """A component for every key; the sections of some tasks alone; the fold of the rarer keys."""

    inputs: dict[str, Any]
    sections: list[tuple[str, gr.Column]]
    more: gr.Accordion


def lay_out_form() -> Form:
    inputs, sections = _lay_out_sections(common=True)
    with gr.Accordion("All other keys", open=False, elem_id="recipes-more") as more:
        rare_inputs, rare_sections = _lay_out_sections(common=False)
    return Form(inputs | rare_inputs, sections + rare_sections, more)


def _lay_out_sections(common: bool) -> tuple[dict[str, Any], list[tuple[str, gr.Column]]]:
    """The fields by key; those that are of use to some tasks alone come and go with the task."""
    inputs: dict[str, Any] = {}
    sections: list[tuple[str, gr.Column]] = []
    for section, title in TITLES.items():
        own = [f for f in FIELDS if f.section == section and f.common == common]
        if section in OF_TASK:
            visible = AT_FIRST.shows(section)
            with gr.Column(visible=visible, elem_classes=["dl-part"]) as column:
                inputs |= _lay_out_section(title, own)
            sections.append((section, column))
        else:
            inputs |= _lay_out_section(title, own)
    return inputs, sections


def _lay_out_section(title: str, own: list[FormField]) -> dict[str, Any]:
    """A title and its fields; two short ones stand side by side."""
    inputs: dict[str, Any] = {}
    if own:
        gr.HTML(f'<h2 class="dl-title">{title}</h2>')
    for short, group in itertools.groupby(own, _is_short):
        neighbours = list(group)
        if not short:
            inputs |= {f.key: _component(f) for f in neighbours}
            continue
        for start in range(0, len(neighbours), 2):
            with gr.Row(equal_height=False):
                inputs |= {f.key: _component(f) for f in neighbours[start : start + 2]}
    return inputs


def _is_short(form_field: FormField) -> bool:
    return form_field.kind in ("number", "choice")


def _component(form_field: FormField) -> gr.Textbox | gr.Dropdown:
    options = {
        "label": form_field.label,
        "info": form_field.help,
        "elem_id": f"recipes-{form_field.key.replace('.', '-')}",
        "elem_classes": ["dl-field"],
        "min_width": 150,
        "visible": AT_FIRST.offers(form_field.key),
    }
    text = form_field.shown(AT_FIRST.value(form_field.key))
    if form_field.kind == "choice":
        writable = {"filterable": form_field.or_sum, "allow_custom_value": form_field.or_sum}
        names = [name for name, _ in form_field.choices]
        return gr.Dropdown(names, value=form_field.shown_choice(text), **writable, **options)
    lines = {"lines": {"lines": 3, "max_lines": 8}, "yaml": {"max_lines": 6}}
    return gr.Textbox(text, **lines.get(form_field.kind, {"max_lines": 1}), **options)
