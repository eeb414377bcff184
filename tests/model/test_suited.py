"""What is no language model is refused in one sentence, before a weight is read."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BartConfig,
    BertConfig,
    CLIPConfig,
    LlamaConfig,
    Qwen2Config,
    T5Config,
    WhisperConfig,
)

from dpo_lite.errors import UserError
from dpo_lite.model import text_model
from dpo_lite.model.base import load_base, load_config
from dpo_lite.recipe import ModelSection
from tests.model.small_models import small_model
from tests.model.small_towers import small_config


def section(folder):
    return ModelSection(base=str(folder), quantization="none")


OTHERS = {
    "encoder": (
        BertConfig(architectures=["BertForMaskedLM"]),
        "is a BertForMaskedLM",
    ),
    "whisper": (
        WhisperConfig(architectures=["WhisperForConditionalGeneration"]),
        "with an encoder",
    ),
    "t5": (T5Config(architectures=["T5ForConditionalGeneration"]), r"\(t5\) reads with an encoder"),
    "bart": (BartConfig(), "reads with an encoder"),
    "clip": (CLIPConfig(architectures=["CLIPModel"]), r"\(clip\) is no language model"),
    "bare": (
        LlamaConfig(architectures=["LlamaModel"]),
        "is a LlamaModel, which has no",
    ),
    "classifier": (
        Qwen2Config(architectures=["Qwen2ForSequenceClassification"]),
        "is a Qwen2ForSequenceClassification",
    ),
}


@pytest.mark.parametrize(("config", "message"), OTHERS.values(), ids=OTHERS)
def test_other_models_are_refused_by_their_config(tmp_path, config, message):
    config.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=message) as refused:
        load_config(section(tmp_path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "config",
    [LlamaConfig(), LlamaConfig(architectures=["MyOwnForCausalLM"]), small_config("gemma3")],
    ids=["unnamed", "named otherwise", "of several senses"],
)
def test_language_models_are_not(tmp_path, config):
    config.save_pretrained(tmp_path)
    assert load_config(section(tmp_path)).model_type == config.model_type


def test_other_folders_are_refused(tmp_path):
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(UserError, match=r"has no config\.json; give a folder that holds a model"):
        load_config(section(tmp_path))
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(UserError, match=r"is an adapter; set model\.adapter="):
        load_config(section(tmp_path))


def test_a_part_that_would_be_random_is_named(tmp_path):
    """The files of a bare model, whose config does not say that it is one."""
    small_model("llama").save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = {name: t for name, t in load_file(file).items() if name != "lm_head.weight"}
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"hold no lm_head\.weight, so a part"):
        load_base(section(tmp_path))


def test_a_missing_package_is_named(monkeypatch):
    def build(*arguments, **options):
        raise ImportError("TimmWrapper requires the timm library but it was not found")

    monkeypatch.setattr(text_model, "published_class", lambda config: None)
    monkeypatch.setattr(text_model.AutoModelForCausalLM, "from_config", build)
    with pytest.raises(UserError, match="gemma3 needs the package timm, which is not installed"):
        text_model.from_config(small_config("gemma3"))


def test_nothing_is_missing_where_a_head_is_shared(tmp_path):
    small_model("llama", tie_word_embeddings=True).save_pretrained(tmp_path)
    lm = load_base(section(tmp_path))
    assert torch.equal(lm.lm_head.weight, lm.model.embed_tokens.weight)
