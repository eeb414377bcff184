"""What ``all-linear`` means, and that plain PEFT finds the same layers again."""

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForSequenceClassification

from dpo_lite.errors import UserError
from dpo_lite.export.merge import merge
from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.model.checkpoints import load_checkpoint, save_checkpoint
from dpo_lite.model.targets import all_linear, shortest
from dpo_lite.recipe import AdapterSection, ModelSection
from tests.model.small_experts import MIXTURES, save_mixture, small_mixture
from tests.model.small_models import SIZES, random_examples, small_model

ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
DENSE = {"gate_proj", "up_proj", "down_proj"}
LATENT = {"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"}
LINEAR = {"in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b", "out_proj"}
LEAVES = {
    "mixtral": ATTENTION,
    "qwen3_moe": ATTENTION,
    "gpt_oss": ATTENTION,
    "granitemoe": ATTENTION,
    "deepseek_v3": LATENT | DENSE,
    "glm4_moe": ATTENTION | DENSE,
    "qwen3_5_moe_text": ATTENTION | LINEAR | DENSE,
}


def leaves(names):
    return {name.rpartition(".")[2] for name in names}


def trained(model):
    """Some policy that was trained: B is not zero."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in roles.trainable_parameters(model):
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def logits(model):
    ids = torch.tensor([random_examples(1, 1)[0]["prompt_ids"] * 3])
    with torch.no_grad():
        return model.eval()(input_ids=ids, use_cache=False).logits


@pytest.mark.parametrize("kind", MIXTURES)
def test_shared_experts_and_dense_layers_but_no_routers(kind):
    found = all_linear(small_mixture(kind))
    assert leaves(found.modules) == LEAVES[kind]
    assert not any(".experts." in name or name.endswith("gate") for name in found.modules)
    assert found.has_experts
    assert not found.parameters
    assert "adapter.experts" in found.words()
    with_experts = all_linear(small_mixture(kind), experts=True)
    assert leaves(with_experts.parameters) == {"gate_up_proj", "down_proj"}
    assert with_experts.modules == found.modules


@pytest.mark.parametrize(
    ("kind", "word"),
    [("falcon_h1", "not out_proj, which PEFT refuses"), ("mamba", "not dt_proj, whose weight")],
)
def test_what_cannot_have_an_adapter_is_left_out_with_a_word(kind, word):
    model = small_model(kind)
    found = all_linear(model)
    assert not leaves(found.modules) & {"out_proj", "dt_proj"}
    assert word in found.words()
    assert roles.add_policy(model, AdapterSection(r=2), seed=0)


def test_towers_of_other_senses_have_no_adapter():
    config = CONFIG_MAPPING["gemma3"](
        text_config=dict(SIZES, model_type="gemma3_text", head_dim=16),
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        },
    )
    with torch.device("meta"):
        from transformers import AutoModelForImageTextToText

        model = AutoModelForImageTextToText.from_config(config)
    found = all_linear(model)
    assert leaves(found.modules) == ATTENTION | DENSE
    assert not any("vision" in name for name in found.modules)
    names = [name for name, _ in model.named_modules()]
    pattern = shortest(found.modules, names)
    assert isinstance(pattern, str)
    assert len(pattern) < 700


def test_the_shortest_names_are_ends_and_where_layers_count_a_pattern():
    others = ["head", "layers.0.router", "tower.layers.0.q"]
    assert shortest(["layers.0.k", "layers.1.k", "layers.0.mlp.v"], others) == ["k", "v"]
    assert shortest(["a.mlp.v", "b.mlp.v"], ["a.moe.v"]) == ["mlp.v"]
    numbered = ["text.layers.0.q", "text.layers.1.q"]
    assert shortest(numbered, others) == r"text\.layers\.\d+\.q"
    # A pattern would take in layer 1's router too, so layer 0 is named.
    assert shortest(["layers.0.q"], ["layers.1.q"]) == ["0.q"]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("experts", [False, True], ids=["layers", "experts"])
@pytest.mark.parametrize("kind", MIXTURES)
def test_what_is_saved_loads_with_plain_peft(kind, experts, tmp_path):
    """On the published 16-bit model, with transformers' own code for experts."""
    folder = save_mixture(kind, tmp_path / "base")
    base = load_base(ModelSection(base=folder, quantization="none"))
    section = AdapterSection(r=2, alpha=8, experts=experts)
    model = trained(roles.add_policy(base, section, seed=0))
    roles.save_policy(model, tmp_path / "adapter", "some/base", None)
    plain = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(folder), tmp_path / "adapter"
    )
    assert torch.allclose(logits(plain), logits(model), atol=2e-4)
    with plain.disable_adapter():
        assert not torch.allclose(logits(plain), logits(model), atol=1e-2)
    again = roles.load_policy(load_base(ModelSection(base=folder)), tmp_path / "adapter")
    own, found = (roles.parameters(m, roles.POLICY) for m in (model, again))
    assert len(own) == len(found)
    assert all(map(torch.equal, own, found))


