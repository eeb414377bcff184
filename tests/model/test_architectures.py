"""Packed, prompt-shared scoring equals separate scoring, architecture by architecture."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from dpo_lite.model import choosing
from dpo_lite.model.attention import forest_attention
from dpo_lite.model.choosing import choose_way, leak, leak_limit, true_token_logps
from dpo_lite.model.forest_verdict import Verdict
from dpo_lite.model.heads import attach_head
from dpo_lite.model.scoring import SCALAR_HEAD, lay_out, response_logps, response_token_logps
from tests.model.small_models import FOREST, RECURRENT, random_examples, small_model


def with_lora(model, target_modules="all-linear"):
    """An adapter with B != 0, so that every gradient path is alive; none on Llama 4's router."""
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=target_modules, exclude_modules=["router"]
    )
    peft_model = get_peft_model(model, config)
    for name, parameter in peft_model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return peft_model


def gradients(model, loss_terms):
    """Sum the terms' gradients of the LoRA parameters, by name."""
    model.zero_grad()
    for term in loss_terms:
        term()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}


def relative_error(found, expected):
    difference = sum(((found[n] - expected[n]) ** 2).sum() for n in expected).sqrt()
    return (difference / sum((g**2).sum() for g in expected.values()).sqrt()).item()


def objective(logps):
    """Some smooth function that weighs each response differently."""
    weights = torch.linspace(0.5, 1.5, len(logps))
    return (torch.tanh(logps / 50) * weights).sum()


QUICK = ("qwen3", "gemma2")  # the others' numbers of responses and layers are alike


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointed"])
@pytest.mark.parametrize("responses", [1, 2, 4])
@pytest.mark.parametrize(
    "kind", [k if k in QUICK else pytest.param(k, marks=pytest.mark.slow) for k in FOREST]
)
def test_forest_equals_separate(kind, responses, checkpointing):
    model = with_lora(small_model(kind))
    if checkpointing:
        model.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})
    examples = random_examples(3, responses)
    batch = lay_out(examples, "forest")

    with forest_attention(model, batch), torch.no_grad():
        packed = response_token_logps(model, batch, "forest")
    assert torch.allclose(packed, true_token_logps(model, examples), atol=1e-4)

    def backward(way):
        rows = lay_out(examples, way)
        with forest_attention(model, rows):
            objective(response_logps(model, rows, way)).backward()

    expected = gradients(model, [lambda: backward("plain")])
    found = gradients(model, [lambda: backward("forest")])
    assert relative_error(found, expected) < 1e-4


@pytest.mark.parametrize("kind", FOREST)
def test_the_fast_way_is_chosen(kind):
    choice = choose_way(small_model(kind), random_examples(2, 2))
    assert choice.way == "forest", choice.reason


@pytest.mark.parametrize("kind", RECURRENT)
def test_other_models_fall_back_and_are_right(kind):
    model = small_model(kind)
    examples = random_examples(3, 2)
    choice = choose_way(model, examples)
    assert choice.way != "forest"
    assert kind in choice.reason
    batch = lay_out(examples, choice.way)
    logps = response_token_logps(model, batch, choice.way)
    assert torch.allclose(logps, true_token_logps(model, examples), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["jamba", "bloom"])
def test_real_rows_are_a_second_net(monkeypatch, kind, dtype):
    """A model that slips through the first one is caught by its scores, in its own dtype."""
    monkeypatch.setattr(choosing, "forest_verdict", lambda config, model: Verdict(True, ""))
    choice = choose_way(small_model(kind).to(dtype), random_examples(3, 2))
    assert choice.way == "separate"
    assert "packed rows" in choice.reason or "forest rows" in choice.reason


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_other_answers_leave_a_score_alone_to_the_bit(dtype):
    model = small_model("llama").to(dtype)
    assert leak(model, random_examples(3, 2)) == 0.0
    assert leak(model, random_examples(1, 1)) == 0.0  # there is nothing else
    routed = small_model("lfm2_moe").to(dtype)
    assert leak(routed, random_examples(3, 2)) == 0.0
    assert leak_limit(model) < leak_limit(routed) < 2.5e-3  # wrong forests: 2.7e-3 and more


def test_attention_is_restored():
    model = small_model("gemma2")
    before = model.config._attn_implementation
    batch = lay_out(random_examples(1, 2), "forest")
    with pytest.raises(ZeroDivisionError), forest_attention(model, batch):
        raise ZeroDivisionError
    assert model.config._attn_implementation == before


def test_a_scalar_head_is_as_wide_as_what_the_model_hands_to_its_own():
    """OPT 350M projects its last hidden state before its head, as this small one does."""
    model = small_model("opt")
    attach_head(model)
    assert model.config.hidden_size != model.config.word_embed_proj_dim
    assert getattr(model, SCALAR_HEAD).weight.shape == (1, model.config.word_embed_proj_dim)
