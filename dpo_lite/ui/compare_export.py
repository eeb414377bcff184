"""The Compare tab's votes as a file of preferences that the next run can train on."""

from __future__ import annotations

import time
from typing import Any

import gradio as gr

from dpo_lite.compare.vote_rows import Kind, export_votes, training_command, training_keys
from dpo_lite.compare.votes import read_votes
from dpo_lite.errors import UserError
from dpo_lite.files import NAME
from dpo_lite.ui import parts
from dpo_lite.ui.compare_layout import CompareTab
from dpo_lite.ui.shared import Page


def connect_export(page: Page, tab: CompareTab) -> None:
    written = gr.State("")  # the path of the file
    export = tab.export

    def write(run: str | None, name: str, kind: Kind) -> tuple[str, str, gr.Button]:
        try:
            html, path = _write(page, run, (name or "").strip(), kind)
        except UserError as error:
            return parts.note(error, "bad"), "", gr.Button(visible=False)
        return html, path, gr.Button(visible=True)

    def train(path: str, run: str | None, kind: Kind) -> tuple[list[Any], gr.Tabs]:
        run = run or read_votes(page.runs)[-1]["run"]
        keys = training_keys(page.runs, run, path, kind)
        return [run, keys, time.time(), "run"], gr.Tabs(selected="recipes")

    inputs = [tab.question.run, export.file, export.kind]
    outputs = [export.outcome, written, export.train]
    export.export.click(write, inputs, outputs, **parts.QUIET)
    asked = [written, tab.question.run, export.kind]
    export.train.click(train, asked, [page.wanted_data, page.tabs], **parts.QUIET)


def _write(page: Page, run: str | None, name: str, kind: Kind) -> tuple[str, str]:
    """Write the file; returns what to say of it, and its path."""
    if not NAME.match(name):
        raise UserError("Give a plain file name that ends in .jsonl, such as votes.jsonl.")
    path = page.recipes / name
    exported = export_votes(page.runs, path, run, kind=kind)
    run = run or read_votes(page.runs)[-1]["run"]
    train_line = training_command(page.runs, run, path, kind)
    which = [*parts.runs_option(page.runs), "--run", run]
    which += ["--answers"] if kind == "answers" else []
    export_line = ["dpo-lite", "votes", "export", str(path), *which]
    count = len(exported.rows)
    left_out = ", ".join(f"{why} {number}" for why, number in exported.left_out.items())
    message = f"{count} row{'s' * (count != 1)} in {path}"
    message += f"; left out: {left_out}" if left_out else ""
    return (
        parts.note(message, "good")
        + parts.command(export_line)
        + '<p class="dl-muted dl-small dl-gap">Train on from this run with your votes:</p>'
        + parts.command(train_line)
    ), str(path)
