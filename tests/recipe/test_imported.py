"""Other programs' configurations: what each key becomes, and that none is passed over."""

import pytest
import yaml
from typer.testing import CliRunner

from dpo_lite.cli import app
from dpo_lite.errors import UserError
from dpo_lite.recipe import load_recipe, validate_recipe
from dpo_lite.recipe.imported import LEFT, SAME, TAKEN, imported

TRL = """
model_name_or_path: org/base
dataset_name: org/pairs
learning_rate: 5.0e-5
num_train_epochs: 1
per_device_train_batch_size: 4
gradient_accumulation_steps: 8
loss_type: [ipo]
beta: 0.2
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
use_peft: true
load_in_4bit: true
max_prompt_length: 512
warmup_steps: 10
max_steps: 100
"""
LLAMA_FACTORY = """
stage: dpo
model_name_or_path: org/base
finetuning_type: lora
lora_rank: 8
lora_target: q_proj,v_proj
pref_beta: 0.1
pref_loss: simpo
dataset: pairs.jsonl
cutoff_len: 1024
learning_rate: 5.0e-6
lr_scheduler_type: polynomial
warmup_ratio: 0.1
bf16: true
quantization_bit: 8
"""
AXOLOTL = """
base_model: org/base
adapter: qlora
rl: ipo
trl: {beta: 0.3}
datasets: [{path: org/pairs, split: train, type: chatml.intel}]
val_set_size: 0.05
sequence_len: 2048
lora_target_linear: true
micro_batch_size: 2
gradient_accumulation_steps: 4
optimizer: adamw_bnb_8bit
odd_key: 3
"""
SWIFT = """
rlhf_type: kto
model: org/base
dataset: [a.jsonl, b.jsonl]
tuner_type: lora
lora_rank: 8
target_modules: all-linear
learning_rate: 1.0e-4
gradient_accumulation_steps: 16
split_dataset_ratio: 0.01
"""


def keys(text):
    found = imported(yaml.safe_load(text))
    validate_recipe(found.values(), "test")
    return found.keys, {name: (what, words) for name, what, words in found.rows}


def test_trl():
    found, told = keys(TRL)
    assert found == {
        "train.batch_size": 32, "model.quantization": "nf4", "model.base": "org/base",
        "data.train": "org/pairs", "train.lr": 5e-5, "train.epochs": 1, "train.loss": "ipo",
        "train.beta": 0.2, "adapter.r": 32, "adapter.alpha": 16, "train.max_steps": 100,
        "train.warmup": 0.1,
    }  # fmt: skip
    assert told["num_train_epochs"][0] == told["load_in_4bit"][0] == SAME
    assert told["beta"] == (TAKEN, "train.beta: 0.2")
    assert told["lora_dropout"][0] == told["max_prompt_length"][0] == LEFT
    assert "no dropout" in told["lora_dropout"][1]


def test_a_list_of_losses_is_a_sum():
    found = imported(
        {
            "model_name_or_path": "org/base",
            "dataset_name": "org/pairs",
            "loss_type": ["sigmoid", "bco_pair", "sft"],
            "loss_weights": [0.8, 0.2, 1.0],
            "ld_alpha": 0.5,
        }
    )
    assert ("loss_type, loss_weights", TAKEN) in [row[:2] for row in found.rows]
    train = validate_recipe(found.values(), "imported").train
    assert (train.loss, train.sft_weight) == ("0.8 sigmoid + 0.2 bco_pair", 1.0)
    assert train.ld_alpha == 0.5


def test_llama_factory():
    found, told = keys(LLAMA_FACTORY)
    assert (found["task"], found["train.loss"]) == ("dpo", "simpo")
    assert found["adapter.targets"] == ["q_proj", "v_proj"]
    assert found["data.max_length"] == 1024
    assert "model.quantization" not in found
    assert "8 bits are not had" in told["quantization_bit"][1]
    assert told["lr_scheduler_type"][0] == LEFT


def test_axolotl():
    found, told = keys(AXOLOTL)
    assert (found["train.loss"], found["train.beta"]) == ("ipo", 0.3)
    assert (found["data.train"], found["data.eval_share"]) == ("org/pairs", 0.05)
    assert (found["model.quantization"], found["train.batch_size"]) == ("nf4", 8)
    assert found["train.optimizer"] == "adamw_8bit"
    assert "without split, type" in told["datasets"][1]
    assert told["odd_key"][0] == LEFT


