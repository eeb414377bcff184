"""A sweep as it is typed: what it would be, or what is wrong with it."""

import pytest

from dpo_lite.errors import UserError
from dpo_lite.recipe import to_yaml
from dpo_lite.runs.folder import create_run
from dpo_lite.studies.sweep import plan_sweep
from dpo_lite.ui import sweep_draft
from dpo_lite.ui.form import check_text
from dpo_lite.ui.recipe_draft import START, open_draft
from dpo_lite.ui.sweep_draft import keys_offered, plan, seconds_of_alike, words

BETA = ("train.beta", "0.03, 0.1,0.3")


@pytest.fixture
def draft(tmp_path):
    return open_draft(START, tmp_path)


def planned(draft, rows, runs, name="", whole=False):
    return plan(draft, check_text(draft.text).recipe, rows, name, runs, whole)


def test_the_command_is_the_sweep(draft, tmp_path):
    rows = [BETA, ("adapter.r", "8, 16"), ("", None)]
    found = planned(draft, rows, tmp_path, "wide")
    grid = ["train.beta=0.03,0.1,0.3", "adapter.r=8,16"]
    folder = f"run.folder={tmp_path}"
    assert found.command == ["dpo-lite", "sweep", "quickstart", folder, *grid, "--name", "wide"]
    again = plan_sweep("quickstart", [folder, *grid], "wide")
    assert [p.run.name for p in again.points] == [p.run.name for p in found.sweep.points]
    assert found.count == len(found.sweep.points) == 6
    assert found.study.path == tmp_path / "wide.sweep"
    assert words(found, 65).startswith("6 runs, one after the other: 3 of train.beta × 2 of adap")
    assert "About 65 s each, 6 min in all" in words(found, 65)
    assert "Plan for this card" in words(found, None)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([("", "")], "Choose a key"),
        ([("", "1, 2")], "Which key is 1, 2"),
        ([("train.beta", "0.1,")], "two values or more"),
        ([("train.bta", "1, 2")], "did you mean train.beta"),
        ([("train.beta", "0.1, -3")], "must be above 0"),
        ([("train.beta", "1, 1")], "twice"),
        ([("train.seed", ",".join(map(str, range(1100))))], "1,100 runs"),
        ([("run.name", "a, b")], "cannot be swept"),
    ],
)
def test_what_is_wrong_is_said(draft, tmp_path, rows, why):
    with pytest.raises(UserError, match=why):
        planned(draft, rows, tmp_path)


def test_of_many_runs_each_key_is_looked_at_by_itself(draft, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_draft, "CHECKED_WHOLE", 3)
    rows = [("train.beta", "0.1, 0.2"), ("train.lr", "1e-4, 2e-4")]
    found = planned(draft, rows, tmp_path)
    assert (found.count, len(found.sweep.points)) == (4, 2)
    assert len(planned(draft, rows, tmp_path, whole=True).sweep.points) == 4
    with pytest.raises(UserError, match="must be above 0"):
        planned(draft, [rows[0], ("train.lr", "1e-4, -1")], tmp_path)


def test_a_sweep_that_is_there_with_other_values_is_not_begun(draft, tmp_path):
    found = planned(draft, [BETA], tmp_path)
    create_run(tmp_path, found.sweep.points[0].run.name, "x")
    with pytest.raises(UserError, match="not of this sweep"):
        planned(draft, [BETA], tmp_path)


def test_keys_that_suit_the_task_are_offered_the_usual_ones_first():
    assert keys_offered("dpo")[:2] == ["train.beta", "train.lr"]
    assert "train.loss" not in keys_offered("sft")
    assert not any(key.startswith(("run.", "hub.", "data.")) for key in keys_offered("dpo"))


def test_a_finished_run_of_the_same_kind_tells_the_time(draft, tmp_path):
    recipe = check_text(draft.text).recipe
    run = create_run(tmp_path, "one", "x")
    run.recipe_file.write_text(to_yaml(recipe))
    run.update_status(state="finished")
    (run.path / "results.json").write_text('{"sets": {}, "seconds": 42.0}')
    other = recipe.model_copy(deep=True)
    other.train.beta, other.adapter.r = 0.7, 4  # which cost no time
    assert seconds_of_alike(other, tmp_path, ["one"]) == 42.0
    other.train.epochs = 9
    assert seconds_of_alike(other, tmp_path, ["one"]) is None
