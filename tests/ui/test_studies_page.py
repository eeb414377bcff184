"""Sweeps and on-policy rounds, started and watched in headless Chromium."""

import pytest

from dpo_lite.files import read_json
from dpo_lite.recipe import load_recipe, to_yaml, validate_recipe
from dpo_lite.runs.folder import Run
from dpo_lite.runs.studies import Study
from tests.cats import write_cats
from tests.ui.pages import says, settled

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.long]
MINUTES = 2 * 60_000  # runs are processes of their own, and a machine may have other things to do


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_base):
    """With a recipe of two updates of one's own, and a reward."""
    folder = tmp_path_factory.mktemp("studies")
    write_cats(folder, train=range(16), test=range(16, 20))
    values = {
        "model": {"base": tiny_base},
        "data": {"train": str(folder / "train.jsonl"), "eval": str(folder / "test.jsonl")},
        "train": {"lr": 1e-3, "batch_size": 8, "max_steps": 2},
        "eval": {"prompts": [], "generate": 0},
    }
    own = folder / "my-recipes" / "tiny.yaml"
    own.parent.mkdir()
    own.write_text(to_yaml(validate_recipe(values, "test")))
    (folder / "judge.py").write_text(
        "def letters(prompts, completions, **columns):\n"
        "    return [float(len(text)) for text in completions]\n"
    )
    return folder


@pytest.fixture
def page(visit, address):
    page = visit(address)
    page.set_default_timeout(MINUTES)
    page.wait_for_selector("#recipes-cards [aria-pressed=true]")
    return page


def test_a_sweep_and_rounds_from_one_of_its_runs(page, folder, address):
    page.click("[data-recipe='own:tiny']")
    says(page, "#recipes-command", "my-recipes/tiny.yaml")
    page.click("#recipes-sweep button")
    values = page.locator("#sweep-values-1 input, #sweep-values-1 textarea").first
    values.fill("0.05, -1")
    says(page, "#sweep-said", "must be above 0")
    values.fill("0.05, 0.5")
    says(page, "#sweep-said", "2 runs, one after the other")
    says(page, "#sweep-said", "dpo-lite sweep my-recipes/tiny.yaml train.beta=0.05,0.5")
    page.click("#sweep-launch")
    says(page, "#studies-shown", "tiny-beta.sweep")
    says(page, "#studies-shown", "of 2 runs are finished")
    page.close()  # a closed tab stops nothing

    page = page.context.new_page()
    page.set_default_timeout(MINUTES)
    page.goto(f"{address}/?tab=runs")
    settled(page)
    page.click("#runs-studies button")
    says(page, "#studies-shown", "2 of 2 runs are finished")
    says(page, "#studies-shown", "o difference is seen in generated")  # of four answers

    page.click("#runs-table [data-run='tiny-beta-beta0.5']")
    page.click("#runs-next-rounds")
    says(page, "#rounds-said", "Which reward?")
    page.locator("#rounds-reward input").fill("judge.py:letters")
    page.keyboard.press("Enter")
    page.locator("#rounds-count input").fill("1")
    page.locator("#rounds-prompts input").fill("16")
    command = "--reward judge.py:letters --rounds 1 --prompts 16"
    says(page, "#rounds-said", f"dpo-lite rounds runs/tiny-beta-beta0.5 {command}")
    page.click("#rounds-launch")
    says(page, "#studies-shown", "tiny-beta-beta0.5.rounds")
    says(page, "#studies-shown", "judged by a reward")
    page.wait_for_function(
        "['finished', 'failed'].includes("
        "document.querySelector('#studies-shown .dl-badge')?.innerText)"
    )
    status = read_json(folder / "runs/tiny-beta-beta0.5.rounds/study.json")
    assert (status["state"], status["error"]) == ("finished", None)
    page.click("#studies-shown [data-run='tiny-beta-beta0.5-round-1']")
    says(page, "#runs-detail", "tiny-beta-beta0.5-round-1")
    recipe = load_recipe(Run(folder / "runs/tiny-beta-beta0.5-round-1").recipe_file)
    assert recipe.data.train == "runs/tiny-beta-beta0.5-round-1.jsonl"


def test_a_sweep_that_is_stopped_goes_on(page, folder):
    page.click("[data-recipe='own:tiny']")
    says(page, "#recipes-command", "my-recipes/tiny.yaml")
    page.click("#recipes-sweep button")
    page.locator("#sweep-name input, #sweep-name textarea").first.fill("short")
    says(page, "#sweep-said", "--name short")
    page.click("#sweep-launch")
    study = Study(folder / "runs/short.sweep")
    says(page, "#studies-shown", "short.sweep")
    says(page, "#studies-shown", "running")
    page.click("#studies-stop")
    says(page, "#studies-message", "saves what it is at and stops")
    page.wait_for_function("!document.querySelector('#studies-go-on').disabled")
    assert study.status()["state"] == "stopped"
    page.click("#studies-go-on")
    says(page, "#studies-message", "goes on with what is not finished")
    says(page, "#studies-shown", "3 of 3 runs are finished")
    assert study.status()["state"] in ("running", "finished")
