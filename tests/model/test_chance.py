"""A frozen base is the same network in every pass, also where its config asks for chance."""

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from dpo_lite.errors import UserError
from dpo_lite.model import base as loading
from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.model.choosing import choose_way
from dpo_lite.model.four_bits import read_elsewhere
from dpo_lite.model.logprobs import frozen_head
from dpo_lite.model.weights import held
from dpo_lite.recipe import AdapterSection, ModelSection
from tests.model.small_experts import SIZES as MIXTURE
from tests.model.small_models import GEMMA_3N, SIZES, random_examples

GPT = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128}
CHANCE = {
    "seed_oss": {"attention_dropout": 0.1, "residual_dropout": 0.1},
    "starcoder2": {"attention_dropout": 0.1, "residual_dropout": 0.1, "embedding_dropout": 0.1},
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 64, "dropout": 0.1},
    "gpt_bigcode": GPT | {"attn_pdrop": 0.1, "resid_pdrop": 0.1, "embd_pdrop": 0.1},
    "phimoe": {
        "router_jitter_noise": 0.1,
        "input_jitter_noise": 0.1,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
}


def saved(kind, folder, **options):
    torch.manual_seed(0)
    sizes = {key: value for key, value in SIZES.items() if key not in options}
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**sizes | options)).float()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.1)
    model.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("kind", CHANCE)
def test_two_passes_of_a_training_model_are_equal(kind, tmp_path):
    model = load_base(ModelSection(base=saved(kind, tmp_path, **CHANCE[kind])))
    model = roles.add_policy(model, AdapterSection(r=2), seed=0).train()
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        first, second = (model(input_ids=ids, use_cache=False).logits for _ in range(2))
    assert torch.equal(first, second)
    assert choose_way(model, random_examples(2, 2)).difference < 1e-5


def test_weights_that_are_clipped_while_training_are_left_alone(tmp_path):
    """Gemma 3n clips two layers' weights in training mode, which in 4 bits are bytes."""
    model = load_base(ModelSection(base=saved("gemma3n_text", tmp_path, **GEMMA_3N))).train()
    assert choose_way(model, random_examples(2, 2)).difference < 1e-5


def test_what_the_code_reads_in_any_mode_is_not_packed(tmp_path):
    model = load_base(ModelSection(base=saved("mamba", tmp_path, state_size=8)))
    read = read_elsewhere(model)
    assert {name.rpartition(".")[2] for name in read} == {"dt_proj"}
    assert all(model.get_submodule(name).weight.dtype == torch.float32 for name in read)
    assert "dt_proj" in held(model).words()
    assert choose_way(model, random_examples(2, 2)).way == "separate"


HEADS = {
    "hyperclovax": ({"logits_scaling": 0.7}, 0.7),
    "granite": ({"logits_scaling": 4.0}, 0.25),
    "cohere": ({"logit_scale": 0.3}, 0.3),
    "falcon_h1": (
        {
            "head_dim": 16,
            "mamba_d_ssm": 64,
            "mamba_n_heads": 4,
            "mamba_d_head": 16,
            "mamba_d_state": 16,
            "mamba_chunk_size": 16,
            "lm_head_multiplier": 0.4,
        },
        0.4,
    ),
}


@pytest.mark.parametrize("kind", HEADS)
def test_the_frozen_head_scales_as_the_model_does(kind, tmp_path):
    options, scale = HEADS[kind]
    model = load_base(ModelSection(base=saved(kind, tmp_path, **options), quantization="none"))
    assert frozen_head(model).scale == pytest.approx(scale)
    assert choose_way(model, random_examples(2, 2)).way != "plain"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ImportError("X requires timm: `pip install timm`"), "needs the package timm"),
        (KeyError("attention_hidden_size"), "fails with KeyError: 'attention_hidden_size'"),
        (AttributeError("no such thing"), "fails with AttributeError: no such thing"),
    ],
)
def test_a_base_that_transformers_cannot_load_is_one_sentence(monkeypatch, error, words, tiny_base):
    def fails(*arguments, **options):
        raise error

    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", fails)
    with pytest.raises(UserError, match=words) as raised:
        load_base(ModelSection(base=tiny_base))
    assert "\n" not in str(raised.value)


def gpt_oss_in_mxfp4(folder):
    """A small gpt-oss as it is published, with random bytes for its experts."""
    from safetensors.torch import load_file, save_file

    from dpo_lite.files import read_json, write_json

    options = {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16}
    base = saved("gpt_oss", folder, **MIXTURE | {"intermediate_size": 64} | options)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    draw = torch.Generator().manual_seed(0)
    for name in [n for n in tensors if n.endswith(("gate_up_proj", "down_proj"))]:
        experts, inner, outer = tensors.pop(name).shape
        blocks = torch.randint(0, 256, (experts, outer, inner // 32, 16), generator=draw)
        tensors[f"{name}_blocks"] = blocks.to(torch.uint8)
        exponents = torch.randint(121, 124, (experts, outer, inner // 32), generator=draw)
        tensors[f"{name}_scales"] = exponents.to(torch.uint8)
    save_file(tensors, file, metadata={"format": "pt"})
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"quantization_config": {"quant_method": "mxfp4"}})
    return base


def test_gpt_oss_stays_in_the_four_bits_of_its_files(tmp_path):
    """The bytes that are published, against transformers, which unpacks them without kernels."""
    folder = gpt_oss_in_mxfp4(tmp_path)
    model = load_base(ModelSection(base=folder))
    assert model.model.layers[0].mlp.experts.down_proj.dtype == torch.uint8
    assert held(model).share > 0.4
    oracle = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, oracle(ids).logits, atol=1e-4)
    model = roles.add_policy(model, AdapterSection(r=2, experts=True), seed=0).train()
    model(ids).logits.square().mean().backward()
    own = [p for n, p in model.named_parameters() if "experts" in n and "lora_B" in n]
    assert len(own) == 4
    assert all(parameter.grad.any() for parameter in own)
