"""The Data tab's audit: which labels are doubted, decided one at a time, saved as a new file."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dpo_lite.errors import UserError
from dpo_lite.report.audit import decided_words
from dpo_lite.ui import parts, review_views, reviews
from dpo_lite.ui.review_views import BACK, FORTH, UNDO
from dpo_lite.ui.shared import Page, Updates

QUIET = {**parts.QUIET, "concurrency_limit": 4}
# One decision after the other, in the order in which they were made.
DECIDE = {**parts.QUIET, "trigger_mode": "multiple", "concurrency_limit": 1}


@dataclass(frozen=True)
class ReviewPart:
    """``name``: of the review that is open; ``place``: of the pair that is shown; ``written``: the
    file that was saved last, with its keys."""

    report: gr.HTML
    cancel: gr.Button
    column: gr.Column
    progress: gr.HTML
    message: gr.HTML
    arena: gr.HTML
    would: gr.HTML
    save: gr.Button
    use: gr.Button
    saved: gr.HTML
    name: gr.State
    place: gr.State
    written: gr.State

    def shows(self) -> list[Any]:
        shown = [self.report, self.cancel, self.column, self.progress, self.message, self.arena]
        return [*shown, self.would, self.use, self.saved, self.name, self.place]


def lay_out_review() -> ReviewPart:
    report = gr.HTML(elem_id="audit-report")
    cancel = gr.Button("Cancel", elem_id="audit-cancel", visible=False, size="sm")
    with gr.Column(visible=False, elem_id="audit-review") as column:
        progress = gr.HTML(elem_id="audit-progress")
        message = gr.HTML(elem_id="audit-message")
        arena = gr.HTML(elem_id="audit-arena", js_on_load=review_views.SCRIPT)
        with gr.Row(elem_classes="dl-buttons"):
            look = {"size": "md", "min_width": 200, "scale": 0}
            save = gr.Button("Save as a new file", elem_id="audit-save", **look)
            use = gr.Button("Use it in the recipe", elem_id="audit-use", interactive=False, **look)
            would = gr.HTML(elem_id="audit-would", min_width=200)
        saved = gr.HTML(elem_id="audit-saved")
    states = (gr.State(None), gr.State(None), gr.State(None))
    return ReviewPart(
        report, cancel, column, progress, message, arena, would, save, use, saved, *states
    )


def connect_review(page: Page, part: ReviewPart) -> None:
    """All but the button that audits, which ``audit`` is for."""
    _connect_deciding(page, part)
    _connect_saving(page, part)
    page.blocks.load(lambda: opened(page, part), None, part.shows(), **QUIET)


def audit(page: Page, part: ReviewPart, source: str, keys: list[str]) -> Iterator[Updates]:
    """Ask the worker, say how far it is, and open the review of what it found."""
    hidden = {part.column: gr.update(visible=False)}
    try:
        if not source.strip():
            raise UserError("Name a source, or upload a file.")
        asked = {"source": source.strip(), "overrides": keys, "code": page.allow_code}
        for event in page.worker.run("audit", **asked):
            if event["event"] == "error":
                raise UserError(event["text"])
            if event["event"] == "result":
                name = reviews.begin(page.recipes, source.strip(), keys, event["result"])
                yield show(page, part, name)
                return
            working = parts.working("Auditing", event.get("text", ""), event.get("seconds"))
            yield {**hidden, part.report: working, part.cancel: gr.update(visible=True)}
    except UserError as error:
        fault = parts.failed(str(error), reviews.audit_words(source, keys))
        yield {**hidden, part.report: fault, part.cancel: gr.update(visible=False)}


def opened(page: Page, part: ReviewPart) -> Any:
    """What was last worked on, as a browser opens the page."""
    name = reviews.latest(page.recipes)
    with contextlib.suppress(UserError):  # of another version: audited again where it is wanted
        return show(page, part, name) if name else gr.skip()
    return gr.skip()


def show(page: Page, part: ReviewPart, name: str) -> Updates:
    """A review from its files, at the first pair that nobody has decided."""
    review = reviews.load(page.recipes, name)
    line = parts.command(reviews.audit_words(review.found["source"], review.found["keys"]))
    return {
        part.report: review_views.audit_report(review.found) + line,
        part.cancel: gr.update(visible=False),
        part.column: gr.update(visible=bool(review.pairs)),
        part.name: name,
        part.saved: "",
        part.use: gr.update(interactive=False),
        **_at(part, review, review.next_open()),
    }


def _at(part: ReviewPart, review: reviews.Review, place: int | None, message: str = "") -> Updates:
    return {
        part.place: place,
        part.progress: review_views.progress(review),
        part.arena: review_views.arena(review, place),
        part.would: review_views.saved_words(review),
        part.message: message,
    }


# --- deciding -------------------------------------------------------------------------------------


def _connect_deciding(page: Page, part: ReviewPart) -> None:
    def decided(name: str | None, event: gr.EventData) -> Any:
        return act(page, part, name, str(event.act), int(event.place))

    part.arena.click(decided, part.name, part.shows(), **DECIDE)


def act(page: Page, part: ReviewPart, name: str | None, what: str, place: int) -> Any:
    """What a key or a button does at a place; the end is the place behind the last pair."""
    try:
        review = reviews.load(page.recipes, name or "")
    except UserError as error:
        return {part.message: parts.note(error, "bad")}
    count = len(review.pairs)
    if not 0 <= place <= count:
        return gr.skip()
    if what == BACK:
        return _at(part, review, max(place - 1, 0))
    if what == FORTH:
        return _at(part, review, min(place + 1, count - 1))
    here = place if place < count else None
    target = review.last if what == UNDO else here
    if target is None:
        return _at(part, review, here)
    try:
        reviews.decide(review, target, None if what == UNDO else what)
    except UserError as error:
        return _at(part, review, here, parts.note(error, "bad"))
    review = reviews.load(page.recipes, review.path.stem)
    return _at(part, review, target if what == UNDO else review.next_open(target))


# --- saving ---------------------------------------------------------------------------------------


def _connect_saving(page: Page, part: ReviewPart) -> None:
    def save(name: str | None) -> tuple[str, Any, Any]:
        try:
            review = reviews.load(page.recipes, name or "")
            out, facts = reviews.save(page.recipes, review)
        except UserError as error:
            return parts.note(error, "bad"), gr.skip(), gr.skip()
        html = parts.note(decided_words(facts, out), "good")
        html += parts.command(reviews.save_words(review, out))
        return html, [str(out), reviews.keys_of_new(review)], gr.update(interactive=True)

    def use(written: list[Any] | None) -> tuple[Any, Any]:
        if not written:
            return gr.skip(), gr.skip()
        return [*written, time.time()], gr.Tabs(selected="recipes")

    saved = [part.saved, part.written, part.use]
    part.save.click(save, part.name, saved, trigger_mode="once", **QUIET)
    part.use.click(use, part.written, [page.wanted_data, page.tabs], **QUIET)
