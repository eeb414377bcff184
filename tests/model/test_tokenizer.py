"""The chat template of a base is found where its publisher keeps it."""

import json
import shutil
from copy import deepcopy

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer

from dpo_lite.data.tokens import Encoder
from dpo_lite.model.base import another_template, load_tokenizer, save_own_template
from dpo_lite.recipe import ModelSection


@pytest.fixture
def section(tiny_base, chat_tokenizer, tmp_path):
    """A base whose tokenizer has no template, but whose processor of pictures has one."""
    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text(
        json.dumps({"chat_template": chat_tokenizer.chat_template})
    )
    assert AutoTokenizer.from_pretrained(folder).chat_template is None
    return ModelSection(base=str(folder))


def make_tensors(folder):
    save_file({"a.lora_A.weight": torch.ones(1, 1)}, folder / "some.safetensors")
    return folder / "some.safetensors"


def test_the_template_of_the_processor_is_used(section, chat_tokenizer):
    tokenizer = load_tokenizer(section)
    assert tokenizer.chat_template == chat_tokenizer.chat_template
    assert Encoder(tokenizer).prompt_ids("What?") == Encoder(chat_tokenizer).prompt_ids("What?")


def test_it_is_published_with_the_adapter(section, tmp_path):
    """Who loads the tokenizer alone would have none."""
    save_own_template(load_tokenizer(section), section, tmp_path / "adapter")
    assert AutoTokenizer.from_pretrained(tmp_path / "adapter").chat_template


def test_a_base_without_any_has_none(section, tmp_path):
    (tmp_path / "base" / "chat_template.json").unlink()
    assert load_tokenizer(section).chat_template is None


def test_a_template_of_the_base_is_not_saved_again(tiny_base, tmp_path):
    own = ModelSection(base=tiny_base)
    tokenizer = deepcopy(load_tokenizer(own))
    save_own_template(tokenizer, own, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize("where", ["chat_template.jinja", "tokenizer_config.json"])
def test_an_adapter_with_another_template_is_known(tiny_base, tmp_path, where):
    """As LLaMA-Factory saves that of its `template` beside the adapter."""
    (tmp_path / "adapter_config.json").write_text("{}")
    shutil.copy(make_tensors(tmp_path), tmp_path / "adapter_model.safetensors")
    tokenizer, text = load_tokenizer(ModelSection(base=tiny_base)), "{{ messages }}"
    assert not another_template(tokenizer, str(tmp_path))
    for template, other in ((tokenizer.chat_template, False), (text, True)):
        config = json.dumps({"chat_template": template})
        (tmp_path / where).write_text(template if where.endswith("jinja") else config)
        assert another_template(tokenizer, str(tmp_path)) is other
