"""Experts in 4 bits: the numbers of rounded weights, and nothing unpacked is kept."""

import subprocess
import sys

import pytest
import torch
from bitsandbytes import functional as bnb
from peft import PeftModel

from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.model.experts import (
    NAME,
    expert_modules,
    expert_parameters,
    expert_product,
    unpacking,
)
from dpo_lite.model.kept_bytes import kept_bytes
from dpo_lite.model.recompute import recompute
from dpo_lite.model.scoring import lay_out, response_logps, scoring_context
from dpo_lite.recipe import AdapterSection, ModelSection
from tests.model.small_experts import MIXTURES, save_mixture
from tests.model.small_models import random_examples
from tests.model.test_architectures import gradients, objective, relative_error, with_lora

ATTENTION = "q_proj|k_proj|v_proj|o_proj|q_a_proj|q_b_proj|kv_b_proj|in_proj_qkv"


@pytest.fixture(scope="module", params=MIXTURES)
def folder(request, tmp_path_factory):
    return save_mixture(request.param, tmp_path_factory.mktemp(request.param))


def base_of(folder, quantization="nf4"):
    return load_base(ModelSection(base=folder, quantization=quantization))


def rounded(model):
    """The same model with its packed experts as the 16-bit (here fp32) weights that they stand for,
    multiplied by transformers' own code."""
    for module in expert_modules(model).values():
        for name in expert_parameters(module):
            weight = getattr(module, name)
            whole = bnb.dequantize_4bit(weight.data, weight.quant_state)
            setattr(module, name, torch.nn.Parameter(whole, requires_grad=False))
        module.config._experts_implementation_internal = "eager"
    return model


def adapted(model):
    torch.manual_seed(1)
    return with_lora(model, target_modules=rf".*\.({ATTENTION})").train()


def backward(model, way="separate"):
    batch = lay_out(random_examples(3, 2), way)
    with scoring_context(model, batch, torch.float32):
        objective(response_logps(model, batch, way)).backward()


def test_all_experts_are_packed(folder):
    model = base_of(folder)
    modules = expert_modules(model)
    assert modules
    for module in modules.values():
        assert module.config._experts_implementation == NAME
        for name in expert_parameters(module):
            weight = getattr(module, name)
            assert weight.dtype == torch.uint8
            assert weight.numel() * 2 == torch.Size(weight.quant_state.shape).numel()
            assert weight.quant_state.nested


def test_the_gradient_is_that_of_rounded_weights(folder):
    model = adapted(base_of(folder))
    found = gradients(model, [lambda: backward(model)])
    oracle = adapted(rounded(base_of(folder)))
    expected = gradients(oracle, [lambda: backward(oracle)])
    assert relative_error(found, expected) < 1e-5
    assert all(norm.any() for name, norm in found.items() if "lora_B" in name)


@pytest.mark.parametrize("way", ["separate", "forest"])
@pytest.mark.parametrize("kind", ["qwen3_moe", "gpt_oss"])
def test_an_adapter_of_packed_experts_has_the_gradient_of_peft(kind, way, tmp_path):
    """Against PEFT's own, which adds B·A to the whole experts, on weights rounded as ours are."""
    folder = save_mixture(kind, tmp_path / "base")
    section = AdapterSection(r=2, alpha=8, experts=True)
    model = moved(roles.add_policy(base_of(folder), section, seed=0)).train()
    found = gradients(model, [lambda: backward(model, way)])
    roles.save_policy(model, tmp_path / "adapter", "base", None)
    oracle = rounded(base_of(folder))
    oracle = PeftModel.from_pretrained(oracle, tmp_path / "adapter", is_trainable=True).train()
    expected = gradients(oracle, [lambda: backward(oracle)])
    assert relative_error(found, expected) < 1e-4
    assert all(expected[n].any() for n in expected if "experts" in n)


