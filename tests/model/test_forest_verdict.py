"""Which architectures may run in packed rows: found by trying them small, not listed."""

import dataclasses

import pytest
import torch
from transformers import CONFIG_MAPPING

from dpo_lite.model import forest, forest_verdict
from dpo_lite.model.forest_verdict import tried
from dpo_lite.model.small_twin import small_config, small_twin
from tests.model.small_models import GEMMA4_MOE, GEMMA4_SHARED

# As they are shipped, in full size: what is tried is a small copy.
FIT = {
    "llama": {},
    "qwen2": {"num_attention_heads": 14, "num_key_value_heads": 2, "hidden_size": 896},
    "qwen3_moe": {},
    "gemma3_text": {},
    "gemma4_text": GEMMA4_SHARED,
    "gpt2": {},
    "gpt_oss": {},
    "deepseek_v3": {},
    "mimo_v2_flash": {},
}
MORE_THAT_FIT = {
    "gemma3": {},  # with a vision tower
    "gemma4": {},
    "glm4_moe": {},
    "glm4_moe_lite": {},
    "ernie4_5_moe": {},
    "hunyuan_v1_moe": {
        "head_dim": 128,
        "num_experts": 16,
        "moe_topk": [8] * 32,
        "num_key_value_heads": 8,
    },
    "olmoe": {},
    "minimax_m2": {},
    "afmoe": {},
    "solar_open": {},
    "mellum": {},
    "granite_swa": {},
    "stablelm": {},
    "nemotron": {"head_dim": 192, "num_key_value_heads": 8},
    "nanochat": {},
    "internlm3": {},
    "minicpm3": {},
    "hyperclovax": {},
    "cwm": {},
    "youtu": {},
    "llama4_text": {},  # chunks, and queries that grow with the position
    "ministral3": {},
    "phi3": {},
    "cohere2": {},
    "smollm3": {},
    "opt": {},
    "starcoder2": {},
    "gpt_neox": {},
}
DO_NOT = {
    "bloom": {},  # ALiBi
    "gptj": {},  # positions of its own
    "mpt": {},
    "jamba": {},  # Mamba 1
    "minimax": {},  # lightning attention
    "recurrent_gemma": {},
    "deepseek_v32": {},  # picks what it attends to
}


def config(kind: str, changes: dict):
    return CONFIG_MAPPING[kind](**changes)


@pytest.mark.parametrize("kind", FIT)
def test_these_fit(kind):
    verdict = tried(config(kind, FIT[kind]))
    assert verdict.fits, verdict.reason


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("kind", MORE_THAT_FIT)
def test_these_fit_too(kind):
    verdict = tried(config(kind, MORE_THAT_FIT[kind]))
    assert verdict.fits, verdict.reason


@pytest.mark.slow
@pytest.mark.parametrize("kind", DO_NOT)
def test_these_do_not(kind):
    verdict = tried(config(kind, DO_NOT[kind]))
    assert not verdict.fits
    assert verdict.reason


@pytest.mark.parametrize("wrong", ["a neighbour", "a sibling", "another window"])
def test_a_wrong_forest_is_found(monkeypatch, wrong):
    """By a forest that lets tokens see what they may not."""
    real = forest.forest_attention

    def sabotaged(model, batch, fuse=None):
        trees = batch.trees
        if trees and wrong == "a sibling":
            trees = [dataclasses.replace(t, responses=(sum(t.responses),)) for t in trees]
        elif trees and wrong == "a neighbour":
            first, second = trees
            whole = (*first.responses[:-1], first.responses[-1] + second.stop - second.start)
            trees = [dataclasses.replace(first, responses=whole)]
        elif trees:
            model.config.sliding_window = 9
        return real(model, dataclasses.replace(batch, trees=trees), fuse)

    monkeypatch.setattr(forest, "forest_attention", sabotaged)

    verdict = tried(config("mistral", {"sliding_window": 4096}))
    assert not verdict.fits
    assert "scores otherwise" in verdict.reason


def test_a_gradient_that_is_lost_is_found(monkeypatch):
    from dpo_lite.model import branches

    real = branches._keys
    monkeypatch.setattr(branches, "_keys", lambda x, p, r: real(x.detach(), p, r))
    assert "its gradient by" in tried(config("llama", {})).reason


def test_a_verdict_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("DPO_LITE_CACHE", str(tmp_path))
    forest_verdict._kept.cache_clear()
    trials = []
    real = tried
    monkeypatch.setattr(forest_verdict, "tried", lambda *args: trials.append(args) or real(*args))
    for layers in (32, 80):  # how many there are of a kind is not what is tried
        assert forest_verdict.forest_verdict(config("llama", {"num_hidden_layers": layers})).fits
    assert len(trials) == 1
    forest_verdict._kept.cache_clear()  # another process
    assert forest_verdict.forest_verdict(config("llama", {})).fits
    assert len(trials) == 1
    assert forest_verdict.forest_verdict(config("llama", {"attention_bias": True})).fits
    assert len(trials) == 2
    (tmp_path / "forest" / "more").mkdir()  # what lies there besides is nobody's business
    for count, damaged in enumerate(("{damaged", '{"fits": true}', "[" * 5000), 3):
        for file in (tmp_path / "forest").glob("*.json"):
            file.write_text(damaged)
        forest_verdict._kept.cache_clear()
        assert forest_verdict.forest_verdict(config("llama", {})).fits
        assert len(trials) == count


def test_what_the_small_copy_lacks_is_not_waved_through():
    """The loaded model has a module that the trial did not stand for."""
    model = small_twin(config("llama", {}))
    assert forest_verdict.forest_verdict(model.config, model).fits
    other = small_twin(config("jamba", {}))
    model.model.layers[0].mlp = other.model.layers[0].mamba
    verdict = forest_verdict.forest_verdict(model.config, model)
    assert not verdict.fits
    assert "JambaMambaMixer" in verdict.reason


def test_the_small_copy_has_every_kind_of_layer():
    text = small_config(config("gemma4_text", GEMMA4_SHARED))
    assert text.layer_types == ["sliding_attention", "full_attention"] * 2
    assert text.num_kv_shared_layers == 2
    jamba = small_twin(config("jamba", {}))
    kinds = {type(layer).__name__ for layer in jamba.model.layers}
    assert kinds == {"JambaAttentionDecoderLayer", "JambaMambaDecoderLayer"}
    assert sum(p.numel() for p in jamba.parameters()) < 20e6
    assert torch.isfinite(jamba(torch.tensor([[3, 4, 5]])).logits).all()


def test_the_small_copy_keeps_what_single_layers_have_of_their_own():
    """Gemma 4's global layers have larger heads, by their numbers in the config."""
    for changes in (GEMMA4_SHARED, GEMMA4_MOE):
        text = small_config(config("gemma4_text", changes))
        sizes = {"sliding_attention": 256, "full_attention": 512}
        found = [layer.head_dim for layer in text.per_layer_config]
        assert found == [sizes[kind] for kind in text.layer_types]
        small_twin(config("gemma4_text", changes))
        assert type(text)(**text.to_dict()).num_hidden_layers == text.num_hidden_layers
    assert text.top_k_experts < text.num_experts
