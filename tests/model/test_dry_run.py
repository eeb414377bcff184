"""What a dry run without data says is what the loaded model keeps, to the byte or nearly so."""

import gc
from copy import deepcopy

import bitsandbytes as bnb
import pytest
import torch
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    Gemma2Config,
    Glm4MoeConfig,
    GPT2Config,
    JambaConfig,
    LlamaConfig,
    Qwen3_5TextConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.model.dry_run import costs_of_config, costs_of_model
from dpo_lite.model.kept_bytes import kept_bytes
from dpo_lite.model.layers import layer_lists
from dpo_lite.model.recompute import count_selective
from dpo_lite.model.scoring import causal_lm, laid_out_tokens, lay_out
from dpo_lite.model.weights import multiplied
from dpo_lite.recipe import AdapterSection, Recipe
from tests.model.small_towers import small_config, small_tower

SIZES = {
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_hidden_layers": 3,
    "vocab_size": 500,
    "pad_token_id": 0,
}
CONFIGS = {
    "llama": LlamaConfig(**SIZES),
    "qwen3": Qwen3Config(**SIZES),
    "gemma2": Gemma2Config(**SIZES, query_pre_attn_scalar=16),
}
EXAMPLES = [
    {"prompt_ids": list(range(3, 83)), "response_ids": [list(range(40)), list(range(50))]}
] * 4


def recipe(base, quantization):
    values = {"base": str(base), "quantization": quantization}
    return Recipe(model=values, data={"train": "builtin:myths"})


def kept(costs):
    """Bytes per token that an update keeps where nothing is recomputed."""
    return costs.layers * costs.layer + costs.rest


@pytest.mark.slow
def test_a_measured_pass_leaves_nothing_behind(tmp_path):
    """What autograd kept is gone with the pass: none of its tensors waits for a collection."""

    def tensors():
        return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())

    AutoModelForCausalLM.from_config(CONFIGS["llama"]).save_pretrained(tmp_path)
    asked = recipe(tmp_path, "nf4")
    model = roles.add_policy(load_base(asked.model), asked.adapter, seed=0).train()
    counts = []
    for _ in range(3):
        costs_of_model(model, torch.float32, EXAMPLES, "forest")
        counts.append(tensors())
    assert counts[1] == counts[2]


@pytest.mark.parametrize("case", ["llama", "gemma2", "recurrent and full", "not to be cut"])
def test_a_loaded_model_is_measured_by_few_of_its_layers(tmp_path, case):
    """What is found in one of each kind and one more is what all of them keep; no pass goes through
    more than two of a kind, and afterwards the model is as before."""
    config = deepcopy((CONFIGS | MIXED)[case])
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    asked = recipe(tmp_path, "nf4")
    model = roles.add_policy(load_base(asked.model), asked.adapter, seed=0).train()
    lm, way = causal_lm(model), "forest" if case in CONFIGS else "separate"
    ((name, layers),) = layer_lists(lm).items()
    settings = repr(lm.config.get_text_config().to_dict())
    passed, most = [], []
    for layer in layers:
        layer.register_forward_pre_hook(lambda *given: passed.append(1))
    lm.register_forward_pre_hook(lambda *given: passed.clear())
    lm.base_model.register_forward_pre_hook(lambda *given: passed.clear())
    lm.base_model.register_forward_hook(lambda *given: most.append(len(passed)))
    costs = costs_of_model(model, torch.float32, EXAMPLES[:1], way)
    kinds_of_layers = {"llama": 1, "gemma2": 2, "recurrent and full": 2}
    assert max(most) == (kinds_of_layers[case] + 1 if case in kinds_of_layers else len(layers))
    assert layer_lists(lm) == {name: layers}
    assert repr(lm.config.get_text_config().to_dict()) == settings
    tokens = laid_out_tokens(EXAMPLES[:1], way)
    batch = lay_out(EXAMPLES[:1], way)
    whole = kept_bytes(model, batch, torch.float32, way)
    found = kept(costs) * tokens
    assert found == pytest.approx(whole, rel=1e-3)
    with count_selective(model) as counter:
        kept_bytes(model, batch, torch.float32, way)
    assert costs.layers * costs.selective * tokens == pytest.approx(counter.bytes, rel=1e-3)