def moved(model):
    """Some policy that has been trained."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in roles.trainable_parameters(model):
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


@pytest.mark.parametrize("how", ["selective", "layers", "offload"])
def test_recomputed_it_is_the_same(tmp_path, how):
    model = adapted(base_of(save_mixture("qwen3_moe", tmp_path)))
    found = gradients(model, [lambda: backward(model)])
    recompute(model, how)
    assert relative_error(gradients(model, [lambda: backward(model)]), found) < 1e-6


def test_whole_experts_give_the_numbers_of_transformers(folder):
    model, own = base_of(folder, "none"), random_examples(3, 2)
    batch = lay_out(own, "separate")
    with torch.no_grad():
        found = response_logps(model, batch, "plain")
        for module in expert_modules(model).values():
            module.config._experts_implementation_internal = "eager"
        assert torch.allclose(found, response_logps(model, batch, "plain"), atol=1e-4)


def test_neither_unpacked_weights_nor_their_tokens_are_kept(tmp_path):
    """Of 256 experts' weights, which are far more than the activations of a few tokens."""
    folder = save_mixture("qwen3_moe", tmp_path, num_experts=256, num_local_experts=256)
    model = adapted(base_of(folder))
    batch = lay_out(random_examples(3, 2), "separate")
    packed = kept_bytes(model, batch, torch.float32, "separate")
    whole = sum(
        4 * torch.Size(getattr(module, name).quant_state.shape).numel()
        for module in expert_modules(model).values()
        for name in expert_parameters(module)
    )
    oracle = adapted(rounded(base_of(folder)))
    assert packed < kept_bytes(oracle, batch, torch.float32, "separate")
    assert packed < 0.2 * whole


def test_products_of_one_expert_and_of_none():
    """Worked by hand: two tokens of expert 1, one of expert 2, none of the others."""
    weight = torch.zeros(4, 2, 3)
    weight[1, 0] = torch.tensor([1.0, 2.0, 3.0])
    weight[2, 1] = torch.tensor([0.0, 0.0, 5.0])
    tokens = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    counts = torch.tensor([0, 2, 1, 0])
    out = expert_product(tokens, counts, *unpacking(weight), False)
    assert out.tolist() == [[1.0, 0.0], [5.0, 0.0], [0.0, 10.0]]
    own = weight.clone().requires_grad_(True)
    moving = tokens.clone().requires_grad_(True)
    arguments = (moving, counts, *unpacking(own), False)
    assert torch.autograd.gradcheck(
        lambda t, w: expert_product(t, counts, *unpacking(w), False),
        (moving.double().detach().requires_grad_(), own.double().detach().requires_grad_()),
    )
    assert expert_product(*arguments).requires_grad


PEAK = """
import sys, threading, time
from dpo_lite.quiet import quiet_libraries
quiet_libraries()
from transformers import MixtralForCausalLM
from dpo_lite.model.base import load_base
from dpo_lite.recipe import AdapterSection, ModelSection

def anonymous():  # the files' own pages, which are mapped, are not the process' memory
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 2**10 for line in lines if line.startswith("RssAnon"))

seen, done = [], threading.Event()
def watch():
    while not done.is_set():
        seen.append(anonymous())
        time.sleep(0.001)
before = anonymous()
watcher = threading.Thread(target=watch)
watcher.start()
model = load_base(ModelSection(base=sys.argv[1]))
done.set()
watcher.join()
print(max(seen) - before, anonymous() - before)
"""


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_whole_model_never_stands_in_memory(tmp_path):
    """192 MiB of fp32 experts are read and packed to 25; in a process of its own."""
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_local_experts": 16}
    folder = save_mixture("mixtral", tmp_path, num_hidden_layers=8, **sizes)
    out = subprocess.run([sys.executable, "-c", PEAK, folder], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    peak, left = map(float, out.stdout.split())
    whole = 8 * 16 * 3 * 256 * 512 * 4 / 2**20
    print(f"peak {peak:.0f} MiB, {left:.0f} MiB left, of {whole:.0f} MiB of experts")
    assert peak < 0.6 * whole
