"""The Runs tab: all runs from disk, one or several of them live, and what can be done with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from dpo_lite.errors import UserError
from dpo_lite.runs import processes
from dpo_lite.runs.folder import ACTIVE, Run, named_run
from dpo_lite.ui import parts
from dpo_lite.ui import run_views as views

if TYPE_CHECKING:
    from dpo_lite.ui.shared import Page

SECONDS = 1.5
MOST_SELECTED = 6
RESUMABLE = ("stopped", "failed", "interrupted")

# A click on a row tells its run and whether it adds to the selection. The table is drawn anew at
# every change, so its place is put back.
TABLE_SCRIPT = """
let top = 0;
const row = (event) => event.target.closest("tr[data-run]");
const tell = (event) => trigger("click", {
  run: row(event).dataset.run,
  add: Boolean(event.target.closest(".dl-pick")) || event.ctrlKey || event.metaKey,
});
element.addEventListener("click", (event) => { if (row(event)) tell(event); });
element.addEventListener("keydown", (event) => {
  if (!row(event) || !["Enter", " "].includes(event.key)) return;
  event.preventDefault();
  tell(event);
});
element.addEventListener("scroll", (event) => { top = event.target.scrollTop; }, true);
watch("value", () => {
  const box = element.querySelector(".dl-scroll");
  if (box) box.scrollTop = top;
});
"""
LOG_SCRIPT = """
const end = () => {
  const log = element.querySelector(".dl-log");
  if (log) log.scrollTop = log.scrollHeight;
};
end();
watch("value", end);
"""


@dataclass(frozen=True)
class View:
    """The components that show something, in the order of ``shown``."""

    table: gr.HTML
    detail: gr.HTML
    curves: gr.HTML
    samples: gr.HTML
    log: gr.HTML
    difference: gr.HTML
    stop: gr.Button
    resume: gr.Button
    compare: gr.Button
    manage: gr.Accordion
    seen: gr.State

    def all(self) -> list[Any]:
        return list(vars(self).values())


def build(page: Page) -> None:
    table = gr.HTML(elem_id="runs-table", js_on_load=TABLE_SCRIPT)
    message = gr.HTML(elem_id="runs-message")
    detail = gr.HTML(elem_id="runs-detail")
    with gr.Row(elem_classes="dl-buttons"):
        off = {"interactive": False, "size": "sm", "min_width": 110, "scale": 0}
        stop = gr.Button("Stop and save", elem_id="runs-stop", **off)
        resume = gr.Button("Resume", elem_id="runs-resume", **off)
        compare = gr.Button("Compare", elem_id="runs-compare", **off)
    curves = gr.HTML(elem_id="runs-curves", js_on_load=TABLE_SCRIPT)  # a road's rows open its runs
    with gr.Accordion("Smoothing and what the metrics mean", open=False, elem_id="runs-help"):
        smooth = gr.Slider(0, 0.98, 0.8, step=0.02, label="Smoothing", elem_id="runs-smooth")
        gr.HTML(views.explanations())
    with gr.Accordion("Answers over time", open=True, elem_id="runs-samples-fold"):
        samples = gr.HTML(elem_id="runs-samples")
    with gr.Accordion("Log", open=False, elem_id="runs-log-fold"):
        log = gr.HTML(elem_id="runs-log", js_on_load=LOG_SCRIPT)
    with gr.Accordion("Difference of the recipes", open=False, elem_id="runs-difference-fold"):
        difference = gr.HTML(elem_id="runs-difference")
    with gr.Accordion(
        "Rename or delete", open=False, visible=False, elem_id="runs-manage"
    ) as manage:
        with gr.Row(elem_classes="dl-buttons"):
            name = gr.Textbox(
                show_label=False,
                placeholder="new name",
                elem_id="runs-new-name",
                scale=2,
                min_width=160,
                container=False,
            )
            rename = gr.Button("Rename", size="sm", elem_id="runs-rename", min_width=110, scale=0)
            delete = gr.Button("Delete…", size="sm", elem_id="runs-delete", min_width=110, scale=0)
        with gr.Row(visible=False, elem_classes="dl-buttons") as sure:
            question = gr.HTML(elem_id="runs-delete-question")
            yes = gr.Button(
                "Delete for good",
                variant="stop",
                size="sm",
                elem_id="runs-delete-yes",
                min_width=130,
                scale=0,
            )
            no = gr.Button("Keep", size="sm", elem_id="runs-delete-no", min_width=90, scale=0)

    seen = gr.State({})
    view = View(
        table, detail, curves, samples, log, difference, stop, resume, compare, manage, seen
    )
    inputs = [page.selected, smooth, seen]

    def tick(selected, smooth, seen):
        return shown(page, selected, smooth, seen)

    gr.Timer(SECONDS).tick(
        tick, inputs, view.all(), trigger_mode="once", concurrency_limit=None, **parts.QUIET
    )
    smooth.release(tick, inputs, view.all(), **parts.QUIET)
    page.selected.change(tick, inputs, view.all(), concurrency_limit=None, **parts.QUIET)

    def pick(selected, event: gr.EventData):
        return picked(selected or [], event.run, event.add)

    for rows in (table, curves):
        rows.click(pick, page.selected, page.selected, concurrency_limit=None, **parts.QUIET)

    _act(page, stop, message, lambda run: processes.stop(run))
    _act(page, resume, message, lambda run: _resume(run))
    compare.click(lambda: gr.Tabs(selected="compare"), None, page.tabs, **parts.QUIET)
    _manage(page, message, name, rename, delete, sure, question, yes, no)


def shown(page: Page, selected: Sequence[str] | None, smooth: float, seen: dict) -> list[Any]:
    """New values for ``View.all()``; what has not changed since ``seen`` is skipped."""
    found = views.statuses(page.runs)
    selected = [name for name in selected or [] if name in found][:MOST_SELECTED]
    sign = f"{views.signature(page.runs, found, selected)} {smooth}"
    if seen.get("sign") == sign:
        return [gr.skip()] * 11
    texts = {
        "table": views.run_table(found, selected),
        "detail": views.detail(page.runs, found, selected),
        "curves": views.curve_grid(page.runs, selected, smooth),
        "samples": views.samples(page.runs, selected),
        "log": views.log_tail(page.runs, selected),
        "difference": views.recipe_difference(page.runs, selected),
    }
    state = found[selected[0]]["state"] if selected else None
    active = state in ACTIVE
    answers = state == "finished" and views.can_answer(page.runs, selected[0])
    again = active and found[selected[0]].get("stopping")
    looks = {
        "stop": ("Break off" if again else "Stop and save", active),
        "resume": ("Resume", state in RESUMABLE),
        "compare": ("Compare", answers),
    }
    new = {"sign": sign} | {key: hash(text) for key, text in texts.items()} | looks
    new["manage"] = bool(selected) and not active
    values: list[Any] = [
        text if seen.get(key) != new[key] else gr.skip() for key, text in texts.items()
    ]
    values += [
        gr.Button(value=label, interactive=on) if seen.get(key) != (label, on) else gr.skip()
        for key, (label, on) in looks.items()
    ]
    same = seen.get("manage") == new["manage"]
    return [*values, gr.skip() if same else gr.Accordion(visible=new["manage"]), new]


def picked(selected: Sequence[str], name: str, add: bool) -> list[str]:
    """The selection after a click: this run alone, or put to the others or taken away."""
    if not add:
        return [name]
    if name in selected:
        return [other for other in selected if other != name]
    return [*selected, name][:MOST_SELECTED]


def _resume(run: Run) -> str:
    processes.resume(run)
    return f"{run.name} goes on; it waits for the device by itself."


def _act(page: Page, button: gr.Button, message: gr.HTML, do: Callable[[Run], str]) -> None:
    """A button that does something to the first selected run and says what came of it."""

    def act(selected):
        try:
            return parts.note(do(named_run(selected[0], page.runs)))
        except UserError as error:
            return parts.note(error, "bad")
        except IndexError:
            return parts.note("Select a run first.", "warn")

    button.click(act, page.selected, message, trigger_mode="once", **parts.QUIET)


def _manage(page: Page, message, name, rename, delete, sure, question, yes, no) -> None:
    def renamed(selected, new):
        try:
            run = processes.rename(named_run(selected[0], page.runs), new.strip())
        except UserError as error:
            return parts.note(error, "bad"), gr.skip(), gr.skip()
        return parts.note(f"Renamed to {run.name}."), [run.name, *selected[1:]], ""

    def ask(selected):
        try:
            what = processes.what_is_deleted(named_run(selected[0], page.runs))
        except UserError as error:
            return gr.Row(visible=False), parts.note(error, "bad")
        text = f"Delete {selected[0]} with {what}? It cannot be brought back."
        return gr.Row(visible=True), parts.note(text, "warn")

    def deleted(selected):
        try:
            processes.delete(named_run(selected[0], page.runs))
        except UserError as error:
            return gr.Row(visible=False), parts.note(error, "bad"), gr.skip()
        told = parts.note(f"Deleted {selected[0]}.")
        return gr.Row(visible=False), told, list(selected[1:])

    rename.click(renamed, [page.selected, name], [message, page.selected, name], **parts.QUIET)
    delete.click(ask, page.selected, [sure, question], **parts.QUIET)
    no.click(lambda: gr.Row(visible=False), None, sure, **parts.QUIET)
    yes.click(deleted, page.selected, [sure, message, page.selected], **parts.QUIET)
