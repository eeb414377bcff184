"""The form follows the schema, the YAML follows the form, and faults stand beside their fields."""

import pytest

from dpo_lite.recipe import RECIPES_FOLDER, known_keys, parse_yaml
from dpo_lite.recipe.edit import UNSET
from dpo_lite.ui.form import OF_TASK, TITLES, change, check_text, fields

FIELDS = {field.key: field for field in fields()}
QUICKSTART = (RECIPES_FOLDER / "quickstart.yaml").read_text()


def test_every_key_has_a_field_and_few_stand_in_front():
    assert list(FIELDS) == list(known_keys())
    assert {field.section for field in FIELDS.values()} <= set(TITLES)
    of_any_task = [f for f in FIELDS.values() if f.section not in ("ppo", "rlhf")]
    assert 10 <= sum(field.common for field in of_any_task) <= 15
    assert all(field.help for field in FIELDS.values())


@pytest.mark.parametrize(
    ("key", "kind", "hint"),
    [
        ("train.loss", "choice", ""),
        ("train.checkpointing", "choice", ""),
        ("train.lr", "number", "above 0, below 1, default 5.0e-6"),
        ("data.max_length", "number", "8 or more, default auto"),
        ("data.train", "yaml", ""),
        ("data.columns", "yaml", ""),
        ("eval.prompts", "lines", "one per line"),
        ("run.name", "text", ""),
        ("rlhf.ppo", "yaml", ""),
        ("rlhf.ppo_betas", "yaml", "default [0.1]"),
        ("ppo.reward", "yaml", ""),
        ("judge.url", "text", ""),
    ],
)
def test_kinds_and_bounds_come_from_the_types(key, kind, hint):
    assert FIELDS[key].kind == kind
    assert hint in FIELDS[key].help


VALUES = {
    "train.beta": 0.05,
    "train.lr": 1e-6,
    "data.max_length": "auto",
    "data.limit": 5,
    "train.checkpointing": True,
    "hub.private": False,
    "reference": "base",
    "run.name": "5e-6",
    "eval.prompts": ["a: b", "two\nlines", "back\\nslash", "next\x85line", "and\u2028this"],
    "data.train": ["x", {"source": "y", "weight": 2}],
    "data.eval": "my file.jsonl",
    "data.columns": {"prompt": "question"},
    "adapter.targets": ["q_proj"],
    "train.loss": {"sigmoid": 0.8, "bco_pair": 0.2, "sft": 1},
    "train.ld_alpha": 0.5,
    "train.dynamic_beta": 0.6,
    "ppo.reward": ["reward-1", {"source": "rules.py:short", "weight": -0.2}],
    "judge.body": {"reasoning_effort": "low", "max_tokens": None},
    "rlhf.sft": {"train": {"lr": 1e-4, "epochs": 2}},
    "rlhf.ppo_betas": [0.1, 1.0],
    "rlhf.seeds": [1, 2],
}


@pytest.mark.parametrize("key", VALUES)
def test_a_value_survives_the_form(key):
    field, value = FIELDS[key], VALUES[key]
    assert field.read(field.shown(value)) == value
    section, _, leaf = key.rpartition(".")
    read = parse_yaml(change(QUICKSTART, field, field.shown(value)), key)
    assert (read[section] if section else read)[leaf] == value


@pytest.mark.parametrize("path", sorted(RECIPES_FOLDER.glob("*.yaml")), ids=lambda p: p.stem)
def test_a_form_filled_from_a_recipe_writes_the_same_recipe(path):
    text = path.read_text()
    checked = check_text(text)
    assert checked.faults == {}
    assert checked.reason == ""
    for field in FIELDS.values():
        value = checked.value(field.key)
        if value is not UNSET:
            assert check_text(change(text, field, field.shown(value))).recipe == checked.recipe


