"""The plan without weights: which data it needs, and what it does where they cannot be had."""

import json
from dataclasses import replace

import pytest

from dpo_lite.errors import UserError
from dpo_lite.jobs.forecast import forecast
from dpo_lite.jobs.launch import check_divided
from dpo_lite.memory.capacity import GIB
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


def test_tasks_of_others_are_not_asked_of_divided_weights(recipe):
    asked = recipe()
    asked.eval.suite = ["arc_easy"]
    with pytest.raises(UserError, match=r"eval\.suite does not go with FSDP"):
        check_divided(asked)


@pytest.mark.slow
def test_held_out_data_that_cannot_be_had_leave_the_training_data(recipe):
    outlook = forecast(recipe(eval="gone.jsonl"), "3060")
    assert list(outlook.epochs) == [""]
    assert outlook.plan == forecast(recipe(), "3060").plan
    (note,) = outlook.notes
    assert note.startswith("planned without the held-out data: data.eval: ")


def test_what_the_host_s_memory_must_hold_is_told(recipe, monkeypatch):
    """Of a card elsewhere the need alone; here what is free, too, and where that is too little."""
    elsewhere = forecast(recipe(train="gone.jsonl"), "3060")
    assert elsewhere.ram is None
    assert "RAM: 2.0 GiB (the libraries 2.0)" in elsewhere.lines()
    monkeypatch.setattr("dpo_lite.jobs.forecast.host_memory", lambda: 2.25 * GIB)
    outlook = forecast(recipe(train="gone.jsonl"))
    assert outlook.host == {"the libraries": 2 * GIB, "the run": outlook.plan.total}
    lines = outlook.lines()
    assert any(line.startswith("RAM: 2.") and line.endswith(", 2.2 are free") for line in lines)
    assert not any(line.startswith("warning") for line in lines)
    told = replace(outlook, ram=1.5 * GIB).lines()
    (warning,) = [line for line in told if line.startswith("warning")]
    assert "more RAM than is free; close other programs" in warning


def test_training_data_that_cannot_be_had_are_assumed(recipe):
    outlook = forecast(recipe(train="gone.jsonl", eval="gone-too.jsonl"), "3060")
    assert not outlook.epochs
    (note,) = outlook.notes
    assert note.startswith("the data could not be had, so pairs of ")
