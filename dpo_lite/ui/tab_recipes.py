"""The Recipes tab: pick one, change it as a form or as YAML, look before, launch.

The server keeps each browser tab's draft and makes changes to it one after the other, so that two
quick ones never overwrite each other; the browser keeps a copy, so that a reload loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from dpo_lite.errors import UserError
from dpo_lite.memory.cards import CARDS
from dpo_lite.recipe import library
from dpo_lite.runs.processes import launch
from dpo_lite.ui import parts
from dpo_lite.ui import recipe_views as views
from dpo_lite.ui.draft import Draft, opened, restored, with_data
from dpo_lite.ui.form import OF_TASK, TITLES, Checked, FormField, change, check_text, fields, plain

if TYPE_CHECKING:
    from dpo_lite.ui.shared import Page

HERE = "this machine"
OFFERED = [HERE, "6GB", "8GB", "12GB", "16GB", "24GB", *CARDS]
FIELDS = fields()
PICK = """element.addEventListener("click", (event) => {
  const card = event.target.closest("[data-recipe]");
  if (card) trigger("click", {recipe: card.dataset.recipe});
});"""
# Changes are made one after the other, in the order in which they were asked for.
EDIT = {
    **parts.QUIET,
    "trigger_mode": "always_last",
    "concurrency_id": "recipes-edit",
    "concurrency_limit": 1,
}
ASK = {**parts.QUIET, "concurrency_limit": 4}

Updates = dict[Any, Any]


@dataclass
class Desk:
    """The tab's components, as they are laid out."""

    page: Page
    cards: gr.HTML = None
    draft: gr.State = None
    kept: gr.BrowserState = None
    launch: gr.Button = None
    command: gr.HTML = None
    outcome: gr.HTML = None
    yaml: gr.Code = None
    yaml_fault: gr.HTML = None
    more: gr.Accordion = None
    difference: gr.HTML = None
    save_name: gr.Textbox = None
    inputs: dict[str, Any] = field(default_factory=dict)
    folds: list[tuple[str, gr.Column]] = field(default_factory=list)  # of a task: section, its part

    def everything(self) -> list[Any]:
        """What a change of the draft may touch."""
        parts = [part for _, part in self.folds]
        shown = [self.yaml, self.yaml_fault, self.more, self.launch, self.command, self.difference]
        return [
            self.draft,
            self.kept,
            self.cards,
            self.save_name,
            *shown,
            *self.inputs.values(),
            *parts,
        ]


def build(page: Page) -> None:
    desk = Desk(page)
    desk.draft = gr.State(None)
    desk.kept = gr.BrowserState(None, storage_key="dl-recipe", secret="dpo-lite")
    desk.cards = gr.HTML(elem_id="recipes-cards", js_on_load=PICK)
    with gr.Row(elem_id="recipes-actions"):
        check = gr.Button("Check", elem_id="recipes-check", size="md", min_width=110, scale=1)
        card = gr.Dropdown(
            OFFERED,
            value=HERE,
            container=False,
            allow_custom_value=True,
            elem_id="recipes-card",
            min_width=130,
            scale=1,
        )
        plan = gr.Button(
            "Plan for this card", elem_id="recipes-plan", size="md", min_width=140, scale=1
        )
        desk.launch = gr.Button(
            "Launch", variant="primary", elem_id="recipes-launch", size="md", min_width=140, scale=2
        )
    desk.command = gr.HTML(elem_id="recipes-command", min_height=38)
    desk.outcome = gr.HTML(elem_id="recipes-outcome")
    stop = gr.Button("Cancel", elem_id="recipes-cancel", visible=False, size="sm")
    with gr.Row(equal_height=False):
        with gr.Column(min_width=330, elem_id="recipes-form"):
            _lay_out_form(desk)
        with gr.Column(min_width=330):
            save = _lay_out_text(desk)
    _connect_edits(desk)
    _connect_actions(desk, check, plan, card, stop)
    _connect_saving(desk, *save)


# --- layout ---------------------------------------------------------------------------------------


