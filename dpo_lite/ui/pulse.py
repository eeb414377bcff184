"""What a browser asks every other second: one short answer, and Gradio's events only for changes.

Gradio's own timers are whole events each, whether something changed or not; three of them kept a
browser and the server busy all day. ``page.js`` asks, puts the line above the tabs in its place and
presses the hidden button of the tab that is shown where its mark is another than before. A page
that nobody looks at asks nothing.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastapi import FastAPI
from fastapi.routing import APIRoute

from dpo_lite.runs.studies import studies
from dpo_lite.ui import compare_question, run_files, status, study_views, tab_compare
from dpo_lite.ui.shared import Page, names_in
from dpo_lite.ui.together import Together

SECOND = 1.0


def serve(page: Page, app: FastAPI) -> None:
    """Answer at ``/pulse?runs=a,b``, to whom Gradio would answer: behind its check of the login."""
    guarded = next(r for r in app.routes if isinstance(r, APIRoute) and r.path == "/config")

    def pulse(runs: str = "") -> dict[str, str]:
        return look(page, names_in(runs), SECOND)

    route = APIRoute("/pulse", pulse, dependencies=guarded.dependencies)
    app.router.routes.insert(0, route)  # before Gradio's, which takes any name for a page's


def look(page: Page, selected: list[str], age: float = 0.0) -> dict[str, str]:
    """The line above the tabs, what the title says, and a mark for each tab that follows what
    happens on disk.

    ``age``: how old it may be of what is the same for all browsers, in seconds.
    """
    statuses, answering, begun = _same_for_all(page.runs, age)
    return {
        "line": status.show(page, statuses),
        "title": status.title(statuses),
        "ended": status.last_ended(statuses),
        "runs": _mark((run_files.signature(page.runs, statuses, selected), begun)),
        "compare": _mark(tab_compare.facts(page, answering)),
    }


def _look(runs: Path) -> tuple[run_files.Statuses, list[str], str]:
    """Statuses, the runs that can answer, and a mark of the sweeps and rounds."""
    found = run_files.statuses(runs)
    return found, compare_question.answering(runs, found), study_views.mark(studies(runs))


_same_for_all = Together(_look)


def _mark(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]
