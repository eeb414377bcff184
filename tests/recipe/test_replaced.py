"""What goes with what is replaced: by overrides, in a text, and what a command line then says."""

import pytest

from dpo_lite.recipe import library, load_recipe, parse_yaml
from dpo_lite.recipe.edit import override_text
from dpo_lite.recipe.replaced import in_words, outdated
from dpo_lite.studies.sweep import plan_sweep

OLD_COPY = """
reference: base              # as recipes were once written
model: {base: builtin:myths}
data:
  train: theirs.jsonl
  eval: theirs-test.jsonl
  columns: {prompt: question}
  max_length: 256
eval:
  limit: 1000
  max_new_tokens: 40
  prompts: [theirs]
"""


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text(OLD_COPY)
    return path


def load(path, *overrides):
    lines = []
    return load_recipe(path, overrides, lines.append), lines


def test_the_reference_follows_from_the_adapter_unless_it_is_given_now(old):
    recipe, lines = load(old, "model.adapter=sft-1")
    assert recipe.reference == "start"
    (line,) = lines
    assert line.startswith("reference: base of the recipe is left out")
    recipe, lines = load(old, "model.adapter=sft-1", "reference=base")
    assert recipe.starts_apart
    assert lines == []
    recipe, lines = load(old, "model={base: builtin:myths, adapter: sft-1}")
    assert recipe.reference == "start"
    assert lines


def test_a_file_is_obeyed_as_it_is_written(old):
    text = OLD_COPY.replace("{base: builtin:myths}", "{base: builtin:myths, adapter: sft-1}")
    old.write_text(text)
    recipe, lines = load(old, "model.adapter=sft-1", "data.train=theirs.jsonl", "train.beta=1")
    assert recipe.starts_apart  # nothing is replaced by what stands there already
    assert recipe.data.eval == "theirs-test.jsonl"
    assert lines == []
    recipe, lines = load(old, "model.adapter=null")
    assert recipe.reference == "base"
    assert lines == []


def test_without_its_adapter_a_recipe_is_held_to_the_base(old):
    old.write_text("reference: start\nmodel: {base: b, adapter: a}\ndata: {train: t}\n")
    recipe, lines = load(old, "model.adapter=null")
    assert recipe.reference == "base"
    assert lines[0].endswith("the policy is held to the base")


def test_other_data_leave_what_belongs_to_the_recipes_own(old):
    recipe, lines = load(old, "data.train=mine.jsonl")
    assert recipe.data.eval is None
    assert recipe.data.columns is None
    assert recipe.data.max_length == 256
    assert recipe.eval.prompts == []
    assert recipe.eval.limit is None
    assert recipe.eval.max_new_tokens == 40
    assert lines == [
        "data.eval, data.columns, eval.prompts, eval.limit of the recipe are left out: they belong"
        " to its own data; set them anew to keep them"
    ]


def test_what_is_given_with_other_data_stays(old):
    given = ["data.train=mine.jsonl", "data.eval=theirs-test.jsonl", "eval.prompts=[mine]"]
    recipe, lines = load(old, *given, "eval.limit=null", "data.columns.rejected=worse")
    assert recipe.data.eval == "theirs-test.jsonl"
    assert recipe.eval.prompts == ["mine"]
    assert recipe.data.columns == {"rejected": "worse"}  # not beside the file's own
    (line,) = lines
    assert line.startswith("data.columns of the recipe is left out: it belongs")
    recipe, lines = load(old, "data={train: mine.jsonl, eval: held.jsonl}")
    assert recipe.data.eval == "held.jsonl"
    assert lines[0].startswith("eval.prompts, eval.limit of")


def test_defaults_are_not_worth_a_line(old):
    from dpo_lite.recipe import to_yaml

    old.write_text("model: {base: b}\ndata: {train: t}\n")
    old.write_text(to_yaml(load_recipe(old)))  # as a run keeps it: every key is there
    recipe, lines = load(old, "data.train=mine.jsonl")
    assert recipe.data.train == "mine.jsonl"
    assert lines == []


@pytest.mark.parametrize("word", ["none", "null", ""])
def test_no_held_out_data_of_its_own(old, word):
    assert load_recipe(old, [f"data.eval={word}"]).data.eval is None


def test_a_copys_text_is_settled_the_same_way(old):
    lines = []
    overrides = ["data.train=mine.jsonl", "model.adapter=sft-1", "data.columns.rejected=worse"]
    text = override_text(OLD_COPY, overrides, lines.append)
    values = parse_yaml(text, "")
    assert "reference" not in values
    assert values["data"] == {
        "train": "mine.jsonl",
        "max_length": 256,
        "columns": {"rejected": "worse"},
    }
    assert values["eval"] == {"max_new_tokens": 40}
    assert len(lines) == 2


@pytest.mark.parametrize(
    "wanted",
    [
        ["model.adapter=sft-1", "reference=base"],
        ["data.train=mine.jsonl", "data.eval=theirs-test.jsonl", "eval.limit=1000"],
        ["data.train=mine.jsonl"],
    ],
)
def test_what_differs_is_written_so_that_it_comes_out(old, wanted):
    other = load_recipe(old, wanted)
    overrides = library.as_overrides(load_recipe(old), other)
    assert load_recipe(old, overrides) == other


def test_a_sweep_over_data_says_it_once(old):
    lines = []
    sweep = plan_sweep(str(old), ["data.train=a.jsonl,b.jsonl"], say=lines.append)
    assert [point.recipe.data.eval for point in sweep.points] == [None, None]
    assert len(lines) == 1
    fixed = plan_sweep(str(old), ["data.train=a.jsonl", "train.beta=0.1,0.2"])
    assert fixed.given["data"] == {"train": "a.jsonl", "max_length": 256}


def test_the_rule_itself():
    values = {"data": {"train": "a", "eval": "b"}, "eval": None}
    assert outdated(values, {}) == []
    assert outdated(values, {"data.train": "c"}) == ["data.eval"]
    assert outdated({}, {"data.train": "c", "model.adapter": "x"}) == []
    assert in_words(values, []) == []
