"""The Publish tab: look at what would go up, push it, merge it, take it home.

There is no field for a token: the page shows whose token huggingface_hub finds. Where nobody but
whoever sits at the machine can reach the page, it offers to log in by a code typed on the Hub.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr
from gradio.processing_utils import save_file_to_cache

from dpo_lite.errors import UserError
from dpo_lite.hub import login
from dpo_lite.hub.push import logged_in
from dpo_lite.ui import parts
from dpo_lite.ui import publish_views as views
from dpo_lite.ui.publish_gguf import connect_gguf
from dpo_lite.ui.publish_layout import PublishTab, lay_out
from dpo_lite.ui.publish_merge import connect_merge
from dpo_lite.ui.publish_push import connect_push
from dpo_lite.ui.shared import Page, names_in

LABEL = "Publish"
# The archive is made when it is asked for; then the hidden button of its file is pressed.
SAVE = "() => setTimeout(() => document.querySelector('#publish-archive').click(), 150)"


def build(page: Page) -> None:
    tab = lay_out(login=page.local and login.offered())
    _connect_arrival(page, tab)
    _connect_choice(page, tab)
    connect_push(page, tab)
    _connect_download(page, tab)
    connect_merge(page, tab)
    connect_gguf(page, tab)


def _connect_arrival(page: Page, tab: PublishTab) -> None:
    """The runs as they are now, and who is logged in, whenever the tab is opened."""

    def opened_tab(
        run: str | None, selected: list[str] | None, followed: Any, event: gr.SelectData
    ) -> Any:
        if event.value != LABEL:
            return gr.skip()
        return *_show_runs(page, run, selected, followed), _account()

    def loaded_page(
        run: str | None, selected: list[str] | None, followed: Any, request: gr.Request
    ) -> Any:
        here = request.query_params.get("tab") == "publish"
        selected = names_in(request.query_params.get("runs", "")) or selected  # as a link has them
        return *_show_runs(page, run, selected, followed), _account() if here else gr.skip()

    inputs = [tab.form.run, page.selected, tab.followed]
    outputs = [tab.nothing_yet, tab.everything, tab.form.run, tab.followed, tab.account]
    page.tabs.select(opened_tab, inputs, outputs, **parts.QUIET)
    page.blocks.load(loaded_page, inputs, outputs, **parts.QUIET)
    tab.ask_account.click(_account, None, tab.account, **parts.QUIET)
    tab.log_in.click(_log_in, None, tab.account, concurrency_limit=1, **parts.QUIET)


def _show_runs(
    page: Page, run: str | None, selected: list[str] | None, followed: list[str] | None
) -> tuple[gr.HTML, gr.Row, gr.Dropdown, list[str] | None]:
    """The runs to choose from, the one that is shown, and the selection that was taken."""
    names = views.run_names(page.runs)
    return (
        gr.HTML(visible=not names),
        gr.Row(visible=bool(names)),
        gr.Dropdown(names, value=views.chosen_run(names, run, selected, followed)),
        selected,
    )


def _account() -> str:
    try:
        return views.account_line(logged_in())
    except UserError as error:
        return parts.note(error, "warn")


def _log_in() -> Iterator[str]:
    try:
        code = login.ask_code()
        yield views.login_html(code)
        for _ in login.wait_for(code):
            yield views.login_html(code)
        yield _account()
    except UserError as error:
        yield parts.note(error, "bad")


def _connect_choice(page: Page, tab: PublishTab) -> None:
    def chose_run(name: str | None) -> tuple[Any, ...]:
        if not name:
            return (gr.skip(),) * 4
        checkpoints = views.checkpoints(views.known_run(page.runs, name))
        menu = gr.Dropdown(checkpoints, value=checkpoints[0] if checkpoints else None)
        return menu, gr.Textbox(name), gr.Textbox(f"{name}-gguf"), ""

    outputs = [tab.form.checkpoint, tab.merging.name, tab.gguf.name, tab.outcome]
    tab.form.run.change(chose_run, tab.form.run, outputs, **parts.QUIET)


def _connect_download(page: Page, tab: PublishTab) -> None:
    def download(name: str | None) -> tuple[Any, Any]:
        try:
            with TemporaryDirectory() as folder:
                archive = views.zipped(views.known_run(page.runs, name), Path(folder))
                # Where Gradio serves it from, and takes it away again (see blocks.KEPT_SECONDS).
                kept = save_file_to_cache(archive, tab.archive.GRADIO_CACHE)
        except UserError as error:
            return None, parts.note(error, "bad")
        tab.archive.temp_files.add(kept)
        return kept, gr.skip()

    outputs = [tab.archive, tab.outcome]
    packed = tab.download.click(download, tab.form.run, outputs, **parts.QUIET)
    packed.success(None, None, None, js=SAVE)
