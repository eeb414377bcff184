"""Keys of other trainers lead to ours, not to what is spelt alike."""

import pytest

from dpo_lite.errors import UserError
from dpo_lite.recipe import load_recipe
from dpo_lite.recipe.aliases import ALIASES, NOT_HAD
from dpo_lite.recipe.tables import known_keys


def test_every_alias_leads_to_a_key_and_none_is_a_key_itself():
    keys = known_keys()
    assert set(ALIASES.values()) <= set(keys)
    assert not {*ALIASES, *NOT_HAD} & set(keys)
    assert not set(ALIASES) & set(NOT_HAD)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("train.learning_rate", "it is called train.lr here"),
        ("learning_rate", "train.lr here"),
        ("lora_r", "adapter.r here"),
        ("adapter.lora-rank", "adapter.r here"),
        ("base_model", "model.base here"),
        ("model_name_or_path", "model.base here"),
        ("gradient_accumulation_steps", "train.batch_size here"),
        ("train.per_device_train_batch_size", "train.batch_size here"),
        ("cutoff_len", "data.max_length here"),
        ("report_to", "did you mean run.report_to"),
        ("adapter.lora_dropout", "there is no dropout"),
        ("max_steps", "did you mean train.max_steps"),  # one of our own names, out of its section
        ("train.betta", "did you mean train.beta"),
    ],
)
def test_what_is_said_of_a_foreign_key(key, said):
    with pytest.raises(UserError) as failed:
        load_recipe("quickstart", [f"{key}=1"])
    assert said in str(failed.value)


def test_a_whole_foreign_file_is_told_key_by_key(tmp_path):
    """The shape of LLaMA-Factory's files: one level, no sections."""
    path = tmp_path / "lf.yaml"
    path.write_text(
        "model_name_or_path: org/model\nstage: dpo\nfinetuning_type: lora\nlora_rank: 8\n"
        "lora_target: all\npref_beta: 0.1\ndataset: pairs\ncutoff_len: 2048\n"
        "learning_rate: 5.0e-6\nnum_train_epochs: 3.0\nbf16: true\n"
    )
    with pytest.raises(UserError) as failed:
        load_recipe(path)
    text = str(failed.value)
    for key in ("model.base", "adapter.r", "adapter.targets", "train.beta", "data.train"):
        assert f"it is called {key} here" in text
    assert "did you mean" not in text
