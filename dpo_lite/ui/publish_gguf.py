"""The Publish tab's fold that writes a run as GGUF, and shows what survived the rounding."""

from __future__ import annotations

from collections.abc import Iterator

from dpo_lite.errors import UserError
from dpo_lite.ui import parts
from dpo_lite.ui import publish_views as views
from dpo_lite.ui.publish_layout import PublishTab
from dpo_lite.ui.shared import Page


def connect_gguf(page: Page, tab: PublishTab) -> None:
    def write(run: str | None, name: str, quant: list[str], measure: bool) -> Iterator[str]:
        yield from _write(page, run, name, quant, measure)

    def command(run: str | None, name: str, quant: list[str], measure: bool) -> str:
        words = views.gguf_command(run or "RUN", name, quant, measure)
        return parts.command([*words, *parts.runs_option(page.runs)])

    gguf = tab.gguf
    inputs = [tab.form.run, gguf.name, gguf.quant, gguf.measure]
    gguf.start.click(write, inputs, gguf.outcome, **parts.QUIET)
    for field in inputs:
        field.change(command, inputs, gguf.command, **parts.QUIET)


def _write(
    page: Page, run: str | None, name: str, quant: list[str], measure: bool
) -> Iterator[str]:
    """Let the worker write the files; how far it is and what came of it, as HTML."""
    try:
        views.known_run(page.runs, run)
        arguments = {
            "run": run,
            "out": str(views.gguf_folder(name)),
            "quant": views.quants(quant),
            "measure": measure,
        }
    except UserError as error:
        yield parts.note(error, "bad")
        return
    yield from views.told(page.worker.run("gguf", **arguments), views.gguf_note)
