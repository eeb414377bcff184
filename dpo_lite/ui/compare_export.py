"""The Compare tab's votes as a file of preferences that the next run can train on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import gradio as gr

from dpo_lite.compare.votes import export_votes, read_votes, training_command
from dpo_lite.errors import UserError
from dpo_lite.files import NAME
from dpo_lite.ui import parts

if TYPE_CHECKING:
    from dpo_lite.ui.shared import Page


def connect_export(page: Page, button, run, file, exported, train) -> None:
    written = gr.State("")

    def write(run: str | None, name: str):
        name = (name or "").strip()
        path = page.recipes / name
        try:
            if not NAME.match(name):
                raise UserError("Give a plain file name that ends in .jsonl, such as votes.jsonl.")
            found = export_votes(page.runs, path)
            line = training_command(page.runs, run or read_votes(page.runs)[-1]["run"], path)
        except UserError as error:
            return parts.note(error, "bad"), "", gr.Button(visible=False)
        left = ", ".join(f"{why} {count}" for why, count in found.left_out.items())
        note = f"{len(found.rows)} row{'s' * (len(found.rows) != 1)} in {path}" + (
            f"; left out: {left}" if left else ""
        )
        how = ["dpo-lite", "votes", "export", str(path), *parts.runs_option(page.runs)]
        shown = (
            parts.note(note, "good")
            + parts.command(how)
            + '<p class="dl-muted dl-small dl-gap">Train on from this run with your votes:</p>'
            + parts.command(line)
        )
        return shown, str(path), gr.Button(visible=True)

    button.click(write, [run, file], [exported, written, train], **parts.QUIET)
    train.click(
        lambda path: ([path, [], time.time()], gr.Tabs(selected="recipes")),
        written,
        [page.wanted_data, page.tabs],
        **parts.QUIET,
    )
