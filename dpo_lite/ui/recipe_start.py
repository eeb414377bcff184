"""Start here: the three questions change the draft, and what is proposed is shown at once."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from dpo_lite.data.files import PLAIN, Reading
from dpo_lite.data.glance import Glance, glance
from dpo_lite.errors import UserError
from dpo_lite.recipe import Recipe, library
from dpo_lite.recipe.edit import inline
from dpo_lite.runs.processes import launch
from dpo_lite.ui import column_menus, parts, start, status, will_train
from dpo_lite.ui import recipe_views as views
from dpo_lite.ui.form import Checked, check_text
from dpo_lite.ui.recipe_draft import Draft, browser_copy, put_aside
from dpo_lite.ui.recipe_layout import RecipesTab
from dpo_lite.ui.shared import Page, Updates
from dpo_lite.ui.uploads import keep_upload

DEFAULT = "dpo"
# The keys of data by which its rows are read, which an audit of them needs too.
READ_BY = ("format", "columns", "where", "encoding", "leave_out", "limit", "strip_prompt")


def machine_memory() -> float:
    """GB of this machine's card as nvidia-smi tells; 0 where there is none."""
    found = re.search(r"of ([\d.]+) GiB", status.device(0))
    return float(found[1]) if found else 0.0


def memory_of(card: str | None) -> float:
    try:
        return start.card_memory(card, machine_memory())
    except UserError:
        return machine_memory()


def entries(page: Page) -> list[library.Entry]:
    return [*library.own(page.recipes), *library.shipped()]


# --- what stands there ----------------------------------------------------------------------------


def show_start(page: Page, tab: RecipesTab, draft: Draft, checked: Checked) -> Updates:
    """The three answers as the draft has them, the data's first row, and what is needed first."""
    source, seen = _source(checked), _seen(checked)
    columns = checked.value("data.columns")
    base = checked.value("model.base")
    fixed = columns if isinstance(columns, dict) else {}
    found = start.repair(seen.fault) if seen else None
    return {
        tab.start.model: gr.update(value=base if isinstance(base, str) else None),
        tab.start.data: gr.update(value=source),
        tab.start.seen: column_menus.seen_html(seen),
        tab.start.audit: gr.update(visible=_has_labels(seen)),
        tab.start.repair: gr.update(visible=bool(found), value=found[0] if found else ""),
        **column_menus.show_menus(tab.start.menus, seen, fixed),
        **_show_needed(page, tab, checked.recipe),
    }


def summary(draft: Draft, checked: Checked, time: str = "") -> str:
    """Beside Launch: the task, and what will learn from what; else why nothing can."""
    recipe = checked.recipe
    if recipe is None:
        why = parts.prose(checked.reason)
        return f'<p class="dl-will"><b>Not ready</b><span class="dl-wrong-text">{why}</span></p>'
    words = will_train.words(recipe, draft.origin, time)
    task = parts.esc(will_train.task_words(recipe))
    return f'<p class="dl-will"><b>{parts.esc(words)}</b><span class="dl-muted">{task}</span></p>'


def _source(checked: Checked) -> str | None:
    source = checked.value("data.train")
    return source if isinstance(source, str) else None


def _seen(checked: Checked) -> Glance | None:
    """The first row of a source on this machine; None of one on the Hub, or of several."""
    source = _source(checked)
    if source is None:
        return None
    columns, wanted = checked.value("data.columns"), checked.value("data.format")
    return look(
        source,
        columns if isinstance(columns, dict) else None,
        wanted if isinstance(wanted, str) else "auto",
        _reading(checked),
    )


def seen_of(draft: Draft) -> Glance | None:
    return _seen(check_text(draft.text))


def _reading(checked: Checked) -> Reading:
    encoding, lines = checked.value("data.encoding"), checked.value("data.leave_out")
    named = lines if isinstance(lines, list) and checked.recipe else []
    return Reading(encoding if isinstance(encoding, str) else None, tuple(named))


def look(
    source: str,
    columns: dict[str, str] | None = None,
    wanted: str = "auto",
    reading: Reading = PLAIN,
) -> Glance | None:
    """What the first rows of a source on this machine are; None where it is not on it."""
    try:
        stamp = will_train.stamp(source)
        return _look(source, stamp, tuple((columns or {}).items()), wanted, reading)
    except (UserError, OSError):
        return None


@lru_cache(maxsize=32)
def _look(
    source: str, stamp: tuple, columns: tuple, wanted: str, reading: Reading
) -> Glance | None:
    found = will_train.local_source(source, reading)
    return None if found is None else glance(found, dict(columns), wanted)


def _has_labels(seen: Glance | None) -> bool:
    """Whether its rows say of two answers or more which is better."""
    return seen is not None and seen.first is not None and len(seen.first.responses) > 1


def _show_needed(page: Page, tab: RecipesTab, recipe: Recipe | None) -> Updates:
    needed = start.missing_reward(recipe, page.runs, entries(page)) if recipe else None
    if needed is None:
        return {tab.start.advice: "", tab.start.needed: gr.update(visible=False)}
    words, entry = needed
    button = gr.update(
        visible=entry is not None, value=f"Train {entry.name} first" if entry else ""
    )
    return {tab.start.advice: parts.note(words, "warn"), tab.start.needed: button}


# --- what is answered -----------------------------------------------------------------------------


