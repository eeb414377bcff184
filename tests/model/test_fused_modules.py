"""Norms and gated MLPs as one operation each: the same numbers, fewer of them kept."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm

from dpo_lite.model import fused_ops
from dpo_lite.model.experts import expert_modules, use_own_products
from dpo_lite.model.fused_modules import fuse_modules
from dpo_lite.model.fused_ops import Norm, gated, rms_norm, rotated
from dpo_lite.model.fused_rotary import is_usual
from tests.model.small_experts import small_mixture
from tests.model.small_models import small_model

IDS = torch.arange(3, 35)[None]


class OwnNorm(LlamaRMSNorm):
    """Looks like one that is known, and is another."""

    def forward(self, x):
        return super().forward(x) * 1.001


class GatedNorm(LlamaRMSNorm):
    """With a gate that mostly is not there, as in Qwen3-Next."""

    def forward(self, x, gate=None):
        normed = super().forward(x)
        return normed if gate is None else normed * F.silu(gate)


def norm(kind, **options):
    module = kind(48, eps=1e-5, **options).requires_grad_(False)
    module.weight.normal_(generator=torch.Generator().manual_seed(0))
    return module


def fused_parts(model):
    """How many norms and gates of a model are computed here, of how many."""
    kinds = [m for m in model.modules() if "Norm" in type(m).__name__ or "MLP" in type(m).__name__]
    return sum("forward" in vars(m) for m in kinds), len(kinds)


def kept(run, model=None):
    """Bytes of distinct storages that autograd keeps in a forward pass, and what it returns."""
    seen = {}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()} if model else set()

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() in own:
            return tensor
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = run()
    return sum(seen.values()), result


@pytest.mark.parametrize(
    "name", ["llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "smollm3", "phi3"]
)
def test_a_model_says_the_same_bit_by_bit(name):
    """And its gradient is the same but for rounding."""
    plain = small_model(name).requires_grad_(False)
    fused = deepcopy(plain)
    fuse_modules(fused)
    done, of = fused_parts(fused)
    assert done == of > 0
    results = []
    for model in (plain, fused):
        embedded = model.get_input_embeddings()(IDS).requires_grad_()
        logits = model(inputs_embeds=embedded).logits
        (gradient,) = torch.autograd.grad(logits.log_softmax(-1)[..., 5].sum(), embedded)
        results.append((logits, gradient))
    (expected, slope), (logits, own_slope) = results
    assert torch.equal(logits, expected)
    torch.testing.assert_close(own_slope, slope, rtol=1e-4, atol=1e-6 * slope.abs().max().item())


def test_less_is_kept_in_bf16():
    plain = small_model("llama", num_hidden_layers=1).requires_grad_(False).bfloat16()
    fused = deepcopy(plain)
    fuse_modules(fused)
    found = []
    for model in (plain, fused):
        embedded = model.get_input_embeddings()(IDS).requires_grad_()
        text = model.model
        found.append(kept(lambda m=text, e=embedded: m(inputs_embeds=e)[0], model))
    (more, expected), (less, output) = found
    assert torch.equal(output, expected)
    # Of each norm of 64 numbers what fp32 takes more than bf16, of the MLP one of three of 96.
    assert more - less == IDS.numel() * (3 * (4 - 2) * 64 + 2 * 96)


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        (LlamaRMSNorm, Norm(1e-5, 0.0, False)),
        (Olmo2RMSNorm, Norm(1e-5, 0.0, True)),
        (GemmaRMSNorm, Norm(1e-5, 1.0, True)),
        (GatedNorm, Norm(1e-5, 0.0, False)),
        (OwnNorm, None),
        (lambda size, eps: torch.nn.LayerNorm(size, eps, bias=False), None),
    ],
)
def test_a_formula_is_found_by_its_numbers(kind, how):
    module = norm(kind)
    fuse_modules(module)
    assert getattr(module, "fused_norm", None) == how


@pytest.mark.parametrize(("name", "known"), [("mixtral", "silu"), ("gpt_oss", None)])
def test_the_gate_of_experts_keeps_its_inputs_alone(name, known):
    """gpt-oss caps its own and lays them out otherwise."""
    plain = small_mixture(name).requires_grad_(False)
    use_own_products(plain)
    fused = deepcopy(plain)
    fuse_modules(fused)
    found = []
    for model in (plain, fused):
        torch.manual_seed(0)
        experts = next(iter(expert_modules(model).values()))
        x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
        chosen = torch.tensor([[0, 1], [1, 2], [3, 1], [0, 3], [2, 1]])
        held, output = kept(lambda e=experts, x=x, c=chosen: e(x, c, torch.rand(5, 2)), model)
        found.append((held, output, *torch.autograd.grad(output.sum(), x)))
    assert experts.fused_gate == known
    (more, expected, slope), (less, output, own_slope) = found
    assert torch.equal(output, expected)
    torch.testing.assert_close(own_slope, slope)
    assert more - less == (4 * chosen.numel() * 96 if known else 0)


def test_other_activations_and_other_parts_stay():
    model = small_model("llama", hidden_act="relu")
    fuse_modules(model)
    assert not any("fused_gate" in vars(m) for m in model.modules())
    model = small_model("llama")
    model.model.layers[0].mlp.register_forward_pre_hook(lambda *given: None)
    fuse_modules(model)
    first, *others = [layer.mlp for layer in model.model.layers]
    assert "fused_gate" not in vars(first)
    assert all("fused_gate" in vars(mlp) for mlp in others)


def test_a_gate_beside_it_is_the_modules_own_business():
    module, x = norm(GatedNorm), torch.randn(3, 48)
    expected = module(x, gate=x)
    fuse_modules(module)
    assert torch.equal(module(x, gate=x), expected)


def test_a_norm_that_learns_is_left_to_autograd():
    module = norm(LlamaRMSNorm)
    fuse_modules(module)
    module.weight.requires_grad_()
    module(torch.randn(3, 48)).sum().backward()
    assert module.weight.grad is not None


def test_a_copy_computes_with_its_own_weight():
    module = norm(LlamaRMSNorm)
    fuse_modules(module)
    copy = deepcopy(module)
    copy.weight.zero_()
    x = torch.ones(2, 48)
    assert not copy(x).any()
    assert module(x).any()


@pytest.mark.parametrize(
    "how", [Norm(1e-5, 0.0, False), Norm(1e-5, 0.0, True), Norm(1e-5, 1.0, True)]
)
def test_gradients_are_those_of_the_formula(how):
    x = torch.randn(4, 12, dtype=torch.float64).float().requires_grad_()
    weight = torch.randn(12)

    def plain(x):
        normed = x.double() * torch.rsqrt(x.double().pow(2).mean(-1, keepdim=True) + how.eps)
        return normed * (weight.double() + how.offset)

    upstream = torch.randn(4, 12)
    (expected,) = torch.autograd.grad((plain(x) * upstream).sum(), x)
    (gradient,) = torch.autograd.grad((rms_norm(x, weight, how) * upstream).sum(), x)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["silu", "gelu_tanh"])
def test_a_gate_keeps_its_inputs_alone(kind):
    gate, up = (torch.randn(5, 64, requires_grad=True) for _ in range(2))
    active = F.silu if kind == "silu" else lambda x: F.gelu(x, approximate="tanh")
    expected = torch.autograd.grad((active(gate) * up).square().sum(), (gate, up))
    held, output = kept(lambda: gated(gate, up, kind))
    assert held == gate.nbytes + up.nbytes
    for own, right in zip(
        torch.autograd.grad(output.square().sum(), (gate, up)), expected, strict=True
    ):
        torch.testing.assert_close(own, right)


def test_turning_back_is_the_transpose_of_turning():
    """<y, turn(x)> = <turn back(y), x>, with other angles in both halves."""
    x, y = (torch.randn(2, 3, 5, 8, dtype=torch.float64) for _ in range(2))
    cos, sin = (torch.randn(1, 5, 8, dtype=torch.float64) for _ in range(2))
    left, right = (y * rotated(x, cos, sin)).sum(), (rotated(y, cos, sin, back=True) * x).sum()
    torch.testing.assert_close(left, right)


def test_which_rotations_are_the_usual_one():
    from transformers.models.cohere.modeling_cohere import apply_rotary_pos_emb as interleaved
    from transformers.models.glm.modeling_glm import apply_rotary_pos_emb as of_pairs
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb as usual

    assert is_usual(usual)
    assert not is_usual(interleaved)
    assert not is_usual(of_pairs)


def test_memory_that_runs_out_in_the_trial_says_nothing_of_the_kernels(monkeypatch):
    def full(device, dtype):
        raise torch.OutOfMemoryError("CUDA out of memory.")
        yield

    fused_ops._agree_here.cache_clear()
    own = torch.device("cpu"), torch.float32
    monkeypatch.setattr(fused_ops, "trials", full)
    with pytest.raises(torch.OutOfMemoryError):
        fused_ops._agree_here(*own)
    monkeypatch.setattr(fused_ops, "trials", lambda *asked: [(torch.ones(2), torch.ones(2))])
    assert fused_ops._agree_here(*own)
    fused_ops._agree_here.cache_clear()
