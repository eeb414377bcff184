"""Whatever is computed again, the gradient is the same, and less is kept."""

import gc

import bitsandbytes as bnb
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dpo_lite.model import roles
from dpo_lite.model.attention import forest_attention
from dpo_lite.model.base import load_base
from dpo_lite.model.device_memory import until_it_fits
from dpo_lite.model.recompute import count_selective, decoder_layers, recompute
from dpo_lite.model.scoring import lay_out, response_logps
from dpo_lite.recipe import AdapterSection, ModelSection
from tests.model.small_models import random_examples, small_model
from tests.model.test_architectures import gradients, objective, relative_error

RANK = 4


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    small_model("llama", hidden_size=128, intermediate_size=256).save_pretrained(folder)
    return str(folder)


@pytest.fixture(params=["nf4", "none"])
def model(base_folder, request):
    base = load_base(ModelSection(base=base_folder, quantization=request.param))
    found = roles.add_policy(base, AdapterSection(r=RANK, alpha=8), seed=0).train()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in roles.trainable_parameters(found):
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return found


def update(model):
    rows = lay_out(random_examples(4, 2), "forest")
    with forest_attention(model.get_base_model(), rows):
        objective(response_logps(model, rows, "forest")).backward()


@pytest.mark.parametrize("how", ["selective", "layers", "offload"])
@pytest.mark.parametrize("count", [None, 2])
def test_the_gradient_is_the_same(model, how, count):
    expected = gradients(model, [lambda: update(model)])
    recompute(model, how, count)
    found = gradients(model, [lambda: update(model)])
    assert [m.gradient_checkpointing for m in decoder_layers(model)] == [True, True, count is None]
    assert relative_error(found, expected) < 1e-6
    recompute(model, "none")
    assert relative_error(gradients(model, [lambda: update(model)]), expected) < 1e-6


@pytest.mark.parametrize("how", ["selective", "layers", "offload"])
def test_bf16_compute_is_recomputed_in_bf16(model, how):
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.compute_dtype = torch.bfloat16  # as it is loaded on a card

    def mixed():
        with torch.autocast("cpu", torch.bfloat16):
            update(model)

    expected = gradients(model, [mixed])
    recompute(model, how)
    assert relative_error(gradients(model, [mixed]), expected) < 1e-6


class Products(TorchDispatchMode):
    """Counts 4-bit products, adapters with them, in the forward pass and in what is done again."""

    count = 0

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        self.count += operation.name() == "dpo_lite::lora_product"
        return operation(*arguments, **(options or {}))


def products(model):
    with Products() as counter:
        update(model)
    return counter.count


def test_selective_runs_no_product_twice(base_folder):
    base = load_base(ModelSection(base=base_folder, quantization="nf4"))
    model = roles.add_policy(base, AdapterSection(r=RANK, alpha=8), seed=0).train()
    once = products(model)
    assert once == 21  # seven in each of three layers
    recompute(model, "layers")
    assert products(model) == 2 * once
    recompute(model, "selective")
    assert products(model) == once


@pytest.mark.slow
def test_nothing_is_kept_without_gradients(model):
    recompute(model, "selective")
    rows = lay_out(random_examples(4, 2), "forest")
    with torch.no_grad(), forest_attention(model.get_base_model(), rows):
        before = sum(isinstance(o, torch.Tensor) for o in gc.get_objects())
        response_logps(model, rows, "forest")
        gc.collect()
        after = sum(isinstance(o, torch.Tensor) for o in gc.get_objects())
    assert after <= before


def test_what_selective_keeps_is_counted(model):
    """Per token and layer: q, k, v, o and attention, gate and up, down, and A's outputs."""
    rows = lay_out(random_examples(4, 2), "forest")
    lm = model.get_base_model()
    with count_selective(model) as counter, forest_attention(lm, rows):
        response_logps(model, rows, "forest")
    tokens = rows.input_ids.numel()
    hidden, mlp, key_value = 128, 256, 64
    numbers = hidden + 2 * key_value + hidden + hidden + 2 * mlp + hidden + 7 * RANK
    found = counter.bytes / (3 * tokens)
    lse = 4 * 4  # attention also keeps one fp32 number per head and token
    assert found == pytest.approx(4 * numbers + lse, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["selective", "layers", "offload"])
def test_memory_that_runs_out_in_the_backward_pass_is_given_back(model, how):
    """Before it is tried again no tensor of the attempt that broke off is left."""

    def tensors():
        return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())

    def break_off(module, inputs):
        if broken and torch._C._current_graph_task_id() != -1:  # in a backward pass
            raise torch.OutOfMemoryError("CUDA out of memory.")

    def attempt():
        counts.append(tensors())
        update(model)

    def give_up(error):
        model.zero_grad(set_to_none=True)
        broken.clear()

    counts, broken = [], []
    recompute(model, how)
    until_it_fits(attempt, give_up)  # what is made once is there
    decoder_layers(model)[0].mlp.register_forward_pre_hook(break_off)
    model.zero_grad(set_to_none=True)
    counts.clear()
    broken.append(True)
    until_it_fits(attempt, give_up)
    assert len(counts) == 2
    assert counts[1] <= counts[0]
