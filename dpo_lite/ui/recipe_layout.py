"""The Recipes tab as it is laid out: cards, actions, then the form beside the YAML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from dpo_lite.memory.cards import CARDS
from dpo_lite.ui.column_menus import ColumnMenus, lay_out_menus
from dpo_lite.ui.form_layout import FIRST_TEXT, Form, lay_out_form
from dpo_lite.ui.start import THIS_MACHINE
from dpo_lite.ui.sweep_layout import SweepPart, lay_out_sweep
from dpo_lite.ui.uploads import ACCEPTED

OFFERED_CARDS = [THIS_MACHINE, "6GB", "8GB", "12GB", "16GB", "24GB", *CARDS]
# A click on a recipe's card tells its name.
PICK_SCRIPT = """element.addEventListener("click", (event) => {
  const card = event.target.closest("[data-recipe]");
  if (card) trigger("click", {recipe: card.dataset.recipe});
});"""


@dataclass(frozen=True)
class Start:
    """Three questions: which model, which data, which card; and the data's first row as read.

    ``audit`` opens the audit of its labels in Data, ``repair`` gets past a fault of the file;
    ``advice`` says what the recipe still needs, and
    ``needed`` does it.
    """

    model: gr.Dropdown
    data: gr.Dropdown
    upload: gr.UploadButton
    card: gr.Dropdown
    seen: gr.HTML
    audit: gr.Button
    repair: gr.Button
    menus: ColumnMenus
    advice: gr.HTML
    needed: gr.Button


@dataclass(frozen=True)
class Actions:
    """What can be done with the recipe, and what came of it.

    ``summary`` says what Launch will train. ``shown`` is filled by the browser at a click: the
    form's texts as they stand there (see ``Click``).
    """

    check: gr.Button
    plan: gr.Button
    launch: gr.Button
    back: gr.Button
    shown: gr.Textbox
    summary: gr.HTML
    command: gr.HTML
    outcome: gr.HTML
    cancel: gr.Button


@dataclass(frozen=True)
class Text:
    """The recipe as YAML, what is wrong with it as a whole, and how it differs from its origin."""

    fault: gr.HTML
    yaml: gr.Code
    difference: gr.HTML


@dataclass(frozen=True)
class Saving:
    name: gr.Textbox
    save: gr.Button
    overwrite: gr.Button
    note: gr.HTML


@dataclass(frozen=True)
class RecipesTab:
    """``draft`` is a ``Draft``; ``browser_copy`` is what the browser remembers of it, and ``kept``
    the draft that it remembered when the page was opened. ``early`` is pressed by the page's script
    where something was typed before Gradio listened."""

    draft: gr.State
    browser_copy: gr.BrowserState
    kept: gr.State
    early: gr.Button
    start: Start
    cards: gr.HTML
    actions: Actions
    sweep: SweepPart
    form: Form
    text: Text
    saving: Saving

    def shows_draft(self) -> list[Any]:
        """All that a change of the draft may touch."""
        return [
            self.draft,
            self.browser_copy,
            self.kept,
            self.cards,
            self.saving.name,
            self.text.yaml,
            self.text.fault,
            self.form.more,
            self.start.model,
            self.start.data,
            self.start.card,
            self.start.seen,
            self.start.audit,
            self.start.repair,
            self.start.advice,
            self.start.needed,
            *self.start.menus.shown(),
            self.actions.back,
            self.actions.summary,
            self.actions.command,
            self.text.difference,
            *self.form.inputs.values(),
            *(column for _, column in self.form.sections),
        ]

    def at_click(self) -> list[Any]:
        """What a button is given that acts on what the screen shows, with ``AT_CLICK`` as its
        script; ``recipe_draft.as_shown`` makes a draft of the first three."""
        return [self.browser_copy, self.text.yaml, self.actions.shown]


def lay_out() -> RecipesTab:
    draft = gr.State(None)
    browser_copy = gr.BrowserState(None, storage_key="dl-recipe", secret="dpo-lite")
    kept = gr.State(None)
    early = gr.Button(visible="hidden", elem_id="recipes-early")
    start = _lay_out_start()
    actions = _lay_out_actions()
    sweep = lay_out_sweep()
    cards = gr.HTML(elem_id="recipes-cards", js_on_load=PICK_SCRIPT)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=330, elem_id="recipes-form"):
            form = lay_out_form()
        with gr.Column(min_width=330):
            text = _lay_out_text()
            saving = _lay_out_saving()
    return RecipesTab(
        draft, browser_copy, kept, early, start, cards, actions, sweep, form, text, saving
    )


# At a click the browser puts the form's texts as they stand there into the third place.
AT_CLICK = "(copy, yaml, shown, ...rest) => [copy, yaml, window.dlShown(), ...rest]"


def _lay_out_start() -> Start:
    look = {"elem_classes": ["dl-field"], "allow_custom_value": True, "min_width": 200}
    with gr.Column(elem_id="recipes-start", elem_classes=["dl-start"]):
        with gr.Row(equal_height=False):
            model = gr.Dropdown(
                [],
                label="Which model?",
                info="One of these, or any model of the Hub as owner/name, or a folder.",
                elem_id="recipes-start-model",
                **look,
            )
            with gr.Column(min_width=220):
                data = gr.Dropdown(
                    [],
                    label="Which data?",
                    info="Drop a file anywhere here, or name a path or a data set of the Hub.",
                    elem_id="recipes-start-data",
                    **look,
                )
                upload = gr.UploadButton(
                    "Choose a file",
                    file_types=ACCEPTED,
                    elem_id="recipes-start-file",
                    size="sm",
                )
            card = gr.Dropdown(
                OFFERED_CARDS,
                value=THIS_MACHINE,
                label="Which card?",
                info="Where it will be trained: models and recipes are sorted by what fits.",
                elem_id="recipes-card",
                **look,
            )
        menus = lay_out_menus("recipes")
        seen = gr.HTML(elem_id="recipes-seen")
        with gr.Row(elem_classes="dl-buttons"):
            small = {"size": "sm", "scale": 0, "min_width": 170}
            audit = gr.Button("Audit its labels", visible=False, elem_id="recipes-audit", **small)
        repair = gr.Button(visible=False, elem_id="recipes-repair", size="sm")
        advice = gr.HTML(elem_id="recipes-advice")
        needed = gr.Button(visible=False, elem_id="recipes-needed", size="sm")
    return Start(model, data, upload, card, seen, audit, repair, menus, advice, needed)


def _lay_out_actions() -> Actions:
    with gr.Row(elem_id="recipes-actions"):
        summary = gr.HTML(elem_id="recipes-summary", min_height=42)
        check = gr.Button("Check", elem_id="recipes-check", size="md", min_width=90, scale=0)
        plan = gr.Button(
            "Plan for this card", elem_id="recipes-plan", size="md", min_width=170, scale=0
        )
        launch = gr.Button(
            "Launch", variant="primary", elem_id="recipes-launch", size="md", min_width=140, scale=0
        )
    back = gr.Button(visible=False, elem_id="recipes-back", size="sm")
    shown = gr.Textbox(visible=False)
    outcome = gr.HTML(elem_id="recipes-outcome")
    cancel = gr.Button("Cancel", elem_id="recipes-cancel", visible=False, size="sm")
    command = gr.HTML(elem_id="recipes-command", min_height=38)
    return Actions(check, plan, launch, back, shown, summary, command, outcome, cancel)


def _lay_out_text() -> Text:
    gr.HTML('<h2 class="dl-title">As YAML</h2>')
    fault = gr.HTML(elem_id="recipes-yaml-fault")
    yaml = gr.Code(
        FIRST_TEXT,
        language="yaml",
        interactive=True,
        label="The recipe as YAML",
        show_label=False,
        elem_id="recipes-yaml",
        lines=20,
        max_lines=44,
        wrap_lines=True,
    )
    gr.HTML('<h2 class="dl-title">What is changed</h2>')
    difference = gr.HTML(elem_id="recipes-diff", min_height=28)
    return Text(fault, yaml, difference)


def _lay_out_saving() -> Saving:
    gr.HTML('<h2 class="dl-title">Keep it as your own</h2>')
    with gr.Row(equal_height=False):
        name = gr.Textbox(
            label="Name of your recipe",
            show_label=False,
            container=False,
            elem_id="recipes-save-name",
            elem_classes=["dl-field"],
            min_width=150,
            scale=3,
            max_lines=1,
        )
        save = gr.Button("Save", elem_id="recipes-save", size="md", min_width=90, scale=1)
        overwrite = gr.Button(
            "Overwrite",
            elem_id="recipes-overwrite",
            size="md",
            min_width=90,
            scale=1,
            visible=False,
        )
    note = gr.HTML(elem_id="recipes-save-note", min_height=38)
    return Saving(name, save, overwrite, note)
