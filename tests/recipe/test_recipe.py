"""The schema: what a recipe may say, and what is said about one that may not."""

import re
from pathlib import Path

import pytest
import yaml

from dpo_lite.errors import UserError
from dpo_lite.recipe import RECIPES_FOLDER, keys_table, known_keys, load_recipe, to_yaml
from dpo_lite.recipe.library import head

MINIMAL = "model: {base: builtin:myths}\ndata: {train: builtin:myths}\n"


@pytest.fixture
def minimal(tmp_path):
    path = tmp_path / "minimal.yaml"
    path.write_text(MINIMAL)
    return path


def test_defaults_and_overrides(minimal):
    recipe = load_recipe(minimal, ["train.beta=0.05", "train.lr=5e-6", "data.eval=[a, b]"])
    assert recipe.train.beta == 0.05
    assert recipe.train.lr == 5e-6
    assert recipe.data.eval == ["a", "b"]
    assert recipe.reference == "base"


def test_the_reference_follows_the_adapter(minimal):
    assert load_recipe(minimal, ["model.adapter=x"]).reference == "start"
    assert load_recipe(minimal, ["model.adapter=x", "reference=base"]).reference == "base"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.betta=1", "train.betta is no key of a recipe; did you mean train.beta"),
        ("bta=1", "bta is no key of a recipe; did you mean train.beta?"),
        ("beta=1", "did you mean train.beta"),
        ("modle.base=x", "did you mean model.base"),
        ("train.beta=x", "train.beta: must be a number, or 'auto', not 'x'"),
        ("train.beta=.inf", "train.beta: must be a finite number"),
        ("train.beta=0", "train.beta: must be above 0, or 'auto', not 0"),
        ("train.beta=yes", "train.beta: must be a number, not True"),
        ("data.train=[{source: yes}]", "data.train: entry 1: must be text, not True"),
        ("train.loss=robust", "train.loss: robust needs train.label_smoothing"),
        ("train.label_smoothing=0.5", "train.label_smoothing: must be below 0.5"),
        ("train.batch_size=0", "train.batch_size: must be at least 1, not 0"),
        ("model.quantization=nf8", "model.quantization: must be 'nf4' or 'none', not 'nf8'"),
        ("data.max_length=abc", "data.max_length: must be a whole number, or 'auto', not 'abc'"),
        ("data.train=[{source: a, x: 1}]", "data.train: entry 1: x is no key$"),
        ("data.train=[b, {source: a, weight: -1}]", "data.train: entry 2: must be above 0, not -1"),
        ("data.train=[]", "data.train: must be text, or must have at least one entry"),
        ("data.columns=x", "data.columns: must be a mapping"),
        ("train=5", "train: must be a section"),
        ("run.name=../x", "run.name: must be letters, digits"),
        ("reference=start", "reference: start needs model.adapter"),
        ("model.base=", "model.base: is missing"),
        ("model.base=''", "model.base: must not be empty"),
        ("nonsense", "is no override"),
        ("train={", "override train"),
    ],
)
def test_faults_are_sentences(minimal, override, message):
    with pytest.raises(UserError, match=message) as caught:
        load_recipe(minimal, [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no keys"),
        ("model: [", "line"),
        ("a: 1\na: 2\n", "the key 'a' stands twice"),
        ("a: &x 1\nb: *x\n", "aliases"),
        ("model: {base: x}\n", "data is missing"),
        ("a: !!python/object:os.system {}\n", "line 1"),
    ],
)
def test_broken_files(tmp_path, text, message):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_recipe(path)


def test_a_missing_recipe_names_the_nearest():
    with pytest.raises(UserError, match="did you mean quickstart"):
        load_recipe("quikstart")


def test_the_resolved_recipe_loads_to_itself(minimal, tmp_path):
    recipe = load_recipe(minimal, ["train.lr=5e-6"])
    (tmp_path / "again.yaml").write_text(to_yaml(recipe))
    assert load_recipe(tmp_path / "again.yaml") == recipe


