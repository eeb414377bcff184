"""A divided base is the base: here over one process, over two in tests/training/test_divided.py.

Of one part there is all, but it goes the same way: gathered before a layer, let go of behind it.
"""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from dpo_lite.errors import UserError
from dpo_lite.model import roles, sharding
from dpo_lite.model.base import load_base
from dpo_lite.model.dry_run import costs_of_model
from dpo_lite.model.experts import expert_modules
from dpo_lite.model.host_embedding import parkable
from dpo_lite.model.precision import to_fp32
from dpo_lite.model.scoring import causal_lm, lay_out, response_logps, scoring_context
from dpo_lite.model.weights import held
from dpo_lite.recipe import AdapterSection, ModelSection
from tests.model.small_experts import small_mixture
from tests.model.small_models import random_examples, small_model
from tests.model.test_chance import gpt_oss_in_mxfp4

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mesh():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield DeviceMesh.from_group(dist.group.WORLD, "cpu")
    dist.destroy_process_group()


def loaded(folder, quantization, made):
    made.save_pretrained(folder)
    return adapted(load_base(ModelSection(base=str(folder), quantization=quantization)))


def adapted(base):
    model = roles.add_policy(base, AdapterSection(r=4, alpha=8), seed=0).train()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in roles.trainable_parameters(model):
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def scored(model, way="forest"):
    """Log-probabilities of policy and reference, and the policy's gradient."""
    batch = lay_out(random_examples(3, 2, seed=3), way)
    model.zero_grad(set_to_none=True)
    with scoring_context(model, batch, torch.float32):
        with roles.reference(model), torch.no_grad():
            reference = response_logps(model, batch, way)
        with roles.policy(model):
            policy = response_logps(model, batch, way)
            policy.sum().backward()
    return [reference, policy.detach(), *(p.grad for p in roles.trainable_parameters(model))]


def llama(tied):
    return small_model("llama", hidden_size=64, tie_word_embeddings=tied)


@pytest.mark.parametrize(("quantization", "tied"), [("nf4", False), ("none", True)])
def test_nothing_changes(quantization, tied, mesh, tmp_path):
    model = loaded(tmp_path, quantization, llama(tied))
    lm, ways = causal_lm(model), ("forest", "plain")
    before, words = [scored(model, way) for way in ways], held(lm).words()
    examples = random_examples(2, 2, seed=2)
    costs = costs_of_model(model, torch.float32, examples, "forest")
    sharding.divide(lm, mesh)
    frozen = [p for p in model.parameters() if not p.requires_grad]
    assert all(isinstance(p, DTensor) for p in frozen)
    assert not any(isinstance(p, DTensor) for p in roles.trainable_parameters(model))
    for way, expected in zip(ways, before, strict=True):
        assert all(map(torch.equal, scored(model, way), expected)), way
    assert all(isinstance(p, DTensor) for p in model.parameters() if not p.requires_grad)
    assert held(lm).words() == words
    # Planned for: what lies here, and what is gathered for a moment beside it.
    now = costs_of_model(model, torch.float32, examples, "forest")
    assert now.weights == costs.weights + sharding.gathered_bytes(lm)
    assert (now.layer, now.trained, now.linear) == (costs.layer, costs.trained, costs.linear)
    assert not parkable(lm)
    with pytest.raises(UserError, match="divided weights cannot change theirs"):
        to_fp32(model)


@pytest.mark.parametrize("bits", ["nf4", "mxfp4"])
def test_experts_in_4_bits_are_divided_too(bits, mesh, tmp_path):
    if bits == "mxfp4":
        model = adapted(load_base(ModelSection(base=gpt_oss_in_mxfp4(tmp_path))))
    else:
        model = loaded(tmp_path, "nf4", small_mixture("qwen3_moe"))
    lm = causal_lm(model)
    assert [
        p for m in expert_modules(lm).values() for p in m.parameters() if p.dtype == torch.uint8
    ]
    before, words = scored(model), held(lm).words()
    sharding.divide(lm, mesh)
    assert all(map(torch.equal, scored(model), before))
    assert held(lm).words() == words
