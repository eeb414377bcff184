"""The KL while training is the KL: of the policy's own answers, exact in the limit."""

import pytest
import torch

from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.recipe import AdapterSection, ModelSection
from dpo_lite.training.sampling import sampled_kl

PROMPT = [5, 9, 40]


@pytest.fixture(scope="module")
def model(tiny_base):
    base = load_base(ModelSection(base=tiny_base, quantization="none"))
    return roles.add_policy(base, AdapterSection(r=4), seed=0)


def test_no_kl_before_training(model):
    assert sampled_kl(model, [PROMPT], max_new_tokens=4, seed=0) == pytest.approx(0, abs=1e-5)


@torch.no_grad()
def test_one_token_against_the_sum_over_the_vocabulary(model):
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=generator))
    model.eval()
    ids = torch.tensor([PROMPT])
    with roles.policy(model):
        policy = model(ids).logits[0, -1].log_softmax(-1)
    with roles.reference(model):
        reference = model(ids).logits[0, -1].log_softmax(-1)
    exact = (policy.exp() * (policy - reference)).sum().item()
    assert exact > 0.02
    found = sampled_kl(model, [PROMPT], max_new_tokens=1, seed=3, answers=4000)
    # The error of a mean of 4000 samples, at three standard deviations.
    spread = (policy.exp() * (policy - reference - exact) ** 2).sum().sqrt().item()
    assert found == pytest.approx(exact, abs=3 * spread / 4000**0.5)