def test_swift():
    found, told = keys(SWIFT)
    assert (found["task"], found["data.train"]) == ("kto", ["a.jsonl", "b.jsonl"])
    assert (found["model.quantization"], found["train.batch_size"]) == ("none", 16)
    assert "times the size per card" in told["gradient_accumulation_steps"][1]
    said = [words for name, _, words in imported(yaml.safe_load(SWIFT)).rows if "not said" in name]
    assert any(words.startswith("train.epochs is 1.0 here") for words in said)


@pytest.mark.parametrize("text", [TRL, LLAMA_FACTORY, AXOLOTL, SWIFT])
def test_no_key_is_passed_over(text):
    given = yaml.safe_load(text)
    names = " ".join(name for name, _, _ in imported(given).rows)
    inside = given.pop("trl", {})
    assert [name for name in [*given, *inside] if name not in names] == []


def test_values_that_cannot_be_read_are_told_and_not_fatal():
    given = {"model": "m", "quant_bits": "4bit", "micro_batch_size": "auto"}
    found = imported(given)
    assert (found.keys["model.quantization"], "train.batch_size" in found.keys) == ("nf4", False)
    given = {"model": "m", "warmup_ratio": "some", "val_set_size": [1], "datasets": 3, "rank": None}
    found = imported(given)
    assert {name: what for name, what, _ in found.rows if name in given and name != "model"} == {
        "warmup_ratio": LEFT, "val_set_size": LEFT, "datasets": LEFT, "rank": SAME
    }  # fmt: skip


def test_what_is_no_training():
    with pytest.raises(UserError, match="names no model"):
        imported({"a": 1})
    with pytest.raises(UserError, match="stage: pt is not had"):
        imported({"stage": "pt", "model": "m"})


@pytest.mark.parametrize("where", [["mine"], ["my-recipes/mine.yaml"], ["--to", "mine"]])
def test_the_command_writes_a_recipe_that_loads(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs.yaml").write_text(AXOLOTL)
    asked = ["import", "theirs.yaml", *where]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert load_recipe("my-recipes/mine.yaml").train.beta == 0.3
    assert isinstance(CliRunner().invoke(app, asked).exception, UserError)  # it exists now


@pytest.mark.parametrize(
    ("given", "row"),
    [
        ({"report_to": "wandb"}, ("report_to", TAKEN, "run.report_to: ['wandb']")),
        (
            {"report_to": ["trackio", "mlflow"]},
            ("report_to", TAKEN, "run.report_to: ['trackio', 'mlflow']"),
        ),
        ({"use_wandb": True}, ("use_wandb", TAKEN, "run.report_to: ['wandb']")),
        ({"report_to": "none"}, ("report_to", SAME, "run.report_to: no tracker is told")),
        ({"logging_steps": 10}, ("logging_steps", LEFT, "every update is logged")),
    ],
)
def test_trackers_of_theirs_are_told_here_too(given, row):
    assert row in imported({"model": "org/base", **given}).rows


def test_a_name_of_their_list_of_datasets_is_none_here():
    found = imported({"model": "org/base", "stage": "dpo", "dataset": "my_pairs"})
    assert "data.train" not in found.keys
    (why,) = (why for name, _, why in found.rows if name == "dataset")
    assert "dataset_info.json" in why
    assert imported({"model": "b", "dataset": "a.jsonl"}).keys["data.train"] == "a.jsonl"


def test_how_many_rows_swift_takes_is_no_part_of_a_name():
    found = imported({"model": "a/b", "dataset": ["org/pairs#500"]})
    assert (found.keys["data.train"], found.keys["data.limit"]) == ("org/pairs", 500)
    both = imported({"model": "a/b", "dataset": ["org/a#500", "b.jsonl"]})
    assert both.keys["data.train"] == ["org/a", "b.jsonl"]
    assert [what for name, what, _ in both.rows if name == "dataset"] == [TAKEN, LEFT]


def test_a_recipe_of_ours_is_none_of_theirs():
    with pytest.raises(UserError, match=r"^The file is a recipe already"):
        imported({"model": {"base": "a/b"}, "data": {"train": "x.jsonl"}})