def _lay_out_form(desk: Desk) -> None:
    for section, title in TITLES.items():
        own = [f for f in FIELDS if f.section == section and f.common]
        _lay_out_part(desk, section, title, own)
    with gr.Accordion("All other keys", open=False, elem_id="recipes-more") as desk.more:
        for section, title in TITLES.items():
            own = [f for f in FIELDS if f.section == section and not f.common]
            _lay_out_part(desk, section, title, own)


def _lay_out_part(desk: Desk, section: str, title: str, own: list[FormField]) -> None:
    """A section's fields; those that are of use to some tasks alone come and go with the task."""
    if section not in OF_TASK:
        _lay_out_section(desk, title, own)
        return
    with gr.Column(visible=False, elem_classes=["dl-part"]) as part:
        _lay_out_section(desk, title, own)
    desk.folds.append((section, part))


def _lay_out_section(desk: Desk, title: str, own: list[FormField]) -> None:
    """A title and its fields; short ones stand side by side."""
    if not own:
        return
    gr.HTML(f'<h3 class="dl-title">{title}</h3>')
    row: list[FormField] = []
    for form_field in [*own, None]:
        short = form_field is not None and form_field.kind in ("number", "choice")
        if short:
            row.append(form_field)
        if row and (not short or len(row) == 2):
            with gr.Row(equal_height=False):
                for each in row:
                    desk.inputs[each.key] = _component(each)
            row = []
        if form_field is not None and not short:
            desk.inputs[form_field.key] = _component(form_field)


def _component(form_field: FormField) -> gr.Textbox | gr.Dropdown:
    how = {
        "label": form_field.label,
        "info": form_field.help,
        "elem_id": element_id(form_field.key),
        "elem_classes": ["dl-field"],
        "min_width": 150,
    }
    if form_field.kind == "choice":
        return gr.Dropdown([name for name, _ in form_field.choices], filterable=False, **how)
    lines = {"lines": {"lines": 3, "max_lines": 8}, "yaml": {"max_lines": 6}}
    return gr.Textbox(**lines.get(form_field.kind, {"max_lines": 1}), **how)


def element_id(key: str) -> str:
    return f"recipes-{key.replace('.', '-')}"


