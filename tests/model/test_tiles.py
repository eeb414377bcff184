"""In tiles a layer says the same, has the same gradient, and its MLP is never whole."""

from contextlib import contextmanager

import pytest
import torch

from dpo_lite.model import roles
from dpo_lite.model.experts import use_own_products
from dpo_lite.model.fused_modules import fuse_modules
from dpo_lite.model.layers import layer_lists
from dpo_lite.model.recompute import recompute
from dpo_lite.model.scoring import causal_lm, lay_out, response_token_logps, scoring_context
from dpo_lite.model.tiles import per_token_kinds, tiles_for_a_while
from dpo_lite.recipe import AdapterSection
from tests.model.small_models import random_examples, small_model

TILE = 7
# Dense; norms behind the MLP; a mixture beside recurrent layers.
KINDS = {
    "llama": {"LlamaMLP", "LlamaRMSNorm"},
    "gemma2": {"Gemma2MLP", "Gemma2RMSNorm"},
    "qwen3_next": {"Qwen3NextSparseMoeBlock", "Qwen3NextRMSNorm"},
}


def trained(kind, **changes):
    """A model whose policy is some way from its base, and the kinds of it that may be tiled."""
    base = small_model(kind, **changes)
    kinds = per_token_kinds(base)
    use_own_products(base)
    fuse_modules(base)  # as a loaded base is
    model = roles.add_policy(base, AdapterSection(r=4, alpha=8), seed=0).train()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in roles.trainable_parameters(model):
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model, kinds


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    model, kinds = trained(request.param)
    assert kinds == KINDS[request.param]
    return model, kinds


def relative_error(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def learned(model, way="forest", dtype=torch.float32):
    """Log-probabilities of all scored tokens, and the gradient of a function of them."""
    model.zero_grad(set_to_none=True)
    batch = lay_out(random_examples(4, 2), way)
    with scoring_context(model, batch, dtype):
        logps = response_token_logps(model, batch, way)
        (torch.tanh(logps / 5) * torch.cos(torch.arange(len(logps)))).sum().backward()
    gradient = torch.cat([p.grad.flatten() for p in roles.trainable_parameters(model)])
    model.zero_grad(set_to_none=True)
    return logps.detach(), gradient


def forwards(model):
    """The forward functions that modules have of their own: of what is fused, or in tiles."""
    return {name: vars(m).get("forward") for name, m in model.named_modules()}


@pytest.mark.parametrize("how", ["layers", "offload", "none"])
def test_numbers_and_gradient_are_the_same(model, how):
    model, kinds = model
    recompute(model, "none")
    expected, gradient = learned(model)
    before = forwards(model)
    recompute(model, how)
    with tiles_for_a_while(model, TILE, kinds):
        assert forwards(model) != before
        found, turned = learned(model)
    assert (found - expected).abs().max() < 1e-5
    assert relative_error(turned, gradient) < 1e-4
    assert forwards(model) == before


def test_rows_beside_each_other_share_a_tile(model):
    model, kinds = model
    recompute(model, "layers")
    expected, gradient = learned(model, "separate")
    with tiles_for_a_while(model, TILE, kinds):
        found, turned = learned(model, "separate")
    assert (found - expected).abs().max() < 1e-5
    assert relative_error(turned, gradient) < 1e-4


def test_the_gradient_is_computed_in_the_dtype_of_the_forward_pass():
    """In bf16 tiles round as a whole row does, but for the sums over its tokens."""
    model, kinds = trained("llama")
    recompute(model, "layers")
    expected, gradient = learned(model, dtype=torch.bfloat16)
    with tiles_for_a_while(model, TILE, kinds), widths(model) as seen:
        found, turned = learned(model, dtype=torch.bfloat16)
    assert {dtype for _, dtype in seen} == {torch.bfloat16}
    assert (found - expected).abs().max() < 1e-5
    assert relative_error(turned, gradient) < 1e-2


@contextmanager
def widths(model):
    """Tokens and dtype of every tensor as wide as an MLP, in both passes."""
    seen, hooks = [], []
    for layer in layer_lists(causal_lm(model))["layers"]:
        hook = layer.mlp.down_proj.register_forward_pre_hook(
            lambda module, inputs: seen.append((inputs[0].shape[1], inputs[0].dtype))
        )
        hooks.append(hook)
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("train", [True, False])
def test_an_mlp_is_never_whole_and_runs_no_more_than_without_tiles(train):
    """A layer that is run again stops before its tiles: they run forward, and once for the
    gradient. Without a gradient, and in evaluation, they are tiles as well."""
    model, kinds = trained("llama")
    recompute(model, "layers")
    batch = lay_out(random_examples(4, 2), "forest")
    tokens, layers = batch.input_ids.numel(), 3
    assert tokens > 3 * TILE
    model.train(train)
    with tiles_for_a_while(model, TILE, kinds), widths(model) as seen:
        if train:
            learned(model)
        else:
            with torch.no_grad(), scoring_context(model, batch, torch.float32):
                response_token_logps(model, batch, "forest")
    assert max(count for count, _ in seen) == TILE
    assert sum(count for count, _ in seen) == (2 if train else 1) * layers * tokens


def test_short_rows_are_not_cut():
    model, kinds = trained("llama")
    tokens = lay_out(random_examples(4, 2), "forest").input_ids.numel()
    with tiles_for_a_while(model, tokens, kinds), widths(model) as seen:
        learned(model)
    assert [count for count, _ in seen] == [tokens] * 3


def test_what_mixes_tokens_is_not_tiled():
    """Recurrent layers take a hidden state alone as well, and say other things of halves."""
    for kind in ("qwen3_next", "lfm2", "falcon_h1"):
        found = per_token_kinds(small_model(kind))
        assert found
        for word in ("Attention", "Delta", "Conv", "Mixer", "Mamba"):
            assert not [name for name in found if word in name]
