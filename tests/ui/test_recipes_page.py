"""The Recipes and Data tabs in headless Chromium."""

import json
from pathlib import Path

import pytest

from dpo_lite.recipe import load_recipe, parse_yaml
from dpo_lite.runs.folder import list_runs
from dpo_lite.runs.processes import stop
from dpo_lite.ui.form import OF_TASK, fields
from dpo_lite.ui.labels import suits
from tests.ui.pages import field, field_holds, held_answers, put, says, settled

pytestmark = [pytest.mark.browser, pytest.mark.slow]  # the page answers every key that is pressed


@pytest.fixture
def page(visit, address):
    page = visit(address)
    page.wait_for_selector("#recipes-cards [aria-pressed=true]")
    says(page, "#recipes-command", "dpo-lite train quickstart")
    return page


def yaml_of(page):
    return page.locator("#recipes-yaml .cm-content").inner_text()


def test_form_and_yaml_follow_each_other_and_survive_a_reload(page):
    field(page, "train.beta").fill("0.05")
    says(page, "#recipes-yaml", "beta: 0.05")
    assert "# pull to the reference" in yaml_of(page)
    says(page, "#recipes-diff", "train.beta")
    says(page, "#recipes-command", "dpo-lite train quickstart train.beta=0.05 --detach")

    page.get_by_text("beta: 0.05").first.click()
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    page.keyboard.type("weight_decay: 0.5")
    says(page, "#recipes-command", "train.weight_decay=0.5")
    field_of_yaml = "document.querySelector('#recipes-train-weight_decay input')?.value === '0.5'"
    page.locator("#recipes-more button").first.click()
    page.wait_for_function(field_of_yaml)

    page.reload()
    settled(page)
    says(page, "#recipes-command", "train.beta=0.05 train.weight_decay=0.5")
    field_holds(page, "train.beta", "0.05")

    page.click("#recipes-cards summary")  # the recipes for a larger card
    page.click("[data-recipe='shipped:qwen3-4b']")
    says(page, "#recipes-command", "dpo-lite train qwen3-4b --detach")
    field_holds(page, "model.base", "Qwen/Qwen3-4B")

    says(page, "#recipes-back", "Back to quickstart with your changes: train.beta")
    page.click("#recipes-back")
    says(page, "#recipes-command", "train.beta=0.05 train.weight_decay=0.5")


@pytest.mark.long
def test_wrong_input_in_each_number_and_name_is_said_beside_it(page):
    page.locator("#recipes-more button").first.click()
    numbers = [f for f in fields() if f.kind == "number" and f.section not in OF_TASK]
    numbers = [f for f in numbers if suits(f.key, "dpo")]
    wrong = [f.key for f in numbers] + ["run.name", "hub.repo"]
    for key in wrong:
        field(page, key).fill("../<b>x</b>")
    for key in wrong:
        says(page, f"#recipes-{key.replace('.', '-')}", "must be")
    says(page, "#recipes-command", f"(and {len(wrong) - 1} more)")
    assert page.locator(".dl-wrong").count() == len(wrong)
    assert page.locator(".dl-wrong b").count() == 0
    red = "getComputedStyle(document.querySelector('#recipes-train-beta input')).borderColor"
    page.wait_for_function(f"{red} === 'rgb(180, 35, 24)'")
    page.click("#recipes-launch")
    says(page, "#recipes-outcome", "Not started")
    field(page, "train.beta").fill("0.2")
    page.wait_for_function("!document.querySelector('#recipes-train-beta.dl-wrong')")


def test_sections_come_and_go_with_the_task(page):
    assert field(page, "ppo.reward").count() == 0
    page.click("[data-recipe='shipped:rlhf-quickstart']")
    field(page, "rlhf.ppo_betas").wait_for()
    field(page, "rlhf.ppo_betas").fill("[0.5, 1]")
    says(page, "#recipes-command", "rlhf.ppo_betas=")
    page.locator("#recipes-more button").first.click()
    field(page, "rlhf.sft").fill("{train: {lrr: 1}}")
    says(page, "#recipes-rlhf-sft", "did you mean train.lr")
    says(page, "#recipes-command", "Not ready")
    page.click("[data-recipe='shipped:ppo-quickstart']")
    field(page, "rlhf.ppo_betas").wait_for(state="detached")
    field_holds(page, "ppo.reward", "reward-quickstart-1")
    says(page, "#recipes-advice", "there is no run reward-quickstart-1 yet")
    says(page, "#recipes-needed", "Train reward-quickstart first")