def _lay_out_text(desk: Desk) -> tuple[Any, ...]:
    gr.HTML('<h3 class="dl-title">As YAML</h3>')
    desk.yaml_fault = gr.HTML(elem_id="recipes-yaml-fault")
    desk.yaml = gr.Code(
        language="yaml",
        interactive=True,
        show_label=False,
        elem_id="recipes-yaml",
        lines=20,
        max_lines=44,
        wrap_lines=True,
    )
    gr.HTML('<h3 class="dl-title">What is changed</h3>')
    desk.difference = gr.HTML(elem_id="recipes-diff", min_height=28)
    gr.HTML('<h3 class="dl-title">Keep it as your own</h3>')
    with gr.Row(equal_height=False):
        desk.save_name = gr.Textbox(
            container=False, elem_id="recipes-save-name", min_width=150, scale=3, max_lines=1
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
    return save, overwrite, note


# --- editing --------------------------------------------------------------------------------------


def _connect_edits(desk: Desk) -> None:
    page = desk.page
    outputs = desk.everything()

    def picked(event: gr.EventData) -> Updates:
        return shown(desk, None, opened(event.recipe, page.recipes), cards=True)

    def typed_yaml(draft: Draft, text: str) -> Updates:
        return shown(desk, draft, Draft(draft.picked, text, draft.folder), yaml=False)

    def arrived(kept: Any) -> Updates:
        return shown(desk, None, restored(kept, page.recipes), cards=True)

    desk.cards.click(picked, None, outputs, **EDIT)
    desk.yaml.input(typed_yaml, [desk.draft, desk.yaml], outputs, **EDIT)
    for form_field in FIELDS:
        component = desk.inputs[form_field.key]
        inputs = [desk.draft, component]
        component.input(_typed(desk, form_field), inputs, outputs, **EDIT)
    gr.context.Context.root_block.load(arrived, desk.kept, outputs, **EDIT)
    if page.wanted_data is not None:

        def use_data(draft: Draft, wanted: list[Any]) -> Updates:
            text = with_data(draft.text, wanted[0], wanted[1])
            return shown(desk, draft, Draft(draft.picked, text, draft.folder))

        page.wanted_data.change(use_data, [desk.draft, page.wanted_data], outputs, **EDIT)


def _typed(desk: Desk, form_field: FormField):
    """What happens when a field's text changes: one key of the YAML follows."""

    def edit(draft: Draft, text: str) -> Updates:
        try:
            changed = change(draft.text, form_field, text or "")
        except UserError as error:
            return {desk.yaml_fault: parts.note(f"The form waits: {error}", "bad")}
        new = Draft(draft.picked, changed, draft.folder)
        return shown(desk, draft, new, typing=form_field.key)

    return edit


def shown(
    desk: Desk,
    old: Draft | None,
    new: Draft,
    typing: str | None = None,
    yaml: bool = True,
    cards: bool = False,
) -> Updates:
    """The updates that bring the screen from one draft to another.

    ``typing`` is the key of the field in which somebody writes, which is therefore left alone;
    ``yaml``: whether the text is to be written too; ``cards``: whether they are drawn anew.
    """
    before, now = check_text(old.text) if old else None, check_text(new.text)
    updates: Updates = {
        desk.draft: new,
        desk.kept: {"picked": new.picked, "text": new.text},
        desk.yaml_fault: parts.note(now.faults[""], "bad") if now.faults.get("") else "",
        desk.difference: _difference(new, now),
        **_launching(desk, new, now),
        **_fields(desk, before, now, typing),
    }
    if yaml:
        updates[desk.yaml] = new.text
    if cards:
        updates[desk.cards] = views.cards(library.own(new.folder), library.shipped(), new.picked)
        own = new.picked.startswith("own:")
        updates[desk.save_name] = new.name if own else library.free_name(new.name, new.folder)
    return updates


def _fields(desk: Desk, before: Checked | None, now: Checked, typing: str | None) -> Updates:
    """The fields whose text or message changed. A text that is no YAML leaves them as they are."""
    updates: Updates = {}
    if now.values is None:
        return updates
    known = before is not None and before.values is not None
    for section, part in desk.folds:
        if not known or before.shows(section) != now.shows(section):
            updates[part] = gr.update(visible=now.shows(section))
    for form_field in FIELDS:
        key, change = form_field.key, {}
        text = form_field.shown(now.value(key))
        if key != typing and not (known and form_field.shown(before.value(key)) == text):
            offered = [name for name, _ in form_field.choices]
            change["value"] = text if form_field.kind != "choice" or text in offered else None
        fault = now.faults.get(key)
        if not known or before.faults.get(key) != fault:
            change["info"] = plain(fault) if fault else form_field.help
            change["elem_classes"] = ["dl-field", "dl-wrong"] if fault else ["dl-field"]
        if change:
            updates[desk.inputs[key]] = gr.update(**change)
    folded = [f for f in FIELDS if not f.common and f.key in now.faults]
    if folded:
        updates[desk.more] = gr.update(open=True)
    return updates


def _difference(draft: Draft, now: Checked) -> str:
    if now.recipe is None:
        return '<p class="dl-muted dl-small">Told as soon as the recipe is free of faults.</p>'
    rows = draft.differences(now.recipe)
    if rows is None:
        return '<p class="dl-muted dl-small">This recipe comes from none that ships.</p>'
    return views.differences(draft.origin, rows)


def _launching(desk: Desk, draft: Draft, now: Checked) -> Updates:
    """The launch button and its command line, or the reason why there is none."""
    try:
        if now.recipe is None:
            raise UserError(now.reason)
        folder = desk.page.runs
        other = [] if str(folder) == now.recipe.run.folder else [f"run.folder={folder}"]
        words = ["dpo-lite", "train", *draft.words(now.recipe), *other, "--detach"]
        line = parts.command(words)
    except UserError as error:
        reason = parts.note(f"Not ready: {error}", "warn")
        return {desk.launch: gr.update(interactive=False), desk.command: reason}
    return {desk.launch: gr.update(interactive=True), desk.command: line}


# --- looking and launching ------------------------------------------------------------------------


def _connect_actions(desk: Desk, check: Any, plan: Any, card: Any, stop: Any) -> None:
    page = desk.page

    def run_check(draft: Draft) -> Iterator[tuple[str, Any]]:
        yield from _ask(page, draft, "check", "Checking", [], views.checked)

    def run_plan(draft: Draft, chosen: str) -> Iterator[tuple[str, Any]]:
        gpu = None if chosen in (HERE, "", None) else chosen
        flags = ["--gpu", gpu] if gpu else []

        def view(result: dict, line: list[str]) -> str:
            return views.planned(result, gpu or HERE, line)

        yield from _ask(page, draft, "plan", "Planning", flags, view, gpu=gpu)

    def clear() -> tuple[str, Any]:
        return "", gr.update(visible=False)

    outputs = [desk.outcome, stop]
    events = [
        check.click(run_check, desk.draft, outputs, **ASK),
        plan.click(run_plan, [desk.draft, card], outputs, **ASK),
    ]
    stop.click(clear, None, outputs, cancels=events, show_progress="hidden")
    desk.launch.click(
        lambda draft: _launch(page, draft),
        desk.draft,
        [desk.outcome, page.tabs, page.selected],
        trigger_mode="once",
        **ASK,
    )


def _ask(
    page: Page, draft: Draft, task: str, title: str, flags: list[str], view: Any, **more: Any
) -> Iterator[tuple[str, Any]]:
    """Do a task of the worker and show how far it is, and then what it found."""
    line = ["dpo-lite", task, draft.name, *flags]
    try:
        now = check_text(draft.text)
        if now.recipe is None:
            raise UserError(f"Not ready: {now.reason}")
        line = ["dpo-lite", task, *draft.words(now.recipe), *flags]
        for event in page.worker.run(task, recipe=draft.text, **more):
            if event["event"] == "result":
                yield view(event["result"], line), gr.update(visible=False)
                return
            if event["event"] == "error":
                raise UserError(event["text"])
            html = views.working(title, event.get("text", ""), event.get("seconds"))
            yield html, gr.update(visible=True)
    except UserError as error:
        yield views.failed(str(error), line), gr.update(visible=False)


def _launch(page: Page, draft: Draft) -> tuple[Any, Any, Any]:
    """Start the run on its own and show it in the Runs tab."""
    try:
        now = check_text(draft.text)
        if now.recipe is None:
            raise UserError(now.reason)
        run = launch(now.recipe, draft.name, page.runs)
    except UserError as error:
        return parts.note(error, "bad"), gr.skip(), gr.skip()
    return "", gr.Tabs(selected="runs"), [run.name]


# --- one's own ------------------------------------------------------------------------------------


def _connect_saving(desk: Desk, save: gr.Button, overwrite: gr.Button, note: gr.HTML) -> None:
    outputs = [*desk.everything(), note, overwrite]

    def keep(force: bool):
        def saved(draft: Draft, name: str) -> Updates:
            origin = draft.origin
            text = library.with_origin(draft.text, origin) if origin else draft.text
            mine = draft.picked == f"own:{name.strip()}"
            try:
                path = library.save_own(text, name, draft.folder, overwrite=force or mine)
            except UserError as error:
                taken = str(error).endswith("choose another name.") and "exists" in str(error)
                return {note: parts.note(error, "warn"), overwrite: gr.update(visible=taken)}
            new = Draft(f"own:{path.stem}", text, draft.folder)
            told = parts.note(f"Saved as {path}.", "good") + _copy_line(draft, path, force)
            return {
                **shown(desk, draft, new, cards=True),
                note: told,
                overwrite: gr.update(visible=False),
            }

        return saved

    inputs = [desk.draft, desk.save_name]
    save.click(keep(False), inputs, outputs, **EDIT)
    overwrite.click(keep(True), inputs, outputs, **EDIT)


def _copy_line(draft: Draft, path: Path, force: bool) -> str:
    """The command that saves the same; none for a text with faults, or one saved in its place."""
    recipe = check_text(draft.text).recipe
    if recipe is None or draft.picked == f"own:{path.stem}":
        return ""
    try:
        word, *overrides = draft.words(recipe)
    except UserError:
        return ""
    name = path.stem if path.parent == library.OWN_FOLDER else str(path)
    flag = ["--force"] if force else []
    return parts.command(["dpo-lite", "recipes", "cp", word, name, *overrides, *flag])