MIXTURE = Qwen3MoeConfig(
    **SIZES | {"num_hidden_layers": 2},
    num_experts=8,
    num_experts_per_tok=2,
    moe_intermediate_size=96,
)


def test_experts_count_as_they_lie_in_memory(tmp_path):
    """In 4 bits, as bytes; of their weights a token is multiplied with a quarter."""
    AutoModelForCausalLM.from_config(MIXTURE).save_pretrained(tmp_path)
    asked = recipe(tmp_path, "nf4")
    asked.adapter.targets = ["q_proj", "v_proj"]
    model = roles.add_policy(load_base(asked.model), asked.adapter, seed=0).train()
    real = costs_of_model(model, torch.float32, EXAMPLES, "forest")
    dry = costs_of_config(deepcopy(MIXTURE), asked, torch.float32, EXAMPLES)
    assert kept(dry) == pytest.approx(kept(real), rel=0.1)
    assert (dry.trained, dry.linear, dry.head) == (real.trained, real.linear, real.head)
    assert (dry.widest, dry.broadest) == (real.widest, real.broadest)
    assert dry.weights == pytest.approx(real.weights, rel=0.02)
    experts = 2 * 8 * 3 * 128 * 96
    assert real.weights < 4 * experts / 2  # in fp32 they alone would be 4 bytes each
    assert dry.linear < experts


def test_layers_may_choose_a_number_of_experts_each():
    """Hunyuan's config has a list of them."""
    config = CONFIG_MAPPING["hunyuan_v1_moe"](
        **SIZES | {"num_hidden_layers": 2},
        num_experts=4,
        moe_topk=[2, 2],
        moe_intermediate_size=[96] * 2,
    )
    dry = costs_of_config(config, recipe("some/base", "nf4"), torch.float32, EXAMPLES)
    model = AutoModelForCausalLM.from_config(config)
    assert {p.used for p in multiplied(model) if p.weight.ndim == 3} == {0.5}
    assert dry.linear < sum(p.weight.numel() for p in multiplied(model))


