"""What a browser asks every other second: one short answer, and Gradio's events only for changes.

Gradio's own timers are whole events each, whether something changed or not; three of them kept a
browser and the server busy all day. ``page.js`` asks, puts the line above the tabs in its place and
presses the hidden button of the tab that is shown where its mark is another than before. A page
that nobody looks at asks nothing.
"""

from __future__ import annotations

import hashlib

from fastapi import FastAPI
from fastapi.routing import APIRoute

from dpo_lite.files import NAME
from dpo_lite.ui import run_views, status, tab_compare
from dpo_lite.ui.shared import Page


def serve(page: Page, app: FastAPI) -> None:
    """Answer at ``/pulse?runs=a,b``, to whom Gradio would answer: behind its check of the login."""
    guarded = next(r for r in app.routes if isinstance(r, APIRoute) and r.path == "/config")

    def pulse(runs: str = "") -> dict[str, str]:
        return look(page, [name for name in runs.split(",") if NAME.match(name)])

    route = APIRoute("/pulse", pulse, dependencies=guarded.dependencies)
    app.router.routes.insert(0, route)  # before Gradio's, which takes any name for a page's


def look(page: Page, selected: list[str]) -> dict[str, str]:
    """The line above the tabs, what the title says, and a mark for each tab that follows what
    happens on disk."""
    statuses = run_views.statuses(page.runs)
    return {
        "line": status.show(page, statuses),
        "title": status.title(statuses),
        "ended": status.last_ended(statuses),
        "runs": _mark(run_views.signature(page.runs, statuses, selected)),
        "compare": _mark(tab_compare.facts(page)),
    }


def _mark(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]
