"""The whole walk in a headless browser: from a recipe to votes, to a run on the votes, to the Hub.

What a user does who never opened a terminal. The quickstart is cut to a few updates; all the rest
is the real thing, from the page's first click to the preview of what would be published.
"""

import json
import os
import time

import pytest

from dpo_lite.recipe import load_recipe
from dpo_lite.runs.folder import list_runs
from tests.ui.pages import put, says

# Two trainings behind a page take minutes; each step has a test of its own in the default run.
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.long]
MINUTES = 60_000


def open_tab(page, name):
    page.get_by_role("tab", name=name).first.click()
    page.wait_for_selector(f"#tab-{name.lower()}", state="visible")


def launch_cut(page, updates, folder):
    """Launch what is in the form, cut to some updates and evaluated on a few rows."""
    before = {run.name for run in list_runs(folder / "runs")}
    put(page, "train.max_steps", str(updates))
    put(page, "eval.limit", "4")
    page.click("#recipes-launch")
    page.wait_for_selector("#tab-runs", state="visible")
    (run,) = [run for run in list_runs(folder / "runs") if run.name not in before]
    says(page, "#runs-detail", run.name)  # no longer the run that was shown before
    page.wait_for_selector("#runs-detail >> text=finished", timeout=5 * MINUTES)
    return run


def test_from_a_recipe_to_votes_and_on(visit, address, folder):
    page = visit(address)
    page.wait_for_selector("#recipes-cards [aria-pressed=true]")
    says(page, "#recipes-command", "dpo-lite train quickstart")
    page.click("#recipes-check")
    page.wait_for_selector("#recipes-outcome >> text=policy equals reference", timeout=3 * MINUTES)

    first = launch_cut(page, 40, folder)  # so many make its answers differ from those before
    assert page.locator("#runs-curves polyline[data-run]").count() > 0
    assert [m["step"] for m in first.records("metrics.jsonl") if "loss" in m][-1] == 40

    page.click("#runs-compare")
    page.wait_for_selector("#tab-compare", state="visible")
    page.wait_for_function("document.querySelector('#compare-prompt textarea')?.value")
    page.check("#compare-blind input")
    page.click("#compare-generate")
    page.wait_for_selector("#compare-vote button", timeout=3 * MINUTES)
    page.click("#compare-vote-a")
    page.wait_for_selector("#compare-told .dl-good")
    page.wait_for_selector("#compare-rates tbody tr")
    page.click("#compare-export")
    page.wait_for_selector("#compare-exported .dl-good")
    votes = folder / "my-recipes" / "votes.jsonl"
    asked = page.input_value("#compare-prompt textarea")
    assert json.loads(votes.read_text())["prompt"] == asked

    page.click("#compare-open-recipes")
    says(page, "#recipes-command", "data.train=my-recipes/votes.jsonl")
    newest = launch_cut(page, 2, folder)
    assert load_recipe(newest.recipe_file).data.train == "my-recipes/votes.jsonl"
    assert newest.manifest()["data"]["examples"] == 1

    open_tab(page, "Publish")
    page.fill("#publish-repo textarea, #publish-repo input", "me/demo")
    page.fill("#publish-base textarea, #publish-base input", "me/base")
    page.click("#publish-preview")
    page.wait_for_selector("#publish-outcome >> text=nothing was uploaded", timeout=2 * MINUTES)
    assert "adapter_model.safetensors" in page.inner_text("#publish-files")


class Hand:
    """Does what a person does, and counts it."""

    def __init__(self, page):
        self.page, self.clicks, self.keys = page, 0, 0

    def click(self, where):
        self.page.click(f"{where}:not([disabled])")
        self.clicks += 1

    def key(self, key):
        self.page.keyboard.press(key)
        self.keys += 1


def test_six_clicks_a_key_and_nothing_typed(visit, address, folder, record_property):
    """From an empty page to a recipe on one's own vote: check, launch, compare, generate, a vote by
    key, export, open. The quickstart stands there already, its run opens by itself, and Compare
    has the run and its first prompt. It was 13 clicks, three more a vote, and two fields typed in;
    of a round of votes each is one key."""
    (folder / "my-recipes" / "votes.jsonl").unlink(missing_ok=True)  # of the walk before
    page = visit(address)
    hand, started = Hand(page), time.monotonic()
    says(page, "#recipes-command", "dpo-lite train quickstart")
    before = {run.name for run in list_runs(folder / "runs")}
    hand.click("#recipes-check")
    page.wait_for_selector("#recipes-outcome >> text=policy equals reference", timeout=3 * MINUTES)
    hand.click("#recipes-launch")
    page.wait_for_selector("#tab-runs", state="visible")
    (run,) = [run for run in list_runs(folder / "runs") if run.name not in before]
    says(page, "#runs-detail", run.name)
    page.wait_for_selector("#runs-detail >> text=Finished well", timeout=15 * MINUTES)
    hand.click("#runs-compare")
    page.wait_for_function("document.querySelector('#compare-prompt textarea')?.value")
    assert page.input_value("#compare-run input") == run.name
    hand.click("#compare-generate")
    page.wait_for_selector("#compare-answers .dl-say[data-said=best]", timeout=3 * MINUTES)
    hand.key("2")
    page.wait_for_selector("#compare-answers .dl-won[data-place=B]")
    hand.click("#compare-export")
    page.wait_for_selector("#compare-exported .dl-good")
    hand.click("#compare-open-recipes")
    says(page, "#recipes-command", f"model.adapter=runs/{run.name}/adapter")
    says(page, "#recipes-command", "data.train=my-recipes/votes")
    seconds = time.monotonic() - started
    record_property("seconds", round(seconds))
    assert (hand.clicks, hand.keys) == (6, 1)
    if os.getloadavg()[0] < 1.5 * (os.cpu_count() or 1):  # else others take the time
        assert seconds < 180