def test_broken_yaml_names_its_line_and_keeps_the_form(page):
    page.get_by_text("quantization").last.click()
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    page.keyboard.type("revision: @")  # a bracket would be closed by the editor
    says(page, "#recipes-yaml-fault", "line")
    says(page, "#recipes-command", "Not ready")
    field_holds(page, "train.beta", "0.1")


def test_what_is_typed_before_the_first_answer_stays(page):
    with held_answers(page):
        page.reload()
        settled(page)
        says(page, "#recipes-command", "dpo-lite train quickstart")  # it is there without an answer
        page.get_by_text("quantization").last.click()
        page.keyboard.press("End")
        page.keyboard.press("Enter")
        page.keyboard.type("revision: @")  # a bracket would be closed by the editor
    says(page, "#recipes-yaml-fault", "line")
    assert "revision: @" in yaml_of(page)


def test_what_is_typed_before_a_remembered_recipe_comes_stays_and_is_what_runs(page):
    page.click("#recipes-cards summary")  # the recipes for a larger card
    page.click("[data-recipe='shipped:qwen3-4b']")
    says(page, "#recipes-command", "dpo-lite train qwen3-4b --detach")
    field(page, "train.epochs").fill("3")
    says(page, "#recipes-command", "train.epochs=3")
    with held_answers(page):
        page.reload()
        settled(page)
        says(page, "#recipes-command", "dpo-lite train quickstart")
        field(page, "train.beta").fill("0.3")
    says(page, "#recipes-command", "dpo-lite train quickstart train.beta=0.3 --detach")
    says(page, "#recipes-back", "Back to qwen3-4b with your changes: train.epochs")
    assert field(page, "train.beta").input_value() == "0.3"
    assert "beta: 0.3" in yaml_of(page)
    page.click("#recipes-back")
    says(page, "#recipes-command", "dpo-lite train qwen3-4b train.epochs=3")
    field_holds(page, "train.epochs", "3")


def test_deleting_and_pasting_are_input_too(page):
    field(page, "train.epochs").fill("4.5")
    says(page, "#recipes-command", "train.epochs=4.5")
    field(page, "train.epochs").click()
    page.keyboard.press("End")
    page.keyboard.press("Backspace")
    page.keyboard.insert_text("75")
    says(page, "#recipes-command", "train.epochs=4.75")


def test_what_is_pasted_behind_a_key_that_makes_no_letter_counts(page):
    for key, number in (("Enter", "4.25"), ("2", "4.5")):
        field(page, "train.beta").fill("0.2")
        says(page, "#recipes-command", "train.beta=0.2")
        page.locator("[data-recipe='shipped:quickstart']").press(key)
        if key == "Enter":  # the recipe as it was: its answer must not come while all is marked
            page.wait_for_function(
                "() => !document.querySelector('#recipes-command').textContent.includes('beta')"
            )
        says(page, "#recipes-command", "dpo-lite train quickstart")
        field(page, "train.epochs").click()
        page.keyboard.press("Control+A")
        page.keyboard.insert_text(number)
        says(page, "#recipes-command", f"train.epochs={number}")


def test_one_s_own_is_saved_overwritten_when_asked_and_listed(page, folder):
    field(page, "train.beta").fill("0.3")
    says(page, "#recipes-command", "train.beta=0.3")
    page.locator("#recipes-save-name input").fill("../gentle")
    page.click("#recipes-save")
    says(page, "#recipes-save-note", "no name for a recipe")
    page.locator("#recipes-save-name input").fill("gentle")
    page.click("#recipes-save")
    says(page, "#recipes-save-note", "Saved as my-recipes/gentle.yaml")
    says(page, "#recipes-save-note", "dpo-lite recipes cp quickstart gentle train.beta=0.3")
    says(page, "#recipes-cards", "Your recipes")
    says(page, "#recipes-command", "dpo-lite train my-recipes/gentle.yaml --detach")
    says(page, "#recipes-diff", "quickstart as it ships")
    kept = folder / "my-recipes" / "gentle.yaml"
    assert load_recipe(kept).train.beta == 0.3

    page.click("[data-recipe='shipped:quickstart']")
    says(page, "#recipes-command", "dpo-lite train quickstart --detach")
    page.locator("#recipes-save-name input").fill("gentle")
    page.click("#recipes-save")
    says(page, "#recipes-save-note", "exists")
    assert load_recipe(kept).train.beta == 0.3
    page.click("#recipes-overwrite")
    says(page, "#recipes-save-note", "Saved")
    assert load_recipe(kept).train.beta == 0.1


