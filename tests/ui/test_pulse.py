"""What the browser asks every other second: a mark changes with what is shown, and only then."""

import gradio as gr
import pytest
from gradio.routes import App
from starlette.testclient import TestClient

from dpo_lite.compare.ballots import ENDING
from dpo_lite.compare.votes import add_vote
from dpo_lite.runs.folder import create_run
from dpo_lite.ui import pulse, tab_compare
from dpo_lite.ui.client import Worker
from dpo_lite.ui.page import build
from dpo_lite.ui.shared import Page


@pytest.fixture
def page(tmp_path):
    return Page(runs=tmp_path / "runs", recipes=tmp_path / "recipes", worker=Worker(tmp_path))


def test_marks_change_with_what_they_stand_for(page):
    empty = pulse.look(page, [])
    assert pulse.look(page, []) == empty
    assert "nothing runs" in empty["line"]
    run = create_run(page.runs, None, "demo")
    run.recipe_file.write_text("task: dpo\n")
    begun = pulse.look(page, [])
    assert begun["runs"] != empty["runs"]
    assert begun["compare"] == empty["compare"]  # it has no adapter to ask yet
    (run.path / "log.txt").write_text("a line\n")
    assert pulse.look(page, [])["runs"] == begun["runs"]  # nobody looks at that run
    assert pulse.look(page, [run.name])["runs"] != begun["runs"]


def test_a_vote_is_seen_without_reading_them_all(page, monkeypatch):
    monkeypatch.setattr(tab_compare, "read_votes", None)
    before = pulse.look(page, [])
    shown = [{"label": name, "fingerprint": name, "answer": name} for name in "ab"]
    asked = {"run": "one", "prompt": "p", "shown": shown, "sampling": {}, "blind": True}
    add_vote(page.runs, verdict="A", **asked)
    voted = pulse.look(page, [])
    assert voted["compare"] != before["compare"]
    (page.runs / f"one-round-1{ENDING}").write_text("{}\n")
    assert pulse.look(page, [])["compare"] != voted["compare"]


def test_the_title_says_how_far_a_run_is_and_how_it_ended(page):
    run = create_run(page.runs, None, "demo")
    assert (pulse.look(page, [])["title"], pulse.look(page, [])["ended"]) == ("", "")
    run.recipe_file.write_text("task: dpo\n")
    run.claim("running", step=31, max_steps=50)
    assert pulse.look(page, [])["title"] == f"62 % {run.name}"
    run.update_status(state="finished")
    now = pulse.look(page, [])
    assert (now["title"], now["ended"]) == ("", f"{run.name} finished")


def test_it_answers_whom_gradio_would_answer(page):
    with gr.Blocks() as blocks:
        gr.HTML()
    app = App.create_app(blocks)
    pulse.serve(page, app)
    browser = TestClient(app)
    answer = browser.get("/pulse", params={"runs": "one,../etc,two"})
    assert set(answer.json()) == {"line", "title", "ended", "runs", "compare"}
    app.auth = {"dpo-lite": "correct horse"}
    blocks.auth_message = ""
    assert browser.get("/pulse").status_code == 401
    assert browser.get("/config").status_code == 401


def test_one_component_is_told_how_every_event_goes(page):
    """Else each message of any event makes the browser walk through all of the page."""
    blocks = build(page)
    (shown,) = {tuple(c._id for c in event.show_progress_on) for event in blocks.fns.values()}
    assert len(shown) == 1
    assert blocks.blocks[shown[0]].elem_id == "status-bar"


@pytest.mark.long
@pytest.mark.browser
def test_a_page_that_nobody_sees_asks_nothing(address, visit):
    page = visit(address)
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "pulse" in request.url else 0)
    page.wait_for_function("Boolean(window.dlAddress)")  # the page's script is read
    with page.expect_request("**/pulse*"):  # it asks again by itself
        pass
    page.evaluate(
        "Object.defineProperty(document, 'hidden', {get: () => true, configurable: true})"
    )
    page.wait_for_timeout(2_500)  # a question may have been on its way
    asked.clear()
    page.wait_for_timeout(5_000)
    assert asked == []
    page.evaluate("delete document.hidden")
    with page.expect_request("**/pulse*"):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
