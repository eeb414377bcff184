"""DoRA as PEFT has it, from the base's own lengths, on any base."""

import pytest
import torch
from peft import PeftModel

from dpo_lite.model import dora, roles
from dpo_lite.model.base import load_base
from dpo_lite.model.kept_bytes import kept_bytes
from dpo_lite.model.scoring import lay_out
from dpo_lite.model.untouched import base_says
from dpo_lite.recipe import AdapterSection, ModelSection
from scripts.adapters.bases import make_base, open_base, says

SECTION = AdapterSection(r=4, alpha=12, kind="dora")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_base("biased", tmp_path_factory.mktemp("base") / "biased")


def policy(base, quantization="none", dtype=None):
    model = load_base(ModelSection(base=str(base), quantization=quantization))
    return roles.add_policy(model.to(dtype) if dtype else model, SECTION, seed=0)


@pytest.mark.parametrize(
    ("quantization", "dtype"), [("none", None), ("none", torch.bfloat16), ("nf4", None)]
)
def test_it_starts_at_the_base(base, quantization, dtype):
    """PEFT's own magnitudes are rounded to the base's 16 bits: there it would start beside it."""
    model = policy(base, quantization, dtype)
    with roles.reference(model):
        bare = base_says(model)
    assert torch.equal(base_says(model), bare)


def test_value_and_gradient_are_pefts(base, tmp_path, monkeypatch):
    monkeypatch.setattr(dora, "NUMBERS", 100)  # three rows at a time
    ours = policy(base)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in roles.trainable_parameters(ours):
            parameter.add_(torch.randn_like(parameter) * 0.1)
    roles.save_policy(ours, tmp_path / "adapter", str(base), None)
    theirs = PeftModel.from_pretrained(open_base(base), tmp_path / "adapter", is_trainable=True)
    ids = torch.arange(3, 23)[None]
    found = []
    for model in (ours, theirs):
        model.train()
        model(ids, labels=ids).loss.backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert (says(ours) - says(theirs)).abs().max() < 2e-5
    assert found[0].keys() == found[1].keys()
    assert any("magnitude" in name for name in found[0])
    for name, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][name], rtol=1e-3, atol=1e-5), name


def test_no_whole_weight_is_kept_for_the_backward_pass(base):
    """What is kept grows with the tokens alone: the norms leave nothing behind."""
    model = policy(base).train()

    def kept(tokens):
        example = {"prompt_ids": [5] * tokens, "response_ids": [[6] * tokens] * 2}
        return kept_bytes(model, lay_out([example], "forest"), torch.float32, "forest")

    ten, twenty, forty = kept(10), kept(20), kept(40)
    assert forty - twenty == pytest.approx(2 * (twenty - ten), rel=0.05)
    assert ten == pytest.approx(twenty - ten, rel=0.35)
