"""The Publish tab's fold that merges a run into a model of its own."""

from __future__ import annotations

from collections.abc import Iterator

from dpo_lite.errors import UserError
from dpo_lite.ui import parts
from dpo_lite.ui import publish_views as views
from dpo_lite.ui.publish_layout import PublishTab
from dpo_lite.ui.shared import Page


def connect_merge(page: Page, tab: PublishTab) -> None:
    def merge(run: str | None, name: str, measure: bool, modelfile: bool) -> Iterator[str]:
        yield from _merge(page, run, name, measure, modelfile)

    def command(run: str | None, name: str, measure: bool, modelfile: bool) -> str:
        words = views.merge_command(run or "RUN", name, measure, modelfile)
        return parts.command([*words, *parts.runs_option(page.runs)])

    merging = tab.merging
    inputs = [tab.form.run, merging.name, merging.measure, merging.modelfile]
    merging.start.click(merge, inputs, merging.outcome, **parts.QUIET)
    for field in inputs:
        field.change(command, inputs, merging.command, **parts.QUIET)


def _merge(page: Page, run: str | None, name: str, measure: bool, modelfile: bool) -> Iterator[str]:
    """Let the worker merge; how far it is and what came of it, as HTML."""
    try:
        views.known_run(page.runs, run)
        folder = views.merge_folder(name)
    except UserError as error:
        yield parts.note(error, "bad")
        return
    arguments = {"run": run, "out": str(folder), "measure": measure, "modelfile": modelfile}
    yield from views.told(page.worker.run("merge", **arguments), views.merged_note)
