"""Which adapters training can go on from, and why others are refused before anything is loaded."""

import pytest
import torch
from safetensors.torch import save_file

from dpo_lite.errors import UserError
from dpo_lite.files import write_json
from dpo_lite.model.adapter_files import adapter_folder, check_adapter, mean_of
from dpo_lite.model.safetensors_header import tensor_places
from dpo_lite.recipe import validate_recipe

CONFIG = {"peft_type": "LORA", "base_model_name_or_path": "some/base-1b", "r": 2, "lora_alpha": 4}


@pytest.fixture
def adapter(tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    write(folder)
    return folder


def write(folder, up=1.0, **config):
    tensors = {"q.lora_A.weight": torch.ones(2, 4), "q.lora_B.weight": torch.full((4, 2), up)}
    save_file(tensors, folder / "adapter_model.safetensors")
    write_json(folder / "adapter_config.json", CONFIG | config)


def test_a_good_one(adapter):
    assert adapter_folder(str(adapter)) == adapter
    assert check_adapter(adapter, "some/base-1b", "x")["r"] == 2
    check_adapter(adapter, "copies/base-1b-bnb-4bit", "x")  # the same model in 4 bits
    check_adapter(adapter, str(adapter), "x")  # a local base has no name to compare


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"base_model_name_or_path": "some/other-1b"},
            "trained on some/other-1b, not on some/base",
        ),
        ({"base_model_name_or_path": "builtin:myths"}, "set model.base=builtin:myths"),
        ({"peft_type": "IA3"}, "of the kind IA3; only LoRA"),
        ({"modules_to_save": ["lm_head"]}, "also trained whole modules.*lm_head"),
        ({"up": 0.0}, "was never trained .*frozen by mistake"),
    ],
)
def test_refusals(adapter, config, message):
    write(adapter, **config)
    with pytest.raises(UserError, match=message):
        check_adapter(adapter, "some/base-1b", "x")


def test_a_pickle_is_not_read(adapter):
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(UserError, match="may be pickles, which can run any code"):
        adapter_folder(str(adapter))


def test_a_file_that_is_cut_short(adapter):
    weights = adapter / "adapter_model.safetensors"
    whole = weights.read_bytes()
    for length in (4, 60, len(whole) - 1):
        weights.write_bytes(whole[:length])
        with pytest.raises(UserError, match="cut short"):
            tensor_places(weights)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is no JSON object"),
        ('{"r": 8', "it is no JSON object"),
        ("[1]", "it is no JSON object"),
        ('{"modules_to_save": 5}', "names in it are no text"),
        ('{"base_model_name_or_path": [1]}', "names in it are no text"),
        ('{"modules_to_save": [["a"]]}', "names in it are no text"),
        ('{"r": "8"}', "its rank is no number"),
    ],
)
def test_a_damaged_configuration_is_one_sentence(adapter, text, words):
    (adapter / "adapter_config.json").write_text(text)
    with pytest.raises(UserError, match=rf"adapter_config\.json is damaged \({words}"):
        check_adapter(adapter, "some/base-1b", "x")


@pytest.mark.parametrize("text", ["", '{"mean": ', "[1]", '{"mean": "1"}', '{"mean": NaN}', "{}"])
def test_a_damaged_mean_of_rewards_is_one_sentence(adapter, text):
    assert mean_of(adapter) is None
    (adapter / "reward.json").write_text('{"mean": 2, "responses": 9}')
    assert mean_of(adapter) == 2.0
    (adapter / "reward.json").write_text(text)
    with pytest.raises(UserError, match=r"reward\.json is damaged .*; copy the adapter again"):
        mean_of(adapter)


def test_runs_by_name(tmp_path):
    run = tmp_path / "runs" / "quickstart-1"
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text("{}")

    def resolved(name):
        values = {
            "model": {"base": "some/base", "adapter": name},
            "data": {"train": "x"},
            "run": {"folder": str(tmp_path / "runs")},
        }
        return validate_recipe(values, "test").model.adapter

    assert resolved("quickstart-1") == resolved(str(run)) == str(run / "adapter")
    assert resolved("some/adapter") == "some/adapter"
    with pytest.raises(UserError, match="has no adapter yet, it is created"):
        adapter_folder(resolved("quickstart-1"))
    (run / "adapter").mkdir()
    write(run / "adapter")
    assert adapter_folder(resolved("quickstart-1")) == run / "adapter"
    with pytest.raises(UserError, match=r"no folder .*, and no run of that name"):
        adapter_folder(str(tmp_path / "nothing"))


def test_extra_ranks_need_an_adapter():
    values = {"model": {"base": "b"}, "data": {"train": "x"}, "adapter": {"extra_r": 4}}
    with pytest.raises(UserError, match=r"adapter.extra_r needs model.adapter"):
        validate_recipe(values, "test")
