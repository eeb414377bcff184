"""The Runs tab in headless Chromium: watch, stop, resume, delete; restart, two tabs."""

import os
import time
from pathlib import Path

import pytest

from dpo_lite.recipe import load_recipe, to_yaml
from dpo_lite.runs import processes
from dpo_lite.runs.folder import ACTIVE, Run, create_run, list_runs
from tests.ui.conftest import free_port, start_page
from tests.ui.pages import says, settled

pytestmark = [pytest.mark.browser, pytest.mark.slow]  # a model is at work behind the page
SLOW = 120_000  # milliseconds: a process that imports torch on a busy machine


class Server:
    """The page as a user starts it, on one port, so that it can go and come back."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        self.process = start_page(self.folder, self.port)

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("DPO_LITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()
    for run in list_runs(tmp_path / "runs"):
        if run.status()["state"] in ACTIVE and run.status().get("pid"):
            os.kill(run.status()["pid"], 9)


@pytest.fixture
def context(server, chromium):
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(SLOW)
    yield context
    context.close()


def open_runs(context, server):
    page = context.new_page()
    page.outside = []
    own = (server.address, "data:", "blob:")
    page.on("request", lambda r: r.url.startswith(own) or page.outside.append(r.url))
    page.goto(f"{server.address}/?tab=runs")
    settled(page)
    page.wait_for_selector("#runs-table .dl-empty, #runs-table tr[data-run]")
    return page


def launched(server, **options) -> Run:
    changes = ["data.limit=64", "eval.limit=2", "eval.max_new_tokens=4", "train.max_steps=2000"]
    recipe = load_recipe("quickstart", [*changes, *(f"{k}={v}" for k, v in options.items())])
    return processes.launch(recipe, "demo", server.folder / "runs")


def state(page, run, *words):
    """Wait until the run's row says one of the words."""
    page.wait_for_function(
        "([run, words]) => words.includes(document.querySelector("
        "`#runs-table tr[data-run='${run}'] .dl-badge`)?.innerText)",
        arg=[run, words],
        timeout=SLOW,
    )


def curve(page, run) -> int:
    """How many points the loss curve of a run has."""
    line = f'#runs-curves polyline.dl-line[data-run="{run}"][data-key="loss"]'
    found = page.locator(line)
    return len(found.get_attribute("points").split()) if found.count() else 0


def grows(page, run):
    before = curve(page, run)
    deadline = time.time() + SLOW / 1000
    while curve(page, run) <= before:
        assert time.time() < deadline, Run(page.runs / run).log_tail(20)
        page.wait_for_timeout(200)


def goes_on(run, step):
    """Its status tells of a later update: it is written after the line that the curve shows."""
    deadline = time.time() + SLOW / 1000
    while run.status()["step"] <= step:
        assert time.time() < deadline, run.log_tail(20)
        time.sleep(0.1)


@pytest.mark.long
def test_from_launch_to_delete(server, context):
    page = open_runs(context, server)
    page.runs = server.folder / "runs"
    assert "No runs yet" in page.inner_text("#runs-table")

    run = launched(server)
    page.click("#runs-table tr[data-run='demo-1'] .dl-name", timeout=SLOW)  # without a reload
    state(page, "demo-1", "running")
    grows(page, "demo-1")
    says(page, "#status-bar", "demo-1")
    says(page, "#runs-detail", "dpo-lite runs show demo-1")

    assert not page.is_visible("#runs-delete")  # not while it runs
    page.click("#runs-stop:not([disabled])")
    state(page, "demo-1", "stopped")
    assert run.last_checkpoint() is not None
    stopped_at = run.status()["step"]

    page.click("#runs-resume:not([disabled])", timeout=SLOW)
    state(page, "demo-1", "running")
    page.wait_for_selector("#runs-stop:not([disabled])")
    grows(page, "demo-1")
    goes_on(run, stopped_at)
    page.click("#runs-stop")
    state(page, "demo-1", "stopped")

    page.click("#runs-manage .label-wrap")
    page.fill("#runs-new-name input, #runs-new-name textarea", "../evil")
    page.click("#runs-rename")
    page.wait_for_selector("#runs-managed .dl-bad:has-text('cannot name a run')")
    page.fill("#runs-new-name input, #runs-new-name textarea", "gentle")
    page.click("#runs-rename")
    state(page, "gentle", "stopped")
    page.click("#runs-delete")
    page.click("#runs-delete-yes")
    page.wait_for_selector("#runs-table .dl-empty")
    assert list_runs(page.runs) == []
    assert page.outside == []


@pytest.mark.long
def test_a_run_outlives_its_page_and_two_tabs_show_and_do_the_same(server, context):
    page = open_runs(context, server)
    page.runs = server.folder / "runs"
    run = launched(server)
    page.click("#runs-table tr[data-run='demo-1'] .dl-name", timeout=SLOW)
    state(page, "demo-1", "running")
    grows(page, "demo-1")

    server.kill()  # the run does not notice, the page comes back
    steps = run.status()["step"]
    server.start()
    page.reload()
    settled(page)
    state(page, "demo-1", "running")
    page.wait_for_function("document.querySelector('#runs-detail').innerText.includes('demo-1')")
    assert "runs=demo-1" in page.url
    grows(page, "demo-1")
    goes_on(run, steps)

    other = open_runs(context, server)
    state(other, "demo-1", "running")
    other.click("#runs-table tr[data-run='demo-1'] .dl-name")
    other.click("#runs-stop:not([disabled])", timeout=SLOW)
    state(page, "demo-1", "stopped")
    assert page.outside == other.outside == []


def test_quick_clicks_select_all_that_were_clicked(server, context):
    recipe = to_yaml(load_recipe("quickstart"))
    for name in "abc":
        run = create_run(server.folder / "runs", name, name)
        run.recipe_file.write_text(recipe)
        run.update_status(state="finished")
    page = open_runs(context, server)
    page.wait_for_selector("#runs-table tr[data-run='a']")
    page.wait_for_function("document.querySelectorAll('#runs-table tr[data-run]').length === 3")
    page.evaluate(
        "for (const name of 'acb') document.querySelector("
        "`#runs-table tr[data-run='${name}'] .dl-pick`).click()"
    )
    page.wait_for_function("location.search.includes('runs=a%2Cc%2Cb')")
    page.wait_for_function("document.querySelectorAll('#runs-table .dl-chosen').length === 3")


@pytest.mark.long
def test_several_runs_over_each_other(server, context):
    for name, beta in (("a", 0.1), ("b", 0.3)):
        run = launched(server, **{"run.name": name, "train.beta": beta, "model.base": "./nowhere"})
        for step in range(1, 31):
            run.append("metrics.jsonl", {"step": step, "loss": 0.7 - beta * step / 50})
    page = open_runs(context, server)
    state(page, "a", "failed")
    state(page, "b", "failed")
    page.click("#runs-table tr[data-run='a'] .dl-name")
    page.wait_for_selector("#runs-detail .dl-bad:has-text('there is no folder ./nowhere')")
    page.click("#runs-table tr[data-run='b'] .dl-pick")
    page.wait_for_selector("#runs-curves polyline[data-run='b']", state="attached")
    assert page.locator("#runs-curves polyline.dl-line").count() == 2
    page.click("#runs-difference-fold .label-wrap")
    page.wait_for_selector("#runs-difference td:has-text('train.beta')")
    page.reload()
    settled(page)
    page.wait_for_selector("#runs-curves polyline[data-run='b']", state="attached")
