"""The Data tab: a source or an upload, the data doctor's report on it, and its examples."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from dpo_lite.errors import UserError
from dpo_lite.recipe.loading import read_override
from dpo_lite.ui import column_menus, data_review, data_views, parts
from dpo_lite.ui.data_layout import BUILTIN, DataTab, lay_out
from dpo_lite.ui.recipe_start import look
from dpo_lite.ui.shared import Page, Updates
from dpo_lite.ui.uploads import keep_upload

EXAMPLES = 50  # to leaf through
QUIET = {**parts.QUIET, "concurrency_limit": 4}


def build(page: Page) -> None:
    tab = lay_out(_command(BUILTIN, BUILTIN, ""))
    fields = tab.source.fields()
    for field in fields:
        field.change(_command, fields, tab.command, trigger_mode="always_last", **QUIET)
    _connect_columns(tab)
    _connect_examine(page, tab)
    _connect_examples(tab)
    _connect_upload(page, tab)
    _connect_use(page, tab)
    _connect_audit(page, tab)


def command_words(source: str, base: str, keys: str) -> list[str]:
    """The command that examines the same."""
    try:
        overrides = split(keys)
    except UserError:
        overrides = [keys]
    model = ["--model", base.strip()] if base.strip() else []
    return ["dpo-lite", "data", source.strip(), *overrides, *model]


def _command(source: str, base: str, keys: str) -> str:
    """What Examine and the audit are in a terminal; the audit is of the texts, without a base."""
    audited = [*command_words(source, "", keys), "--audit"]
    return parts.command(command_words(source, base, keys)) + parts.command(audited)


def split(keys: str) -> list[str]:
    """Overrides as a shell would split them."""
    try:
        return shlex.split(keys)
    except ValueError:
        raise UserError("Further keys: a quotation mark is not closed.") from None


# --- which column is what -------------------------------------------------------------------------


def _connect_columns(tab: DataTab) -> None:
    """The menus and the first row follow the source; what the menus say goes to the keys."""

    def named(source: str, keys: str) -> Updates:
        return _show_columns(tab, source.strip(), columns_of(keys))

    def mapped(source: str, keys: str, *texts: str | None) -> Updates:
        columns = column_menus.chosen_columns(texts)
        try:
            new = with_columns(keys, columns)
        except UserError:
            return gr.skip()
        return {tab.source.keys: new, **_show_columns(tab, source.strip(), columns)}

    menus = list(tab.menus.menus.values())
    outputs = [tab.seen, *tab.menus.shown()]
    fields = [tab.source.name, tab.source.keys]
    tab.source.name.change(named, fields, outputs, trigger_mode="always_last", **QUIET)
    for menu in menus:
        menu.input(mapped, [*fields, *menus], [tab.source.keys, *outputs], **QUIET)


def _show_columns(tab: DataTab, source: str, columns: dict[str, str]) -> Updates:
    seen = look(source, columns) if source and not source.startswith("builtin:") else None
    shown = column_menus.show_menus(tab.menus, seen, columns)
    return {tab.seen: column_menus.seen_html(seen), **shown}


def columns_of(keys: str) -> dict[str, str]:
    """The mapping that the further keys say; empty where they say none or cannot be read."""
    try:
        written = [key for key in split(keys) if key.startswith("data.columns=")]
        _, value = read_override(written[-1]) if written else ("", None)
    except UserError:
        return {}
    pairs = value.items() if isinstance(value, dict) else ()
    return {str(ours): str(theirs) for ours, theirs in pairs}


def with_columns(keys: str, columns: dict[str, str]) -> str:
    """The further keys with another mapping. Raises UserError where they cannot be read."""
    others = [key for key in split(keys) if not key.startswith("data.columns=")]
    return shlex.join([*others, *column_menus.columns_key(columns)])


# --- examining ------------------------------------------------------------------------------------


def _connect_examine(page: Page, tab: DataTab) -> None:
    def examine(source: str, base: str, keys: str) -> Iterator[Updates]:
        yield from _examine(page, tab, source, base, keys)

    shown = [tab.report_html, tab.cancel]
    examples = [tab.examples.column, tab.examples.text, tab.examples.position]
    outputs = [*shown, tab.report, tab.place, tab.use, *examples]
    fields = tab.source.fields()
    clicked = tab.examine.click(examine, fields, outputs, **QUIET)
    entered = tab.source.name.submit(examine, fields, outputs, **QUIET)
    tab.cancel.click(
        lambda: ("", gr.update(visible=False)),
        None,
        shown,
        cancels=[clicked, entered],
        **parts.QUIET,
    )


def _examine(page: Page, tab: DataTab, source: str, base: str, keys: str) -> Iterator[Updates]:
    """Ask the worker, and show how far it is and then what it found."""
    nothing = {
        tab.report: None,
        tab.use: gr.update(interactive=False),
        tab.examples.column: gr.update(visible=False),
    }
    try:
        if not source.strip():
            raise UserError("Name a source, or upload a file.")
        arguments = {
            "source": source.strip(),
            "overrides": split(keys),
            "model": base.strip() or None,
            "code": page.allow_code,
        }
        for event in page.worker.run("doctor", examples=EXAMPLES, **arguments):
            if event["event"] == "result":
                yield _show_report(tab, event["result"])
                return
            if event["event"] == "error":
                raise UserError(event["text"])
            progress = parts.working("Examining", event.get("text", ""), event.get("seconds"))
            yield {**nothing, tab.report_html: progress, tab.cancel: gr.update(visible=True)}
    except UserError as error:
        fault = parts.failed(str(error), command_words(source, base, keys))
        yield {**nothing, tab.report_html: fault, tab.cancel: gr.update(visible=False)}


def _show_report(tab: DataTab, report: dict) -> Updates:
    return {
        tab.report_html: data_views.doctor_report(report),
        tab.report: report,
        tab.cancel: gr.update(visible=False),
        tab.use: gr.update(interactive=True),
        tab.examples.column: gr.update(visible=bool(report["examples"])),
        tab.place: 0,
        **_show_example(tab, report, 0),
    }


# --- its labels -----------------------------------------------------------------------------------


def _connect_audit(page: Page, tab: DataTab) -> None:
    def audit(source: str, keys: str, report: dict | None) -> Iterator[Updates]:
        if report is None:  # nothing examined is not what there is to say now
            yield {tab.report_html: ""}
        try:
            words = split(keys)
        except UserError as error:
            yield {tab.review.report: parts.note(error, "bad")}
            return
        yield from data_review.audit(page, tab.review, source, words)

    def wanted(asked: list[Any]) -> Updates:
        source, keys, _ = asked
        return {tab.source.name: source, tab.source.keys: shlex.join(keys)}

    shown, fields = tab.review.shows(), [tab.source.name, tab.source.keys]
    asks, tells = [*fields, tab.report], [*shown, tab.report_html]
    clicked = tab.audit.click(audit, asks, tells, **QUIET)
    asked = page.wanted_audit.change(wanted, page.wanted_audit, fields, **QUIET)
    auditing = asked.then(audit, asks, tells, **QUIET)
    tab.review.cancel.click(
        lambda: ("", gr.update(visible=False)),
        None,
        shown[:2],
        cancels=[clicked, auditing],
        **parts.QUIET,
    )
    data_review.connect_review(page, tab.review)


# --- its examples ---------------------------------------------------------------------------------


def _connect_examples(tab: DataTab) -> None:
    def turn(step: int) -> Callable[[dict, int], Updates]:
        return lambda report, place: _show_example(tab, report, place + step)

    inputs = [tab.report, tab.place]
    outputs = [tab.examples.text, tab.examples.position, tab.place]
    tab.examples.back.click(turn(-1), inputs, outputs, **QUIET)
    tab.examples.forth.click(turn(1), inputs, outputs, **QUIET)


def _show_example(tab: DataTab, report: dict, place: int) -> Updates:
    count = len(report["examples"])
    if not count:
        return {tab.examples.text: "", tab.examples.position: ""}
    place %= count
    position = f'<p class="dl-muted dl-at">{place + 1} of {count}</p>'
    return {
        tab.examples.text: data_views.example(report, place),
        tab.examples.position: position,
        tab.place: place,
    }


# --- where the source comes from and goes to ------------------------------------------------------


def _connect_upload(page: Page, tab: DataTab) -> None:
    def uploaded(file: str) -> tuple[Any, Any]:
        try:
            path = keep_upload(Path(file), page.recipes / "data")
        except UserError as error:
            return gr.skip(), parts.note(error, "bad")
        return str(path), parts.note(f"Kept as {path}; now examine it.", "info")

    tab.upload.upload(uploaded, tab.upload, [tab.source.name, tab.report_html], **QUIET)


def _connect_use(page: Page, tab: DataTab) -> None:
    def use(source: str, keys: str) -> tuple[Any, Any, Any]:
        try:
            wanted = [source.strip(), split(keys), time.time()]  # the same again is a change too
        except UserError as error:
            return gr.skip(), gr.skip(), parts.note(error, "bad")
        return wanted, gr.Tabs(selected="recipes"), gr.skip()

    outputs = [page.wanted_data, page.tabs, tab.report_html]
    tab.use.click(use, [tab.source.name, tab.source.keys], outputs, **QUIET)
