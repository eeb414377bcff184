"""A recipe that becomes one of another task is free of faults, whatever it was written for."""

import pytest

from dpo_lite.recipe import known_keys, load_recipe
from dpo_lite.recipe.edit import override_text
from dpo_lite.recipe.loading import parse_yaml, to_yaml, validate_recipe
from dpo_lite.recipe.other_task import keys_for

FROM = ["quickstart", "kto-quickstart", "sft-quickstart", "reward-quickstart", "grpo-quickstart"]
BESIDE = {"ppo": ["ppo.reward=runs/r"]}


@pytest.mark.parametrize("name", FROM)
@pytest.mark.parametrize("task", ["dpo", "kto", "sft", "reward", "ppo"])
def test_every_task_can_become_every_other(name, task):
    recipe = load_recipe(name)
    keys = [*keys_for(recipe, task), *BESIDE.get(task, [])]
    text = override_text(to_yaml(recipe), keys)
    made = validate_recipe(parse_yaml(text, "it"), "it")
    assert made.task == task
    assert made.model == recipe.model
    assert made.adapter == recipe.adapter
    assert made.data.train == recipe.data.train


def test_a_loss_of_its_own_does_not_follow():
    keys = keys_for(load_recipe("quickstart", ["train.loss=ipo", "train.sft_weight=0.5"]), "kto")
    assert "train.loss=sigmoid" in keys
    assert "train.sft_weight=auto" in keys
    assert keys_for(load_recipe("kto-quickstart"), "kto") == []


@pytest.mark.parametrize("task", ["kto", "sft", "reward", "ppo"])
def test_what_changes_how_two_answers_compare_does_not_follow(task):
    recipe = load_recipe("quickstart", ["train.ld_alpha=0.5", "train.dynamic_beta=0.6"])
    keys = [*keys_for(recipe, task), *BESIDE.get(task, [])]
    made = validate_recipe(parse_yaml(override_text(to_yaml(recipe), keys), "it"), "it")
    assert (made.train.ld_alpha, made.train.dynamic_beta) == (None, recipe_default("dynamic_beta"))


def recipe_default(key):
    return known_keys()[f"train.{key}"].get_default(call_default_factory=True)
