"""The draft changes, by a card, the form, the YAML or the Data tab, and the screen follows."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr

from dpo_lite.errors import UserError
from dpo_lite.recipe import library
from dpo_lite.recipe.consent import refuse_code
from dpo_lite.ui import parts
from dpo_lite.ui import recipe_views as views
from dpo_lite.ui.form import Checked, FormField, check_text, plain
from dpo_lite.ui.form_layout import FIELDS
from dpo_lite.ui.recipe_draft import (
    START,
    Draft,
    as_shown,
    aside_words,
    browser_copy,
    left_out,
    of_run,
    open_draft,
    put_aside,
    restore_draft,
    take_back,
    with_data,
    with_field,
)
from dpo_lite.ui.recipe_layout import RecipesTab
from dpo_lite.ui.recipe_start import cards as draw_cards
from dpo_lite.ui.recipe_start import connect_start, new_data, offered, show_start, summary
from dpo_lite.ui.shared import Page, Updates
from dpo_lite.ui.start import THIS_MACHINE

# Changes are made one after the other, in the order in which they were asked for.
EDIT = {
    **parts.QUIET,
    "trigger_mode": "always_last",
    "concurrency_id": "recipes-edit",
    "concurrency_limit": 1,
}
# The page's script says whether somebody changed something in the first seconds; where nobody did,
# the recipe holds still until the answer is there.
TOUCHED = "(draft, kept, shown) => [draft, kept, window.dlTouched()]"
RELEASE = "() => window.dlRelease()"
OPENED = "() => window.dlOpened()"
EARLY = "(draft, yaml, shown) => [draft, yaml, window.dlShown()]"


def connect_edits(page: Page, tab: RecipesTab) -> list[Any]:
    """Returns the events in which one of the three first questions is answered."""
    outputs = tab.shows_draft()

    def picked_card(draft: Draft | None, event: gr.EventData) -> Updates:
        new = put_aside(draft, open_draft(event.recipe, page.recipes))
        return show_draft(page, tab, None, new, cards=True)

    def took_back(draft: Draft) -> Updates:
        return show_draft(page, tab, None, take_back(draft), cards=True)

    def typed_yaml(draft: Draft, text: str) -> Updates:
        return show_draft(page, tab, draft, replace(draft, text=text), yaml=False)

    def opened_page(copy: Any) -> Updates:
        """The cards and menus as they are now, over nothing that somebody may be typing; another
        recipe that the browser remembers is taken up in a step of its own."""
        first, kept = open_draft(START, page.recipes), restore_draft(copy, page.recipes)
        return offered(page, tab, first) if kept == first else {tab.kept: kept}

    def took_up(draft: Draft, kept: Draft, touched: str) -> Updates:
        """What the browser remembers takes the quickstart's place. Where somebody was quicker, what
        they did stays, and what was remembered can be taken back."""
        quicker = touched or draft != open_draft(START, page.recipes)
        if not quicker:
            shown = show_draft(page, tab, draft, kept)
            return shown | offered(page, tab, kept) | {tab.start.card: kept.card or THIS_MACHINE}
        new = replace(put_aside(kept, draft), card=draft.card)
        return {
            tab.draft: new,
            tab.browser_copy: browser_copy(new),
            tab.actions.back: gr.update(visible=new.aside is not None, value=aside_words(new)),
            **offered(page, tab, new),
        }

    def typed_early(draft: Draft, yaml: str, shown: str) -> Updates:
        with contextlib.suppress(UserError, ValueError):
            new = as_shown(browser_copy(draft), yaml, json.loads(shown), page.recipes)
            return show_draft(page, tab, draft, new, yaml=new.text.strip() != yaml.strip())
        return {}

    def took_data(draft: Draft, wanted: list[Any]) -> Updates:
        named, overrides, _, *kind = wanted
        if kind == ["run"]:
            new = of_run(page.runs / named, overrides, page.recipes)
            return show_draft(page, tab, draft, put_aside(draft, new))
        if overrides:
            new = replace(draft, text=with_data(draft.text, named, overrides))
        else:
            new = new_data(draft, named)
        return show_draft(page, tab, draft, new)

    tab.cards.click(picked_card, tab.draft, outputs, **EDIT)
    tab.actions.back.click(took_back, tab.draft, outputs, **EDIT)
    tab.text.yaml.input(typed_yaml, [tab.draft, tab.text.yaml], outputs, **EDIT)
    for form_field in FIELDS:
        component = tab.form.inputs[form_field.key]
        typed = _typed_field(page, tab, form_field)
        component.input(typed, [tab.draft, component], outputs, **EDIT)
    answered = connect_start(page, tab, partial(show_draft, page, tab, cards=True), EDIT)
    page.blocks.load(opened_page, tab.browser_copy, outputs, **EDIT).then(None, js=OPENED)
    early = [tab.draft, tab.text.yaml, tab.actions.shown]
    tab.early.click(typed_early, early, outputs, js=EARLY, **EDIT)
    remembered = [tab.draft, tab.kept, tab.actions.shown]
    tab.kept.change(took_up, remembered, outputs, js=TOUCHED, **EDIT).then(None, js=RELEASE)
    page.wanted_data.change(took_data, [tab.draft, page.wanted_data], outputs, **EDIT)
    return answered


def _typed_field(page: Page, tab: RecipesTab, form_field: FormField) -> Callable[..., Updates]:
    """What happens when a field's text changes: one key of the YAML follows."""

    def typed(draft: Draft, text: str) -> Updates:
        try:
            new = with_field(draft, form_field, text or "")
        except UserError as error:
            return {tab.text.fault: parts.note(f"The form waits: {error}", "bad")}
        return show_draft(page, tab, draft, new, typing=form_field.key)

    return typed