@pytest.mark.long
def test_check_shows_memory_and_time_and_a_plan_for_another_card(page):
    page.click("#recipes-check")
    says(page, "#recipes-outcome", "Ready to launch")
    for told in ("weights", "step 0", "time", "dpo-lite check quickstart"):
        says(page, "#recipes-outcome", told)
    page.locator("#recipes-card input").fill("3090")
    page.keyboard.press("Enter")
    page.click("#recipes-plan")
    says(page, "#recipes-outcome", "It fits on 3090")
    says(page, "#recipes-outcome", "an epoch takes")
    says(page, "#recipes-outcome", "dpo-lite plan quickstart --gpu 3090")


def test_an_upload_is_examined_leafed_through_and_used(page, folder):
    rows = [
        {"prompt": f"Question {n}?", "chosen": f"<b>yes</b> {n}", "rejected": f"no {n}"}
        for n in range(30)
    ]
    rows.append({"prompt": "Odd?", "chosen": "same", "rejected": "same"})
    page.get_by_role("tab", name="Data").click()
    with page.expect_file_chooser() as chooser:
        page.click("#data-upload")
    chooser.value.set_files(
        {
            "name": "my pairs.jsonl",
            "mimeType": "application/json",
            "buffer": "\n".join(map(json.dumps, rows)).encode(),
        }
    )
    says(page, "#data-report", "Kept as my-recipes/data/my-pairs.jsonl")
    page.click("#data-examine")
    says(page, "#data-report", "31 rows")
    says(page, "#data-report", "30")  # the odd row's number
    assert page.locator("#data-report .dl-histograms svg").count() == 3
    says(page, "#data-example", "preferred")
    says(page, "#data-example", "<b>yes</b>")
    assert page.locator("#data-example mark b").count() == 0
    first = page.locator("#data-example").inner_text()
    page.click("#data-next")
    says(page, "#data-at", "2 of")
    page.wait_for_function(
        "first => document.querySelector('#data-example').innerText !== first", arg=first
    )
    says(
        page, "#data-command", "dpo-lite data my-recipes/data/my-pairs.jsonl --model builtin:myths"
    )
    page.click("#data-use")
    says(page, "#recipes-command", "data.train=my-recipes/data/my-pairs.jsonl")
    says(page, "#recipes-yaml", "my-pairs.jsonl")
    assert parse_yaml(yaml_of(page), "")["data"]["train"] == "my-recipes/data/my-pairs.jsonl"
    assert Path(folder, "my-recipes/data/my-pairs.jsonl").is_file()


def test_launch_starts_what_the_form_shows_at_the_click(page, folder):
    put(page, "train.max_steps", "1")
    field(page, "train.beta").fill("0.167")  # the server has not heard of it yet
    page.evaluate("document.querySelector('#recipes-launch').click()")
    page.wait_for_selector("#tab-runs", state="visible")
    (run,) = list_runs(folder / "runs")
    stop(run)
    assert run.name == "quickstart-1"
    assert load_recipe(run.recipe_file).train.max_steps == 1
    assert load_recipe(run.recipe_file).train.beta == 0.167


def test_a_dropped_file_is_what_would_be_trained_on(page):
    rows = [{"Frage": f"What {n}?", "good answer": f"so {n}", "bad answer": "no"} for n in range(9)]
    text = "\n".join(map(json.dumps, rows))
    page.evaluate(
        """text => {
          const carried = new DataTransfer();
          carried.items.add(new File([text], "mine.jsonl"));
          const how = {bubbles: true, cancelable: true, dataTransfer: carried};
          document.querySelector("#recipes-start").dispatchEvent(new DragEvent("drop", how));
        }""",
        text,
    )
    says(page, "#recipes-summary", "mine.jsonl, 9 rows")
    page.locator("#recipes-column-prompt").wait_for()
    page.click("#recipes-column-prompt input")  # the other two are guessed and shown
    page.get_by_role("option", name="Frage").click()
    says(page, "#recipes-seen", "What 0?")
    says(page, "#recipes-command", "data.columns=")
    says(page, "#recipes-yaml", "Frage")
    assert parse_yaml(yaml_of(page), "")["data"]["columns"] == {
        "prompt": "Frage",
        "chosen": "good answer",
        "rejected": "bad answer",
    }
