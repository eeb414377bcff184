"""Files that are quantised already: FP8 becomes NF4 of what it stands for, others are refused."""

from copy import deepcopy

import bitsandbytes.functional as bnb
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from dpo_lite.errors import UserError
from dpo_lite.files import read_json, write_json
from dpo_lite.model import brought, roles
from dpo_lite.model.base import load_base, load_config
from dpo_lite.model.choosing import choose_way
from dpo_lite.model.dry_run import costs_of_config, costs_of_model
from dpo_lite.model.experts import expert_modules, expert_parameters
from dpo_lite.model.weights import held
from dpo_lite.recipe import AdapterSection, ModelSection, Recipe
from tests.model.small_experts import SIZES as MIXTURE
from tests.model.small_models import SIZES, random_examples
from tests.model.test_chance import saved

E4M3 = torch.finfo(torch.float8_e4m3fn).max
PER_TENSOR = {"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None}
BLOCKS = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [32, 32]}
ROUTED = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "head_dim": 16}
CASES = {
    "ministral3": (SIZES | {"head_dim": 16}, PER_TENSOR),
    "qwen3": (SIZES | {"head_dim": 16}, BLOCKS),
    "qwen3_moe": (MIXTURE | ROUTED, BLOCKS),
}


def in_fp8(folder, settings):
    """The files of a small model with its layers' products in FP8, as such copies are published."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    for name, weight in list(tensors.items()):
        if not name.endswith("proj.weight"):
            continue
        rows, columns = settings["weight_block_size"] or weight.shape
        blocks = weight.reshape(weight.shape[0] // rows, rows, weight.shape[1] // columns, columns)
        scale = blocks.abs().amax((1, 3), keepdim=True) / E4M3
        tensors[name] = (blocks / scale).reshape(weight.shape).to(torch.float8_e4m3fn)
        whole = settings["weight_block_size"] is None
        tensors[f"{name}_scale_inv"] = scale.reshape(()) if whole else scale[:, 0, :, 0].clone()
        if whole:
            tensors[name.replace("weight", "activation_scale")] = torch.tensor(0.5)
    save_file(tensors, file, metadata={"format": "pt"})
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"quantization_config": settings})


def unpacked(parameter):
    state = getattr(parameter, "quant_state", None)
    return parameter if state is None else bnb.dequantize_4bit(parameter.data, state)


def recipe(base, quantization):
    model = ModelSection(base=base, quantization=quantization)
    return Recipe(model=model, data={"train": "pairs.jsonl"})


@pytest.mark.parametrize("kind", CASES)
def test_fp8_is_packed_as_what_it_stands_for(kind, tmp_path):
    """Against NF4 of the weights that transformers itself reads out of the same files."""
    sizes, settings = CASES[kind]
    folder = saved(kind, tmp_path, **sizes)
    in_fp8(tmp_path, settings)
    plain = load_base(ModelSection(base=folder, quantization="none"))
    oracle = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = load_base(ModelSection(base=folder))
    assert held(plain).share == 0
    assert held(model).share > 0.5
    for name, true in oracle.named_parameters():
        assert torch.equal(plain.get_parameter(name), true)
        own = model.get_parameter(name)
        if getattr(own, "quant_state", None) is None:
            assert torch.equal(own, true)
        else:
            data, state = bnb.quantize_4bit(true.data, quant_type="nf4", compress_statistics=True)
            expected = bnb.dequantize_4bit(data, state).reshape(true.shape)
            assert torch.allclose(unpacked(own).reshape(true.shape), expected, atol=1e-6)
    packed = [m for m in expert_modules(model).values() for _ in expert_parameters(m)]
    assert bool(packed) == (kind == "qwen3_moe")
    model = roles.add_policy(model, AdapterSection(r=2), seed=0).train()
    assert choose_way(model, random_examples(2, 2)).way == "forest"


@pytest.mark.slow
def test_the_plan_knows_what_the_files_are_in(tmp_path):
    folder = saved("qwen3", tmp_path, **CASES["qwen3"][0])
    in_fp8(tmp_path, BLOCKS)
    for quantization in ("nf4", "none"):
        asked = recipe(folder, quantization)
        loaded = roles.add_policy(load_base(asked.model), asked.adapter, seed=0).train()
        examples = random_examples(2, 2)
        real = costs_of_model(loaded, torch.float32, examples, "forest")
        dry = costs_of_config(AutoConfig.from_pretrained(folder), asked, torch.float32, examples)
        assert dry.held == real.held
        assert dry.weights == pytest.approx(real.weights, rel=0.02)


@pytest.mark.slow
def test_what_is_packed_already_stays_so_in_the_plan():
    """A copy in bitsandbytes' 4 bits and a recipe without quantisation; a module left out of it."""
    own = {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "llm_int8_skip_modules": ["up_proj"],
    }
    config = LlamaConfig(**SIZES)
    asked = recipe("some/copy", "none")
    plain = costs_of_config(deepcopy(config), asked, torch.float32, random_examples(2, 2))
    config.quantization_config = own
    packed = costs_of_config(config, asked, torch.float32, random_examples(2, 2))
    assert plain.held.share == 0
    assert "up_proj" in packed.held.whole
    assert "q_proj" not in packed.held.whole


REFUSED = {
    "gptq": {"quant_method": "gptq", "bits": 4},
    "awq": {"quant_method": "awq", "bits": 4},
    "compressed-tensors": {"quant_method": "compressed-tensors"},
    "8 bits (bitsandbytes)": {"quant_method": "bitsandbytes", "load_in_8bit": True},
    "FP8 with scale_fmt": {**BLOCKS, "scale_fmt": "ue8m0"},
}


@pytest.mark.parametrize("words", REFUSED)
def test_other_numbers_are_refused_in_one_sentence(words, tmp_path):
    config = LlamaConfig(**SIZES)
    config.save_pretrained(tmp_path)
    values = read_json(tmp_path / "config.json")
    write_json(tmp_path / "config.json", values | {"quantization_config": REFUSED[words]})
    with pytest.raises(UserError) as raised:
        load_config(ModelSection(base=str(tmp_path)))
    assert f"published in {words}, " in str(raised.value)
    assert "16-bit model" in str(raised.value)


def test_plain_files_have_no_scheme():
    assert brought.method(LlamaConfig(**SIZES)) is None