RECIPES = sorted(RECIPES_FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes(path):
    """Each validates, is short, and says what it is for, for which card and on whose word."""
    recipe = load_recipe(path)
    text = path.read_text()
    assert len(text.splitlines()) <= 50
    facts = head(text)
    assert set(facts) == {"purpose", "card", "time"}
    assert "GB" in facts["card"]
    if not recipe.model.base.startswith("builtin:"):
        assert "Hyper-parameters:" in text
    assert recipe.eval.prompts or recipe.task == "reward"  # which answers nothing


def test_shipped_recipes_are_complete():
    names = {path.stem for path in RECIPES}
    assert names >= {
        "quickstart",
        "qwen2.5-0.5b",
        "llama-3.2-1b",
        "qwen3-1.7b",
        "smollm3-3b",
        "qwen3-4b",
        "zephyr-7b",
        "llama-3.1-8b",
        "qwen3-14b",
        "smollm2-135m",
        "smollm2-360m",
        "qwen3.5-0.8b",
        "qwen3.5-2b",
        "qwen3.5-4b",
        "qwen3.5-9b",
        "gemma-4-e4b",
        "gemma-4-12b",
        "ministral-3-3b",
        "ministral-3-8b",
        "lfm2.5-1.2b",
        "granite-4.0-micro",
        "gpt-oss-20b",
        "qwen3-30b-a3b",
    }


@pytest.mark.parametrize(
    ("overrides", "beta"),
    [
        ([], 0.1),
        (["train.beta=auto"], 0.1),
        (["train.loss=sigmoid_norm"], 5.0),
        (["train.loss=sigmoid_norm", "train.beta=2"], 2.0),
        (["train.loss=robust", "train.label_smoothing=0.1"], 0.1),
    ],
)
def test_each_loss_has_its_own_beta(minimal, overrides, beta):
    """And the resolved recipe says the number."""
    recipe = load_recipe(minimal, overrides)
    assert recipe.train.beta == beta
    assert f"beta {beta:g}" in recipe.train.objective
    assert f"\n  beta: {beta}\n" in to_yaml(recipe)


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.loss=ipo", "train.label_smoothing=0.1"],
        ["train.loss=sigmoid_norm", "train.label_smoothing=0.1"],
        ["train.label_smoothing=0.1", "train.engine=trl"],
    ],
)
def test_smoothing_is_refused_where_it_would_do_nothing(minimal, overrides):
    with pytest.raises(UserError, match=r"label_smoothing goes|does not smooth"):
        load_recipe(minimal, overrides)


def test_every_key_is_explained_and_documented():
    assert all(field.description for field in known_keys().values())
    documented = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
    assert keys_table() in documented, "run: python -m dpo_lite.recipe, and paste the table"


def test_recipe_yaml_is_plain(minimal):
    assert yaml.safe_load(to_yaml(load_recipe(minimal)))["train"]["beta"] == 0.1


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train.keep=best"], "train.keep: best looks at the held-out data while training: set"),
        (["train.kl_budget=5"], "train.kl_budget looks at the held-out data while training: set"),
        (["train.patience=3"], "train.patience goes with train.keep: best"),
        (
            ["train.keep_by=margin", "train.eval_steps=5"],
            "train.keep_by goes with train.keep: best",
        ),
        (
            ["task=sft", "train.keep=best", "train.keep_by=margin", "train.eval_steps=5"],
            "train.keep_by: margin is not measured by task: sft; take loss",
        ),
        (
            ["task=reward", "train.kl_budget=5", "train.eval_steps=5"],
            "train.kl_budget is of a policy, and task: reward trains none",
        ),
        (["train.keep=best", "train.eval_steps=5", "train.patience=0"], "must be at least 1"),
    ],
)
def test_what_is_kept_is_chosen_by_what_is_measured(minimal, overrides, said):
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        load_recipe(minimal, overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("task", "by"), [("dpo", "loss"), ("sft", "loss"), ("reward", "loss"), ("ppo", "reward")]
)
def test_each_task_has_its_own_best(minimal, tmp_path, task, by):
    """And the resolved recipe says which, and loads to itself."""
    rewarded = ["ppo.reward=r.py:f"] if task == "ppo" else []
    given = [f"task={task}", "train.keep=best", "train.eval_steps=5", "train.patience=2"]
    recipe = load_recipe(minimal, [*given, *rewarded])
    assert recipe.train.keep_by == by
    (tmp_path / "again.yaml").write_text(to_yaml(recipe))
    assert load_recipe(tmp_path / "again.yaml") == recipe


def test_a_key_that_is_empty_may_be_left_out():
    with pytest.raises(UserError, match=r"eval.prompts: is empty; leave it out for its default"):
        load_recipe("quickstart", ["eval.prompts=null"])
    with pytest.raises(UserError, match=r"data.train: is missing; it is required"):
        load_recipe("quickstart", ["data.train=null"])