def new_data(draft: Draft, source: str, columns: dict[str, str] | None = None) -> Draft:
    """The draft for a source that was chosen: with the columns that its names propose, and the task
    that it is for."""
    checked = check_text(draft.text)
    reading = _reading(checked) if source == _source(checked) else PLAIN
    seen = look(source, columns, reading=reading)
    if columns is None and seen is not None and seen.fault:
        columns = column_menus.proposal(seen)
        seen = look(source, columns, reading=reading) if columns else seen
    now = checked.value("task")
    task = now if isinstance(now, str) else DEFAULT
    if seen is not None and seen.format:
        task = start.task_for(seen.format, task)
    keys = [*column_menus.columns_key(columns or {}), *start.reading_keys(reading)]
    return start.choose_data(draft, source, keys, task)


def connect_start(page: Page, tab: RecipesTab, show: Any, edit: dict[str, Any]) -> list[Any]:
    """``show(old, new)`` are the updates of a draft. Returns the events that changed one."""
    outputs = tab.shows_draft()

    def chose_model(draft: Draft, base: str | None) -> Updates:
        new = start.choose_model(draft, base or "", entries(page))
        if new is draft:
            return gr.skip()
        carried = start.own_data(draft) is not None and new.picked == draft.picked
        return show(draft, new if carried else put_aside(draft, new))

    def chose_data(draft: Draft, source: str | None) -> Updates:
        source = (source or "").strip()
        if not source or source == _source(check_text(draft.text)):
            return gr.skip()
        return show(draft, new_data(draft, source))

    def uploaded(draft: Draft, file: str) -> Updates:
        try:
            path = keep_upload(Path(file), page.recipes / "data")
        except UserError as error:
            return {tab.start.seen: parts.note(error, "bad")}
        updates = show(draft, new_data(draft, str(path)))
        choices = start.sources(page.recipes)
        return updates | {tab.start.data: gr.update(choices=choices, value=str(path))}

    def mapped(draft: Draft, *texts: str | None) -> Updates:
        source = _source(check_text(draft.text))
        columns = column_menus.chosen_columns(texts)
        if source is None:
            return gr.skip()
        return show(draft, new_data(draft, source, columns))

    def chose_card(draft: Draft, card: str | None) -> Updates:
        new = replace(draft, card=card)
        return {
            tab.draft: new,
            tab.browser_copy: browser_copy(new),
            tab.start.model: gr.update(choices=start.models(entries(page), memory_of(card))),
            tab.cards: cards(page, new),
        }

    def train_needed(draft: Draft) -> tuple[Any, Any, Any]:
        recipe = check_text(draft.text).recipe
        needed = start.missing_reward(recipe, page.runs, entries(page)) if recipe else None
        if needed is None or needed[1] is None:
            return gr.skip(), gr.skip(), gr.skip()
        try:
            run = launch(needed[1].recipe, needed[1].name, page.runs)
        except UserError as error:
            return parts.note(error, "bad"), gr.skip(), gr.skip()
        return "", gr.Tabs(selected="runs"), [run.name]

    def repaired(draft: Draft) -> Updates:
        checked = check_text(draft.text)
        seen = _seen(checked)
        found = start.repair(seen.fault) if seen else None
        if found is None:
            return gr.skip()
        return show(draft, replace(draft, text=start.repaired(draft.text, found[1])))

    def audited(draft: Draft) -> tuple[Any, Any]:
        checked = check_text(draft.text)
        section = (checked.values or {}).get("data") or {}
        keys = [f"data.{key}={inline(section[key])}" for key in READ_BY if key in section]
        return [_source(checked), keys, time.time()], gr.Tabs(selected="data")

    tab.start.audit.click(audited, tab.draft, [page.wanted_audit, page.tabs], **parts.QUIET)
    menus = list(tab.start.menus.menus.values())
    events = [
        tab.start.repair.click(repaired, tab.draft, outputs, **edit),
        tab.start.model.input(chose_model, [tab.draft, tab.start.model], outputs, **edit),
        tab.start.data.input(chose_data, [tab.draft, tab.start.data], outputs, **edit),
        tab.start.upload.upload(uploaded, [tab.draft, tab.start.upload], outputs, **edit),
    ]
    for menu in menus:
        events.append(menu.input(mapped, [tab.draft, *menus], outputs, **edit))
    card = tab.start.card
    events.append(card.input(chose_card, [tab.draft, card], outputs, **edit))
    started = [tab.start.advice, page.tabs, page.selected]
    tab.start.needed.click(train_needed, tab.draft, started, trigger_mode="once", **parts.QUIET)
    return events


def cards(page: Page, draft: Draft) -> str:
    """All recipes, those that fit the card first."""
    own, shipped = library.own(draft.folder), library.shipped()
    fitting, others = start.by_fit(shipped, memory_of(draft.card))
    return views.cards(own, fitting, others, draft.picked, draft.card or start.THIS_MACHINE)


def offered(page: Page, tab: RecipesTab, draft: Draft) -> Updates:
    """What there is to choose from, when a browser opens the page; what is chosen stays."""
    return {
        tab.cards: cards(page, draft),
        tab.start.model: gr.update(choices=start.models(entries(page), memory_of(draft.card))),
        tab.start.data: gr.update(choices=start.sources(page.recipes)),
    }
