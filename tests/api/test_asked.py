"""Keyword arguments make the recipe that the command line's overrides make, with its sentences."""

from pathlib import Path

import numpy
import pytest

from dpo_lite.api.asked import asked_recipe, dotted
from dpo_lite.errors import UserError
from dpo_lite.recipe import load_recipe


def ask(recipe=None, keys=None, **given):
    return asked_recipe(recipe, keys, given)[0]


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("given", "overrides"),
    [
        ({"beta": 0.05}, ["train.beta=0.05"]),
        ({"lr": 1e-05, "epochs": 2, "r": 8}, ["train.lr=1e-5", "train.epochs=2", "adapter.r=8"]),
        (
            {"name": "no", "prompts": ["a: b", "'\n"]},
            ["run.name='no'", 'eval.prompts=["a: b","\'\\n"]'],
        ),
        (
            {"template": {"a": None}, "max_steps": None},
            ["data.template={a: null}", "train.max_steps="],
        ),
        ({"keys": {"eval.limit": 3, "data.limit": 9}}, ["eval.limit=3", "data.limit=9"]),
        ({"train": {"beta": 0.3}, "data": {"limit": 4}}, ["train.beta=0.3", "data.limit=4"]),
        (
            {"beta": numpy.float64(0.25), "seed": numpy.int64(7)},
            ["train.beta=0.25", "train.seed=7"],
        ),
        ({"data": "pairs.jsonl"}, ["data.train=pairs.jsonl"]),  # which takes the prompts along
        ({"data": Path("a.jsonl"), "eval": "b.jsonl"}, ["data.train=a.jsonl", "data.eval=b.jsonl"]),
        ({"loss": "ipo", "beta": "auto"}, ["train.loss=ipo", "train.beta=auto"]),
    ],
    ids=str,
)
def test_the_recipe_is_that_of_the_command_line(given, overrides):
    assert ask("quickstart", **given) == load_recipe("quickstart", overrides)


def test_without_a_recipe_and_with_its_sections():
    by_name = ask(base="builtin:myths", data="builtin:myths", reward=None)
    sections = {"model": {"base": "builtin:myths"}, "data": {"train": "builtin:myths"}}
    assert by_name == ask(sections)
    assert ask(sections, beta=0.2).train.beta == 0.2
    assert "train" not in sections  # what was given is not changed


def test_what_went_with_replaced_data_is_told():
    said = []
    asked_recipe("quickstart", None, {"data": "pairs.jsonl"}, said.append)
    assert said == [
        "eval.prompts of the recipe is left out: it belongs to its own data; set it anew to keep it"
    ]


def test_names_of_runs_follow_the_recipe():
    assert asked_recipe("quickstart", None, {})[1] == "quickstart"
    assert asked_recipe(None, None, {"base": "b", "data": "d"})[1] == "run"


@pytest.mark.parametrize("name", ["learning_rate", "lora_dropout", "betta", "num_train_epochs"])
def test_a_name_that_is_no_key_is_the_sentence_of_the_command_line(name):
    with pytest.raises(UserError) as here:
        ask("quickstart", **{name: 1})
    with pytest.raises(UserError) as there:
        load_recipe("quickstart", [f"{name}=1"])
    assert str(here.value) == str(there.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"limit": 3}, "limit may be data.limit or eval.limit; say which: keys={'data."),
        ({"beta": -1}, "train.beta: must be above 0"),
        ({"beta": object()}, "train.beta: a object cannot be written into a recipe"),
        ({"keys": {"train.lr.x": 1}}, "lr is no section"),
    ],
)
def test_faults_are_one_sentence(given, told):
    with pytest.raises(UserError) as caught:
        ask("quickstart", **given)
    assert told in str(caught.value)


def test_a_recipe_that_is_none():
    with pytest.raises(UserError, match="did you mean quickstart"):
        ask("quickstarts")
    with pytest.raises(UserError, match="The recipe is a int"):
        ask(3)
    with pytest.raises(UserError, match=r"model\.base is missing"):
        ask(data="pairs.jsonl")


def test_every_key_can_be_given_by_its_whole_name():
    assert dotted({"reward": "a", "answers": 2}) == {"ppo.reward": "a", "ppo.answers": 2}
    assert dotted({"task": "sft", "train": "rows"}) == {"task": "sft", "data.train": "rows"}


def test_rows_lie_beside_the_runs():
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}]
    for given, folder in (
        ({"folder": "mine"}, "mine"),
        ({"keys": {"run.folder": "other"}}, "other"),
        ({}, "runs"),
    ):
        recipe = ask("quickstart", data=rows, eval=rows, **given)
        assert Path(recipe.data.train).parent == Path(folder, ".rows")
        assert recipe.data.eval == recipe.data.train
        assert Path(recipe.data.train).is_file()


def test_rows_in_a_recipe_of_dicts_are_rows_too(tmp_path):
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}]
    given = {"model": {"base": "a/b"}, "data": {"train": rows}, "run": {"folder": str(tmp_path)}}
    recipe, _ = asked_recipe(given, None, {})
    assert Path(recipe.data.train).parent == tmp_path / ".rows"
    assert given["data"]["train"] is rows
    with pytest.raises(UserError, match=r"^keys is a list; give a dict of keys"):
        asked_recipe(given, ["train.beta"], {})