def test_an_empty_field_means_the_default():
    assert FIELDS["train.beta"].shown(UNSET) == ""
    assert "beta" not in parse_yaml(change(QUICKSTART, FIELDS["train.beta"], " "), "")["train"]
    assert FIELDS["reference"].shown(UNSET) == "default"
    assert "reference" not in parse_yaml(change(QUICKSTART, FIELDS["reference"], "default"), "")


WRONG = {
    "reference": "start",
    "run.name": "../x",
    "adapter.r": "0",
    "adapter.targets": "{a: b}",
    "data.train": "[]",
    "data.eval": "[{source: a, x: 1}]",
    "data.columns": "question",
    "data.max_length": "long",
    "data.limit": "[",
    "train.beta": "-1",
    "train.lr": "fast",
    "train.warmup": "yes",
    "train.batch_size": "1.5",
    "train.seed": "-1",
    "model.base": "",
    "hub.repo": "x",
}


@pytest.mark.parametrize("key", WRONG)
def test_wrong_input_is_said_beside_its_field(key):
    checked = check_text(change(QUICKSTART, FIELDS[key], WRONG[key]))
    assert list(checked.faults) == [key]
    assert checked.recipe is None
    assert checked.reason


def test_each_number_refuses_text_and_each_choice_what_is_not_offered():
    for field in FIELDS.values():
        if field.kind == "number" or (field.kind == "choice" and field.key != "reference"):
            checked = check_text(change(QUICKSTART, field, "nonsense"))
            assert list(checked.faults) == [field.key]
            assert field.shown(checked.value(field.key)) == "nonsense"


def test_several_faults_at_once_and_what_belongs_to_no_field():
    text = QUICKSTART.replace("beta: 0.1", "betta: 0.1").replace("r: 16", "r: x")
    checked = check_text(text)
    assert checked.faults["adapter.r"] == "must be a whole number, not 'x'"
    assert "did you mean train.beta" in checked.faults[""]
    assert checked.reason.endswith("(and 1 more)")


@pytest.mark.parametrize(
    ("text", "message"),
    [("train: [", "line 1"), ("a: 1\na: 2\n", "line 2"), ("", "empty"), ("- a", "empty")],
)
def test_a_text_that_is_no_recipe(text, message):
    assert message in check_text(text).faults[""]


def test_a_missing_section_is_said_beside_what_it_lacks():
    assert set(check_text("task: dpo").faults) == {"model.base", "data.train"}


RLHF = "task: rlhf\nmodel: {base: b}\ndata: {train: d}\nrlhf:\n  ppo: {train: {lr: 1.0e-4}}\n"


def test_a_wrong_key_of_a_step_is_said_beside_it():
    assert check_text(RLHF).faults == {}
    wrong = check_text(RLHF.replace("lr:", "lrr:"))
    assert wrong.recipe is None
    assert "did you mean train.lr" in wrong.faults["rlhf.ppo"]


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        (QUICKSTART, set()),
        (RLHF, {"ppo", "rlhf"}),
        ("task: ppo\nmodel: {base: b}", {"ppo"}),
        (f"{QUICKSTART}\nppo: {{clip: 0.1}}\n", {"ppo"}),  # wrong, so it must be seen
        ("a: [", set()),
    ],
    ids="dpo rlhf ppo misplaced no-yaml".split(),
)
def test_sections_are_shown_to_the_tasks_that_use_them(text, sections):
    checked = check_text(text)
    assert {
        section for section in TITLES if not checked.shows(section)
    } == OF_TASK.keys() - sections


def test_a_sum_of_losses_goes_through_its_choice():
    field = FIELDS["train.loss"]
    weights = {"sigmoid": 0.8, "bco_pair": 0.2}
    assert field.read(field.shown(weights)) == weights
    assert field.read("sigmoid + hinge") == "sigmoid + hinge"
    assert field.shown_choice(field.shown(weights)) == "{sigmoid: 0.8, bco_pair: 0.2}"
    assert FIELDS["task"].shown_choice("sigmoid + hinge") is None
