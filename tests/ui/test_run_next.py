"""Next steps of a run: each is a recipe that is free of faults, or a sentence that says why not."""

import pytest

from dpo_lite.compare.votes import add_vote
from dpo_lite.recipe import load_recipe, to_yaml
from dpo_lite.runs.folder import create_run
from dpo_lite.ui.form import check_text
from dpo_lite.ui.recipe_draft import of_run
from dpo_lite.ui.run_next import STEPS, free_file, next_steps

FINISHED = {"state": "finished"}
SHIPPED = ["quickstart", "kto-quickstart", "sft-quickstart", "reward-quickstart", "ppo-quickstart"]


def make(folder, recipe):
    run = create_run(folder, "demo", "x")
    run.recipe_file.write_text(to_yaml(load_recipe(recipe)))
    return run


@pytest.mark.parametrize("recipe", SHIPPED)
def test_every_step_opens_a_recipe_or_says_why_not(tmp_path, recipe):
    run = make(tmp_path, recipe)
    steps = next_steps(tmp_path, "demo", FINISHED)
    assert tuple(steps) == STEPS
    for kind, step in steps.items():
        if step.keys:
            checked = check_text(of_run(run.path, step.keys, tmp_path).text)
            assert checked.recipe is not None, checked.reason
            assert not (tmp_path / checked.recipe.run.name).exists()
        else:
            assert step.why_not or (kind == "rounds" and run.name == "demo")
    assert steps["again"].keys


def test_a_reward_model_leads_to_ppo_and_pairs_to_a_reward_model(tmp_path):
    run = make(tmp_path, "reward-quickstart")
    step = next_steps(tmp_path, "demo", FINISHED)["judge"]
    made = check_text(of_run(run.path, step.keys, tmp_path).text).recipe
    assert (made.task, made.ppo.reward) == ("ppo", str(tmp_path / "demo"))
    assert (
        "judges nothing yet" in next_steps(tmp_path, "demo", {"state": "stopped"})["judge"].why_not
    )
    other = make(tmp_path / "other", "quickstart")
    step = next_steps(tmp_path / "other", "demo", FINISHED)["judge"]
    assert check_text(of_run(other.path, step.keys, tmp_path).text).recipe.task == "reward"


def test_votes_are_told_with_their_number(tmp_path):
    make(tmp_path, "quickstart")
    assert "vote in Compare first" in next_steps(tmp_path, "demo", FINISHED)["votes"].why_not
    shown = [{"label": n, "fingerprint": n, "answer": n} for n in ("demo", "reference")]
    add_vote(tmp_path, run="demo", prompt="?", shown=shown, sampling={}, verdict="A", blind=True)
    assert next_steps(tmp_path, "demo", FINISHED)["votes"].label == "Train on with votes (1 pair)"
    assert "has no adapter" in next_steps(tmp_path, "demo", {"state": "failed"})["votes"].why_not
    assert free_file(tmp_path, "demo").name == "demo-votes-1.jsonl"
    free_file(tmp_path, "demo").touch()
    assert free_file(tmp_path, "demo").name == "demo-votes-2.jsonl"


def test_a_sweep_is_around_the_runs_value(tmp_path):
    make(tmp_path, "quickstart")
    assert next_steps(tmp_path, "demo", FINISHED)["sweep"].sweep == (
        "train.beta",
        "0.03, 0.1, 0.3",
    )


def test_rounds_begin_with_a_finished_run_that_answers(tmp_path):
    make(tmp_path, "quickstart")
    assert next_steps(tmp_path, "demo", FINISHED)["rounds"].why_not == ""
    assert "is running" in next_steps(tmp_path, "demo", {"state": "running"})["rounds"].why_not
    make(tmp_path / "other", "reward-quickstart")
    assert "gives no answers" in next_steps(tmp_path / "other", "demo", FINISHED)["rounds"].why_not


def test_a_recipe_that_cannot_be_read_is_a_sentence(tmp_path):
    make(tmp_path, "quickstart").recipe_file.write_text("model: [")
    assert all(step.why_not for step in next_steps(tmp_path, "demo", FINISHED).values())
