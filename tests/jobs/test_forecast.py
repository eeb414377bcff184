"""The plan without weights: which data it needs, and what it does where they cannot be had."""

import json

import pytest

from dpo_lite.errors import UserError
from dpo_lite.jobs.forecast import forecast
from dpo_lite.recipe import validate_recipe


@pytest.fixture
def recipe(tiny_base, tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"cat {n}?", "chosen": "sat " * 9, "rejected": "ran"} for n in range(9)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def make(**data):
        values = {"model": {"base": tiny_base}, "data": {"train": str(pairs)} | data}
        return validate_recipe(values, "test")

    return make


@pytest.mark.slow
def test_weights_divided_over_cards(recipe):
    outlook = forecast(recipe(), "3060", cards=2)
    assert not outlook.epochs
    (note,) = outlook.notes
    assert note.startswith("2 cards, weights divided: each holds 1/2 of ")
    asked = recipe()
    asked.task = "ppo"
    with pytest.raises(UserError, match="ppo is not trained with FSDP"):
        forecast(asked, "3060", cards=2)


@pytest.mark.slow
def test_held_out_data_that_cannot_be_had_leave_the_training_data(recipe):
    outlook = forecast(recipe(eval="gone.jsonl"), "3060")
    assert list(outlook.epochs) == [""]
    assert outlook.plan == forecast(recipe(), "3060").plan
    (note,) = outlook.notes
    assert note.startswith("planned without the held-out data: data.eval: ")


def test_training_data_that_cannot_be_had_are_assumed(recipe):
    outlook = forecast(recipe(train="gone.jsonl", eval="gone-too.jsonl"), "3060")
    assert not outlook.epochs
    (note,) = outlook.notes
    assert note.startswith("the data could not be had, so pairs of ")
