"""PiSSA and OLoRA that leave the base as it is, and are plain LoRA where they are saved."""

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from dpo_lite.errors import UserError
from dpo_lite.export.merge import merge
from dpo_lite.files import read_json
from dpo_lite.model import own_start, roles
from dpo_lite.model.base import load_base
from dpo_lite.model.checkpoints import load_checkpoint, save_checkpoint
from dpo_lite.model.untouched import base_says
from dpo_lite.recipe import AdapterSection, ModelSection, validate_recipe
from scripts.adapters.bases import make_base, open_base, says


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_base("plain", tmp_path_factory.mktemp("base") / "plain")


def policy(base, seed=0, quantization="none", **section):
    model = load_base(ModelSection(base=str(base), quantization=quantization))
    return roles.add_policy(model, AdapterSection(**{"r": 4, "alpha": 12} | section), seed)


def train(model, updates=3, seed=0):
    """Some updates of the likelihood of random tokens."""
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(roles.trainable_parameters(model), lr=1e-2)
    for _ in range(updates):
        ids = torch.randint(3, 60, (2, 9))
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


@pytest.mark.parametrize("how", ["pissa", "olora"])
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_it_starts_at_the_base_and_bends_it_nowhere(base, how, quantization):
    """Bit by bit, with the adapter on and off, also in 4 bits."""
    bare = base_says(load_base(ModelSection(base=str(base), quantization=quantization)))
    model = policy(base, quantization=quantization, init=how)
    assert torch.equal(base_says(model), bare)
    train(model)
    assert (base_says(model) - bare).abs().max() > 1e-2
    with roles.reference(model):
        assert torch.equal(base_says(model), bare)


@pytest.mark.parametrize("how", ["pissa", "olora"])
def test_its_factors_are_those_that_peft_starts_at(base, how):
    from peft import LoraConfig, get_peft_model

    settings = {"r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "down_proj"]}
    theirs = get_peft_model(open_base(base), LoraConfig(init_lora_weights=how, **settings))
    ours = policy(base, init=how, targets=["q_proj", "down_proj"])
    for path, layer in own_start._started(ours, roles.POLICY):
        other = theirs.get_submodule(path)
        product = layer.lora_B.default.start @ layer.lora_A.default.start
        assert torch.allclose(
            product, other.lora_B.default.weight @ other.lora_A.default.weight, atol=1e-4
        )


def test_the_gradient_is_that_of_the_factors(base):
    """Trained from its start as PEFT's own PiSSA is: the same function after some updates."""
    from peft import LoraConfig, get_peft_model

    targets = ["q_proj", "v_proj", "up_proj"]
    settings = {"r": 4, "lora_alpha": 12, "target_modules": targets}
    theirs = get_peft_model(open_base(base), LoraConfig(init_lora_weights="pissa", **settings))
    ours = policy(base, init="pissa", targets=targets)
    for path, layer in own_start._started(ours, roles.POLICY):  # signs of vectors are free
        other = theirs.get_submodule(path)
        layer.lora_A.default.start.copy_(other.lora_A.default.weight)
        layer.lora_B.default.start.copy_(other.lora_B.default.weight)
    for model in (theirs, ours):
        torch.manual_seed(0)
        optimizer = torch.optim.SGD(roles.trainable_parameters(model.train()), lr=1e-2)
        for _ in range(3):
            ids = torch.randint(3, 60, (2, 9))
            model(ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    assert (says(ours) - says(theirs)).abs().max() < 1e-3
    assert (says(ours) - says(open_base(base))).abs().max() > 1e-2


@pytest.mark.parametrize("section", [{"init": "pissa"}, {"init": "olora", "rslora": True}], ids=str)
def test_what_is_saved_is_plain_lora_for_anybody(base, section, tmp_path):
    model = policy(base, **section)
    train(model)
    trained = says(model)
    roles.save_policy(model, tmp_path / "adapter", str(base), None)
    config = read_json(tmp_path / "adapter" / "adapter_config.json")
    assert config["init_lora_weights"] is True
    assert config["r"] == 8
    again = PeftModel.from_pretrained(open_base(base), tmp_path / "adapter")
    assert (says(again) - trained).abs().max() < 1e-5
    merge(str(base), None, str(tmp_path / "adapter"), tmp_path / "merged")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert (says(whole) - trained).abs().max() < 1e-4


def test_a_checkpoint_goes_on_bit_by_bit(base, tmp_path):
    model = policy(base, init="pissa")
    train(model)
    save_checkpoint(model, tmp_path)
    other = policy(base, init="olora")  # whatever it started at
    load_checkpoint(other, tmp_path)
    assert torch.equal(says(other), says(model))
    assert train(other, seed=1) == train(model, seed=1)
    assert torch.equal(says(other), says(model))


def test_beyond_all_singular_vectors_it_is_near_and_the_same_for_a_seed(monkeypatch):
    """A spectrum that falls as those of trained weights do."""
    torch.manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(n, 60))[0] for n in (80, 60))
    weight = left @ torch.diag(torch.arange(1, 61) ** -0.7) @ right.T
    whole_a, whole_b = own_start._principal(weight, 8, 2.0, seed=0)
    monkeypatch.setattr(own_start, "EXACT", 10)
    before = torch.get_rng_state()
    near_a, near_b = own_start._principal(weight, 8, 2.0, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    again = own_start._principal(weight, 8, 2.0, seed=0)
    assert torch.equal(again[0], near_a)
    assert (2 * (near_b @ near_a - whole_b @ whole_a)).norm() < 0.02 * weight.norm()


def test_what_has_no_such_start(base):
    with pytest.raises(UserError, match=r"for linear layers, and .*embed_tokens is none"):
        policy(base, init="pissa", targets=["embed_tokens"])
    with pytest.raises(UserError, match=r"at most 16 ranks .*adapter.r"):
        policy(base, init="pissa", r=17)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"adapter": {"init": "pissa", "kind": "dora"}}, "needs adapter.kind: lora"),
        ({"adapter": {"init": "pissa", "experts": True}}, "set adapter.experts: false"),
        ({"adapter": {"kind": "dora", "experts": True}}, "set adapter.experts: false"),
        ({"adapter": {"rslora": True}, "model": {"adapter": "me/x"}}, "rslora is for a fresh"),
        ({"adapter": {"init": "olora"}, "model": {"adapter": "me/x"}}, "init is for a fresh"),
    ],
)
def test_recipes_that_do_not_go_together(values, message):
    model = {"base": "b"} | values.get("model", {})
    with pytest.raises(UserError, match=message):
        validate_recipe(values | {"model": model, "data": {"train": "x"}}, "test")
