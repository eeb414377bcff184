"""The Runs tab as it is laid out: the table, the selected run with its buttons, its folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from dpo_lite.ui import run_views as views
from dpo_lite.ui.curve_script import CURVES_SCRIPT
from dpo_lite.ui.film_views import SCRIPT as FILM_SCRIPT
from dpo_lite.ui.run_next import LABELS
from dpo_lite.ui.run_rounds import RoundsPart, lay_out_rounds
from dpo_lite.ui.run_studies import StudyPart, lay_out_studies

# A click on a row tells its run, whether it adds to the selection, and what was selected by then:
# the next click may come before the answer. The last row tells that more are to be shown. The table
# is drawn anew at every change, so its place is put back.
TABLE_SCRIPT = """
let top = 0, asked = null, patience = null;
const row = (event) => event.target.closest("tr[data-run], tr[data-more]");
const shown = () => [...element.querySelectorAll("tr[data-place]")]
  .sort((one, other) => one.dataset.place - other.dataset.place).map((one) => one.dataset.run);
const forget = () => { asked = null; };
const tell = (event) => {
  const run = row(event).dataset.run ?? null, before = asked ?? shown();
  const add = Boolean(event.target.closest(".dl-pick")) || event.ctrlKey || event.metaKey;
  if (run !== null) {
    const others = before.filter((one) => one !== run);
    asked = add && others.length < before.length ? others : add ? [...before, run] : [run];
  }
  clearTimeout(patience);
  patience = setTimeout(forget, 5000);
  trigger("click", {run, add, before});
};
element.addEventListener("click", (event) => { if (row(event)) tell(event); });
element.addEventListener("keydown", (event) => {
  if (!row(event) || !["Enter", " "].includes(event.key)) return;
  event.preventDefault();
  tell(event);
});
element.addEventListener("scroll", (event) => { top = event.target.scrollTop; }, true);
watch("value", () => {
  if (asked && shown().join() === asked.join()) forget();
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
class Look:
    """How the curves are looked at, as ``curves.View``; ``window`` is marked with the pointer."""

    smooth: gr.Slider
    log: gr.Checkbox
    window: gr.State
    whole: gr.Button
    csv: gr.Button
    file: gr.DownloadButton

    def inputs(self) -> list[Any]:
        return [self.smooth, self.log, self.window]


@dataclass(frozen=True)
class Manage:
    """The fold that renames and deletes; ``sure`` asks before it does."""

    fold: gr.Accordion
    name: gr.Textbox
    rename: gr.Button
    delete: gr.Button
    sure: gr.Row
    question: gr.HTML
    yes: gr.Button
    no: gr.Button
    message: gr.HTML


@dataclass(frozen=True)
class RunsTab:
    """``sent`` is what the browser was sent last, so that nothing is sent twice; ``said`` what a
    button said last (see run_messages); ``most``: how many runs the table shows; ``next``: a button
    for each of ``run_next.STEPS``."""

    table: gr.HTML
    message: gr.HTML
    detail: gr.HTML
    stop: gr.Button
    resume: gr.Button
    compare: gr.Button
    next: dict[str, gr.Button]
    curves: gr.HTML
    look: Look
    samples: gr.HTML
    log: gr.HTML
    difference: gr.HTML
    manage: Manage
    sent: gr.State
    said: gr.State
    most: gr.State
    studies: StudyPart
    rounds: RoundsPart

    def follows_runs(self) -> list[Any]:
        """What shows the runs as they are now, in the order of ``tab_runs.refresh``."""
        texts = [self.table, self.detail, self.curves, self.samples, self.log, self.difference]
        buttons = [self.stop, self.resume, self.compare, *self.next.values()]
        messages = [self.message, self.manage.message]
        return [*texts, *buttons, self.manage.fold, *messages, self.sent]


def lay_out() -> RunsTab:
    table = gr.HTML(elem_id="runs-table", js_on_load=TABLE_SCRIPT)
    studies = lay_out_studies(TABLE_SCRIPT)
    detail = gr.HTML(elem_id="runs-detail")
    with gr.Row(elem_classes="dl-buttons"):
        off = {"interactive": False, "size": "sm", "min_width": 110, "scale": 0}
        stop = gr.Button("Stop and save", elem_id="runs-stop", **off)
        resume = gr.Button("Resume", elem_id="runs-resume", **off)
        compare = gr.Button("Compare", variant="primary", elem_id="runs-compare", **off)
    with gr.Row(elem_classes="dl-buttons", elem_id="runs-next"):
        following = {
            step: gr.Button(label, elem_id=f"runs-next-{step}", **(off | {"min_width": 170}))
            for step, label in LABELS.items()
        }
    message = gr.HTML(elem_id="runs-message")
    rounds = lay_out_rounds()
    with gr.Row(elem_id="runs-look"):
        smooth = gr.Slider(
            0,
            0.98,
            0.8,
            step=0.02,
            label="Smoothing",
            elem_id="runs-smooth",
            scale=2,
            min_width=220,
        )
        log = gr.Checkbox(
            label="Log axis", elem_id="runs-log-axis", container=False, min_width=110, scale=0
        )
        whole = gr.Button(
            "Show all updates",
            size="sm",
            visible=False,
            elem_id="runs-whole",
            scale=0,
            min_width=150,
        )
        sound = gr.Checkbox(
            label="Sound when a run ends",
            elem_id="runs-sound",
            container=False,
            min_width=200,
            scale=0,
        )
        sound.input(None, sound, js="(on) => window.dlSound(on)")
        csv = gr.Button("Metrics as CSV", size="sm", elem_id="runs-csv", scale=0, min_width=150)
        file = gr.DownloadButton(visible="hidden", elem_id="runs-csv-file")
    curves = gr.HTML(
        elem_id="runs-curves",
        js_on_load=TABLE_SCRIPT + CURVES_SCRIPT,  # RLHF's rows open its runs
    )
    with gr.Accordion("What the metrics mean", open=False, elem_id="runs-help"):
        gr.HTML(views.explanations())
    with gr.Accordion("Answers over time", open=True, elem_id="runs-samples-fold"):
        samples = gr.HTML(elem_id="runs-samples", js_on_load=FILM_SCRIPT)
    with gr.Accordion("Log", open=False, elem_id="runs-log-fold"):
        logged = gr.HTML(elem_id="runs-log", js_on_load=LOG_SCRIPT)
    with gr.Accordion("Difference of the recipes", open=False, elem_id="runs-difference-fold"):
        difference = gr.HTML(elem_id="runs-difference")
    return RunsTab(
        table,
        message,
        detail,
        stop,
        resume,
        compare,
        following,
        curves,
        Look(smooth, log, gr.State(None), whole, csv, file),
        samples,
        logged,
        difference,
        manage=_lay_out_manage(),
        sent=gr.State({}),
        said=gr.State(None),
        most=gr.State(views.SHOWN_RUNS),
        studies=studies,
        rounds=rounds,
    )


def _lay_out_manage() -> Manage:
    small = {"size": "sm", "scale": 0}
    with gr.Accordion("Rename or delete", open=False, visible=False, elem_id="runs-manage") as fold:
        with gr.Row(elem_classes="dl-buttons"):
            name = gr.Textbox(
                label="New name of the run",
                show_label=False,
                placeholder="new name",
                elem_id="runs-new-name",
                elem_classes="dl-field",
                scale=2,
                min_width=160,
                container=False,
            )
            rename = gr.Button("Rename", elem_id="runs-rename", min_width=110, **small)
            delete = gr.Button("Delete…", elem_id="runs-delete", min_width=110, **small)
        with gr.Row(visible=False, elem_classes="dl-buttons") as sure:
            question = gr.HTML(elem_id="runs-delete-question")
            yes = gr.Button(
                "Delete for good",
                variant="stop",
                elem_id="runs-delete-yes",
                min_width=130,
                **small,
            )
            no = gr.Button("Keep", elem_id="runs-delete-no", min_width=90, **small)
        message = gr.HTML(elem_id="runs-managed")
    return Manage(fold, name, rename, delete, sure, question, yes, no, message)