LINEAR, FULL = "linear_attention", "full_attention"
MIXED = {
    "recurrent and full": Qwen3_5TextConfig(
        **SIZES | {"num_hidden_layers": 4},
        layer_types=[LINEAR, LINEAR, LINEAR, FULL],
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
    ),
    "dense first": Glm4MoeConfig(
        **SIZES,
        first_k_dense_replace=1,
        moe_intermediate_size=32,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
    ),
    "not to be cut": JambaConfig(
        **{k: v for k, v in SIZES.items() if k != "head_dim"},
        attn_layer_period=3,
        attn_layer_offset=1,
        expert_layer_period=2,
        expert_layer_offset=1,
        num_experts=4,
        mamba_d_state=8,
        use_mamba_kernels=False,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", MIXED)
def test_layers_of_several_kinds_are_counted_by_kind(tmp_path, case):
    config = MIXED[case]
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    asked = recipe(tmp_path, "nf4")
    model = roles.add_policy(load_base(asked.model), asked.adapter, seed=0).train()
    real = costs_of_model(model, torch.float32, EXAMPLES[:1], "separate")
    dry = costs_of_config(deepcopy(config), asked, torch.float32, EXAMPLES[:1], "separate")
    assert kept(dry) == pytest.approx(kept(real), rel=0.02)
    assert (dry.trained, dry.linear, dry.held.share) == (
        real.trained,
        real.linear,
        real.held.share,
    )
    assert dry.weights == pytest.approx(real.weights, rel=0.02)


@pytest.mark.slow
def test_a_base_in_16_bits_without_linear_layers_has_a_plan():
    """GPT-2's layers are Conv1D."""
    config = GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=500)
    dry = costs_of_config(config, recipe("some/base", "none"), torch.float32, EXAMPLES)
    assert dry.widest == 64 * 256
    assert dry.held.words() == "no weights in 4 bits, all in 32"


@pytest.mark.parametrize(
    "dtype",
    [torch.bfloat16, pytest.param(torch.float32, marks=pytest.mark.long)],
    ids=["bf16", "fp32"],
)
@pytest.mark.parametrize("quantization", ["nf4", "none"])
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.slow
def test_a_dry_run_counts_what_the_model_keeps(tmp_path, name, quantization, dtype):
    config, size = CONFIGS[name], torch.finfo(dtype).bits // 8
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    asked = recipe(tmp_path, quantization)
    model = roles.add_policy(load_base(asked.model), asked.adapter, seed=0).train()
    if dtype == torch.bfloat16:
        for parameter in model.parameters():
            if not parameter.requires_grad and parameter.dtype == torch.float32:
                parameter.data = parameter.data.bfloat16()
        for module in model.modules():
            if isinstance(module, bnb.nn.Linear4bit):
                module.compute_dtype = dtype
    real = costs_of_model(model, dtype, EXAMPLES, "forest")
    dry = costs_of_config(deepcopy(config), asked, dtype, EXAMPLES)
    assert kept(dry) == pytest.approx(kept(real), rel=0.1)
    assert dry.selective == pytest.approx(real.selective, rel=0.1)
    assert dry.selective < 0.7 * dry.layer
    assert dry.recomputable
    assert dry.embedding == real.embedding == (0 if name == "gemma2" else 500 * 128 * size)
    assert (dry.trained, dry.linear, dry.head) == (real.trained, real.linear, real.head)
    assert (dry.widest, dry.broadest) == (real.widest, real.broadest)
    assert dry.weights == pytest.approx(real.weights, rel=0.02)


IDS = list(range(3, 83))
TEXTS = [{"prompt_ids": IDS, "response_ids": [IDS[:40], IDS[:50]]}] * 2


@pytest.mark.parametrize(
    "kind", ["gemma3", *(pytest.param(k, marks=pytest.mark.slow) for k in ("gemma4", "qwen3_5"))]
)
def test_a_dry_run_knows_the_text_model_alone(kind, tmp_path):
    """No tower counts, and layers of several kinds are taken together."""
    small_tower(kind).save_pretrained(tmp_path)
    asked = recipe(tmp_path, "nf4")
    model = roles.add_policy(load_base(asked.model), asked.adapter, seed=0).train()
    real = costs_of_model(model, torch.float32, TEXTS, "separate")
    dry = costs_of_config(small_config(kind), asked, torch.float32, TEXTS, "separate")
    assert kept(dry) == pytest.approx(kept(real), rel=0.01)
    assert (dry.trained, dry.linear, dry.head) == (real.trained, real.linear, real.head)
    assert dry.weights == pytest.approx(real.weights, rel=0.02)
    assert dry.recomputable


@pytest.mark.slow
@pytest.mark.parametrize("section", [{"kind": "dora"}, {"init": "pissa"}], ids=str)
def test_kinds_of_adapters_cost_what_they_cost(tmp_path, section):
    """DoRA's lengths are trained too; the factors that PiSSA starts at lie beside the base."""
    AutoModelForCausalLM.from_config(CONFIGS["llama"]).save_pretrained(tmp_path)
    asked = recipe(tmp_path, "none")
    plain = costs_of_config(deepcopy(CONFIGS["llama"]), asked, torch.float32, EXAMPLES)
    asked.adapter = AdapterSection(**section)
    model = roles.add_policy(load_base(asked.model), asked.adapter, seed=0).train()
    real = costs_of_model(model, torch.float32, EXAMPLES, "forest")
    dry = costs_of_config(deepcopy(CONFIGS["llama"]), asked, torch.float32, EXAMPLES)
    assert (dry.trained, dry.weights, dry.linear) == (real.trained, real.weights, real.linear)
    assert kept(dry) == pytest.approx(kept(real), rel=0.02)
    outputs = sum(m.out_features for m in model.modules() if hasattr(m, "lora_magnitude_vector"))
    more = {"kind": (outputs, 0), "init": (0, 4 * plain.trained)}[next(iter(section))]
    assert (dry.trained - plain.trained, dry.weights - plain.weights) == more
