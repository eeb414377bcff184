"""Layers of a class of their own are packed as the known ones that they are."""

import pytest
import torch
from bitsandbytes import functional as bnb
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, BitsAndBytesConfig
from transformers.models.deepseek_v4.modeling_deepseek_v4 import DeepseekV4GroupedLinear
from transformers.models.falcon.modeling_falcon import FalconLinear
from transformers.models.llama4.modeling_llama4 import Llama4Router, Llama4TextExperts

from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.model.dry_run import costs_of_config
from dpo_lite.model.experts import expert_modules, expert_parameters
from dpo_lite.model.known_layers import make_known, multiplies_as_linear
from dpo_lite.model.scoring import lay_out, response_logps, scoring_context
from dpo_lite.model.weights import held
from dpo_lite.recipe import AdapterSection, ModelSection, Recipe
from tests.model.small_experts import save_mixture
from tests.model.small_models import SIZES, random_examples
from tests.model.test_architectures import gradients, objective, relative_error


class Doubled(torch.nn.Linear):
    def forward(self, tokens):
        return 2 * super().forward(tokens)


@pytest.mark.parametrize(
    ("kind", "same"),
    [
        (FalconLinear, True),
        (Doubled, False),
        (Llama4Router, False),
        (DeepseekV4GroupedLinear, False),
    ],
)
def test_which_subclasses_multiply_as_linear_layers_is_tried(kind, same):
    assert multiplies_as_linear(kind) is same


def test_it_is_tried_with_numbers_where_models_are_built_without():
    multiplies_as_linear.cache_clear()
    with torch.device("meta"):
        assert multiplies_as_linear(FalconLinear)


def test_falcon_is_held_in_4_bits(tmp_path):
    config = CONFIG_MAPPING["falcon"](**{k: SIZES[k] for k in ("vocab_size", "hidden_size")})
    config.num_hidden_layers, config.num_attention_heads = 2, 4
    whole = AutoModelForCausalLM.from_config(config).float().eval()
    whole.save_pretrained(tmp_path)
    model = load_base(ModelSection(base=str(tmp_path))).eval()
    ids = torch.arange(3, 40)[None]
    parameters = dict(whole.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if state := getattr(parameter, "quant_state", None):
                parameters[name].copy_(bnb.dequantize_4bit(parameter.data, state))
        assert torch.allclose(model(ids).logits, whole(ids).logits, atol=1e-4)
    assert held(model).share > 0.9
    asked = Recipe(model={"base": str(tmp_path)}, data={"train": "builtin:myths"})
    planned = costs_of_config(config, asked, torch.float32, random_examples(2, 2), "separate")
    assert planned.held == held(model)


LLAMA4 = {
    "intermediate_size_mlp": 96,
    "moe_layers": [1],
    "no_rope_layers": [1, 0],
    "layer_types": ["chunked_attention", "full_attention"],
    "attention_chunk_size": 64,
}


def llama4(folder, quantization="nf4", experts=False):
    base = load_base(ModelSection(base=folder, quantization=quantization))
    model = roles.add_policy(base, AdapterSection(r=2, alpha=8, experts=experts), seed=0)
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in roles.trainable_parameters(model):
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.train()


def backward(model):
    batch = lay_out(random_examples(3, 2), "separate")
    with scoring_context(model, batch, torch.float32):
        objective(response_logps(model, batch, "separate")).backward()


def test_llama_4_has_its_experts_in_4_bits(tmp_path):
    """Against its own code, on weights rounded as ours are."""
    folder = save_mixture("llama4_text", tmp_path, **LLAMA4)
    model = llama4(folder)
    ((_, module),) = expert_modules(model).items()
    assert all(hasattr(getattr(module, name), "quant_state") for name in expert_parameters(module))
    assert "experts" not in held(model.get_base_model()).whole
    found = gradients(model, [lambda: backward(model)])
    oracle = llama4(folder)
    ((_, module),) = expert_modules(oracle).items()
    for name in expert_parameters(module):
        packed = getattr(module, name)
        weight = bnb.dequantize_4bit(packed.data, packed.quant_state)
        setattr(module, name, torch.nn.Parameter(weight, requires_grad=False))
    module.__class__ = Llama4TextExperts
    expected = gradients(oracle, [lambda: backward(oracle)])
    assert relative_error(found, expected) < 1e-5


def test_llama_4_learns_in_its_experts_where_asked_to(tmp_path):
    """An adapter of packed experts, and of whole ones, has the gradient of its own."""
    folder = save_mixture("llama4_text", tmp_path, **LLAMA4)
    for quantization in ("nf4", "none"):
        model = llama4(folder, quantization, experts=True)
        found = gradients(model, [lambda model=model: backward(model)])
        name = next(n for n in found if "experts" in n and "lora_B" in n)
        parameter = dict(model.named_parameters())[name]
        direction, step = torch.randn_like(parameter), 1e-3
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(sign * step * direction)
                batch = lay_out(random_examples(3, 2), "separate")
                losses.append(objective(response_logps(model, batch, "separate")).item())
                parameter.sub_(sign * step * direction)
        slope = (losses[0] - losses[1]) / (2 * step)
        assert slope == pytest.approx((found[name] * direction).sum().item(), rel=0.05)
        assert slope


def test_a_second_call_changes_nothing():
    model = torch.nn.ModuleList([FalconLinear(2, 2)])
    make_known(model)
    assert type(model[0]) is torch.nn.Linear
    make_known(model)
    assert type(model[0]) is torch.nn.Linear


def test_a_base_that_comes_packed_keeps_what_it_has(tmp_path):
    """Saved by transformers with its own layers in 16 bits, which are not to be looked for in 4."""
    config = CONFIG_MAPPING["falcon"](vocab_size=97, hidden_size=64, num_attention_heads=4)
    config.num_hidden_layers = 2
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "whole")
    four_bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path / "whole", quantization_config=four_bits, device_map={"": "cpu"}
    )
    theirs.save_pretrained(tmp_path / "packed")
    model = load_base(ModelSection(base=str(tmp_path / "packed"))).eval()
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, theirs.eval()(ids).logits, atol=1e-5)