def test_a_reward_model_of_a_mixture_loads_with_plain_peft(tmp_path):
    folder = save_mixture("deepseek_v3", tmp_path / "base")
    base = load_base(ModelSection(base=folder, quantization="none"))
    model = trained(roles.add_policy(base, AdapterSection(r=2), seed=0, head=True))
    roles.save_policy(model, tmp_path / "adapter", "some/base", None)
    plain = PeftModel.from_pretrained(
        AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1),
        tmp_path / "adapter",
    )
    own = roles.parameters(model, roles.POLICY)
    found = dict(plain.named_parameters())
    loaded = [p for name, p in found.items() if ".lora_" in name or "modules_to_save" in name]
    assert sum(p.numel() for p in own) == sum(p.numel() for p in loaded)
    assert sum(p.double().sum().item() for p in own) == pytest.approx(
        sum(p.double().sum().item() for p in loaded)
    )


def test_experts_where_there_are_none_is_said():
    with pytest.raises(UserError, match=r"adapter\.experts: this base has none"):
        roles.add_policy(small_model("llama"), AdapterSection(experts=True), seed=0)


def test_tensors_that_plain_peft_would_lose_are_called_as_published(tmp_path):
    """PEFT reads transformers' ``mlp.shared_expert.`` → ``mlp.shared_experts.`` as a pattern, which
    also fits the name that it makes."""
    kinds = {"layer_types": ["full_attention"] * 2, "mlp_layer_types": ["dense", "sparse"]}
    folder = save_mixture("laguna", tmp_path / "base", shared_expert_intermediate_size=32, **kinds)
    base = load_base(ModelSection(base=folder, quantization="none"))
    model = trained(roles.add_policy(base, AdapterSection(r=2, alpha=8), seed=0))
    roles.save_policy(model, tmp_path / "adapter", "some/base", None)
    names = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert any(".mlp.shared_expert.up_proj." in name for name in names)
    plain = AutoModelForCausalLM.from_pretrained(folder)
    plain = PeftModel.from_pretrained(plain, tmp_path / "adapter")
    expected = logits(model)
    assert torch.allclose(logits(plain), expected, atol=2e-4)
    again = load_base(ModelSection(base=folder, quantization="none"))
    again = roles.continue_policy(again, str(tmp_path / "adapter"), "start")
    assert torch.equal(logits(again), expected)
    merge(folder, None, str(tmp_path / "adapter"), tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.allclose(logits(merged), expected, atol=2e-4)


def test_tensors_in_a_runs_checkpoint_are_taken_as_they_are(tmp_path):
    """By the model's own names, as trainers save and load them."""
    model = small_mixture("laguna", shared_expert_intermediate_size=32)
    model = trained(roles.add_policy(model, AdapterSection(r=2), seed=0))
    expected = logits(model)
    save_checkpoint(model, tmp_path)
    with torch.no_grad():
        for parameter in roles.trainable_parameters(model):
            parameter.zero_()
    load_checkpoint(model, tmp_path)
    assert torch.equal(logits(model), expected)