def show_draft(
    page: Page,
    tab: RecipesTab,
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
    before, after = check_text(old.text) if old else None, check_text(new.text)
    updates: Updates = {
        tab.draft: new,
        tab.browser_copy: browser_copy(new),
        tab.actions.back: gr.update(visible=new.aside is not None, value=aside_words(new)),
        tab.text.fault: _above_text(new, after),
        tab.text.difference: _difference(new, after),
        tab.actions.summary: summary(new, after),
        tab.actions.command: _command(page, new, after),
        **show_start(page, tab, new, after),
        **_show_sections(tab, before, after),
        **_show_fields(tab, before, after, typing),
    }
    if yaml:
        updates[tab.text.yaml] = new.text
    if cards:
        updates[tab.cards] = draw_cards(page, new)
        own = new.picked.startswith("own:")
        updates[tab.saving.name] = new.name if own else library.free_name(new.name, new.folder)
    return updates


def _above_text(draft: Draft, checked: Checked) -> str:
    """What is wrong with the text as a whole, else what went with what was replaced in it."""
    if checked.faults.get(""):
        return parts.note(checked.faults[""], "bad")
    return "".join(parts.note(line, "info") for line in left_out(draft))


def _difference(draft: Draft, checked: Checked) -> str:
    if checked.recipe is None:
        return '<p class="dl-muted dl-small">Told as soon as the recipe is free of faults.</p>'
    rows = draft.differences(checked.recipe)
    if rows is None:
        return '<p class="dl-muted dl-small">This recipe comes from none that ships.</p>'
    return views.differences(draft.origin, rows)


def _command(page: Page, draft: Draft, checked: Checked) -> str:
    """The command line that launches the same, or the reason why there is none."""
    try:
        if checked.recipe is None:
            raise UserError(checked.reason)
        if not page.allow_code:
            refuse_code(checked.recipe)
        usual_folder = str(page.runs) == checked.recipe.run.folder
        folder = [] if usual_folder else [f"run.folder={page.runs}"]
        words = ["dpo-lite", "train", *draft.command_words(checked.recipe), *folder, "--detach"]
    except UserError as error:
        return parts.note(f"Not ready: {error}", "warn")
    return views.marked(parts.command(words), draft.text)


def _show_sections(tab: RecipesTab, before: Checked | None, after: Checked) -> Updates:
    """The sections that come or go with the task, and the fold of the rarer keys for a fault."""
    if after.values is None:
        return {}
    known = before is not None and before.values is not None
    updates: Updates = {
        column: gr.update(visible=after.shows(section))
        for section, column in tab.form.sections
        if not known or before.shows(section) != after.shows(section)
    }
    if any(not f.common and f.key in after.faults for f in FIELDS):
        updates[tab.form.more] = gr.update(open=True)
    return updates


def _show_fields(
    tab: RecipesTab, before: Checked | None, after: Checked, typing: str | None
) -> Updates:
    """The fields whose text or message changed. A text that is no YAML leaves them as they are."""
    if after.values is None:
        return {}
    known = before is not None and before.values is not None
    updates: Updates = {}
    for form_field in FIELDS:
        key, changes = form_field.key, {}
        text = form_field.shown(after.value(key))
        if key != typing and not (known and form_field.shown(before.value(key)) == text):
            choice = form_field.kind == "choice"
            changes["value"] = form_field.shown_choice(text) if choice else text
        offered_now = after.offers(key)
        if not (known and before.offers(key) == offered_now) and key != typing:
            changes["visible"] = offered_now
        fault = after.faults.get(key)
        if not known or before.faults.get(key) != fault:
            changes["info"] = plain(fault) if fault else form_field.help
            changes["elem_classes"] = ["dl-field", "dl-wrong"] if fault else ["dl-field"]
        if changes:
            updates[tab.form.inputs[key]] = gr.update(**changes)
    return updates
