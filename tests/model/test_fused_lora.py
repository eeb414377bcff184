"""A layer and its adapter as one node: PEFT's numbers and gradients, with less of them kept."""

from copy import deepcopy

import bitsandbytes as bnb
import pytest
import torch
from peft import LoraConfig, get_peft_model

from dpo_lite.model import fused_lora, roles
from dpo_lite.model.base import load_base
from dpo_lite.model.fused_lora import fuse_adapters
from dpo_lite.model.fused_modules import fuse_modules
from dpo_lite.recipe import AdapterSection, ModelSection
from tests.model.small_models import small_model
from tests.model.test_fused_modules import IDS, kept

INPUTS, OUTPUTS, RANK = 128, 192, 4


class One(torch.nn.Module):
    """A model of one layer."""

    def __init__(self, quantization="none", bias=False):
        super().__init__()
        self.layer = torch.nn.Linear(INPUTS, OUTPUTS, bias)
        if quantization != "none":
            packed = bnb.nn.Linear4bit(
                INPUTS,
                OUTPUTS,
                bias,
                torch.float32,
                compress_statistics=quantization == "nested",
                quant_type="nf4",
            )
            packed.load_state_dict(self.layer.state_dict())
            packed.support_avx512bf16_for_cpu = False  # see dpo_lite.model.base
            self.layer = packed.to("cpu")

    def forward(self, x):
        return self.layer(x)


def adapted(quantization="none", with_bias=False, **settings):
    """PEFT's own, with factors that are not zero, and a scale that is no power of two."""
    torch.manual_seed(0)
    settings = {"r": RANK, "lora_alpha": 7, "init_lora_weights": False} | settings
    return get_peft_model(
        One(quantization, with_bias), LoraConfig(target_modules=["layer"], **settings)
    )


def said(model, dtype=torch.float32):
    """Output, gradient of the input and of what is trained, and the node that made the output."""
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(2, 5, INPUTS, generator=draw).to(dtype).requires_grad_()
    upstream = torch.randn(2, 5, OUTPUTS, generator=draw)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        output = model(x)
    trained = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad((output.float() * upstream).sum(), [x, *trained])
    return [output, *gradients], output.grad_fn.name()


def compared(model, dtype=torch.float32):
    """PEFT's numbers and ours, and whether ours came from one node."""
    expected, _ = said(model, dtype)
    fuse_adapters(model)
    own, node = said(model, dtype)
    return list(zip(own, expected, strict=True)), node == "_LoraBackward"


@pytest.mark.parametrize("quantization", ["none", "nf4", "nested"])
@pytest.mark.parametrize("bias", [False, True])
def test_the_layer_is_pefts(quantization, bias):
    pairs, fused = compared(adapted(quantization, bias))
    assert fused
    for own, expected in pairs:
        assert (own - expected).norm() < 1e-6 * expected.norm()


def test_under_autocast_it_is_pefts_but_for_rounding():
    model = adapted()
    model.base_model.model.layer.base_layer.bfloat16()
    pairs, fused = compared(model, torch.bfloat16)
    assert fused
    for own, expected in pairs:
        assert own.dtype == expected.dtype
        assert (own - expected).float().norm() < 1e-2 * expected.float().norm()


@pytest.mark.parametrize(
    "settings",
    [{"use_dora": True}, {"lora_dropout": 0.5}, {"bias": "lora_only"}, {"lora_bias": True}],
    ids=lambda settings: next(iter(settings)),
)
def test_what_is_not_plain_lora_is_pefts_business(settings):
    model = adapted(with_bias=True, **settings).eval()
    pairs, fused = compared(model)
    assert not fused
    assert all(torch.equal(own, expected) for own, expected in pairs)


@pytest.mark.parametrize("where", ["base_layer", "lora_A"])
def test_a_hook_in_the_way_still_sees_what_goes_by(where):
    model, seen = adapted(), []
    fuse_adapters(model)
    layer = model.base_model.model.layer
    inner = layer.base_layer if where == "base_layer" else layer.lora_A["default"]
    inner.register_forward_hook(lambda *given: seen.append(1))
    said(model)
    assert seen


def test_two_adapters_at_once_are_pefts_business():
    model = adapted()
    model.add_adapter("other", LoraConfig(r=2, target_modules=["layer"], init_lora_weights=False))
    model.base_model.set_adapter(["default", "other"])
    _, fused = compared(model)
    assert not fused


def test_without_an_adapter_it_is_the_base_and_a_fresh_one_adds_nothing():
    """To the bit: the reference is the base, and the policy starts there."""
    model = adapted("nested", init_lora_weights=True)
    fuse_adapters(model)
    x = torch.randn(3, INPUTS)
    expected = model.base_model.model.layer.base_layer(x)
    assert torch.equal(model(x), expected)
    torch.nn.init.normal_(model.base_model.model.layer.lora_B["default"].weight)
    assert not torch.equal(model(x), expected)
    with model.disable_adapter():
        assert torch.equal(model(x), expected)


def test_a_copy_learns_by_itself():
    model = adapted()
    fuse_adapters(model)
    copy = deepcopy(model)
    copy.base_model.model.layer.lora_B["default"].weight.data.zero_()
    assert not torch.equal(said(copy)[0][0], said(model)[0][0])


def test_kept_are_the_input_and_its_few_products():
    model = adapted()
    fuse_adapters(model)
    x = torch.randn(6, INPUTS, requires_grad=True)
    held, _ = kept(lambda: model(x), model)
    assert held == 4 * 6 * (INPUTS + RANK)


def policies(name):
    """A model as PEFT computes it and as it is computed here, adapters alike and not zero."""
    found = []
    for fused in (False, True):
        base = small_model(name).requires_grad_(False)
        if fused:
            fuse_modules(base)
        model = roles.add_policy(base, AdapterSection(r=RANK), seed=0)
        for module in model.modules():
            if not fused:
                vars(module).pop("forward", None)
        torch.manual_seed(3)
        for parameter in roles.trainable_parameters(model):
            torch.nn.init.normal_(parameter, std=0.1)
        found.append(model)
    return found


@pytest.mark.parametrize("name", ["llama", "gemma2", "phi3"])
def test_a_whole_policy(name):
    """Log-probabilities to 1e-5, gradients to 1e-4, and the MLP's product is not kept."""
    results = []
    for model in policies(name):
        held, logits = kept(lambda m=model: m(input_ids=IDS, use_cache=False).logits, model)
        logps = logits.log_softmax(-1)
        trained = roles.trainable_parameters(model)
        gradients = torch.autograd.grad(logps[..., 5].square().sum(), trained)
        results.append((held, logps, gradients))
    (more, expected, slopes), (less, logps, own) = results
    torch.testing.assert_close(logps, expected, rtol=0, atol=1e-5)
    for mine, right in zip(own, slopes, strict=True):
        assert (mine - right).norm() <= 1e-4 * right.norm()
    layers, inner = 3, 96
    assert more - less >= layers * IDS.numel() * 4 * 2 * inner  # f(gate), and its product with up


def test_one_layer_for_gate_and_up_in_4_bits(tmp_path):
    """Phi-3's, as the loader leaves it, against transformers' and PEFT's own code."""
    small_model("phi3", hidden_size=128).save_pretrained(tmp_path)
    results = []
    for plain in (True, False):
        base = load_base(ModelSection(base=str(tmp_path), quantization="nf4"))
        model = roles.add_policy(base, AdapterSection(r=RANK), seed=0)
        torch.manual_seed(3)
        for parameter in roles.trainable_parameters(model):
            torch.nn.init.normal_(parameter, std=0.1)
        own = [vars(module).get("forward") for module in model.modules()]
        assert any(getattr(f, "__name__", "") == "_joint_mlp_forward" for f in own)
        for module in model.modules() if plain else ():
            vars(module).pop("forward", None)
        logps = model(input_ids=IDS, use_cache=False).logits.log_softmax(-1)
        trained = roles.trainable_parameters(model)
        results.append((logps, *torch.autograd.grad(logps[..., 5].square().sum(), trained)))
    for mine, right in zip(*reversed(results), strict=True):
        assert (mine - right).norm() <= 1e-5 * right.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("quantization", ["none", "nested"])
@torch.no_grad()
def test_rows_of_several_adapters_are_pefts(quantization, dtype, monkeypatch):
    """Bit by bit where rows of one name stand together; without lists that a card waits for."""
    model = adapted(quantization, with_bias=True).eval()
    model.add_adapter("other", LoraConfig(r=2, target_modules=["layer"], init_lora_weights=False))
    x = torch.randn(4, 5, INPUTS, generator=torch.Generator().manual_seed(2))
    layer = model.base_model.model.layer
    names = ["__base__", "default", "default", "other"]
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        expected = layer(x, adapter_names=names)
        fuse_adapters(model)
        monkeypatch.setattr(type(layer), "_mixed_batch_forward", None)
        assert torch.equal(layer(x, adapter_names=names), expected)
        rows = [layer(x[at : at + 1], adapter_names=names[at : at + 1]) for at in (3, 0, 1)]
        apart = layer(x[[3, 0, 1]], adapter_names=["other", "__base__", "default"])
        assert torch.equal(apart, torch.cat(rows))


@torch.no_grad()
def test_rows_of_what_is_no_plain_adapter_are_left_to_peft(monkeypatch):
    model = adapted(lora_dropout=0.1).eval()
    fuse_adapters(model)
    monkeypatch.setattr(fused_lora, "_by_rows", None)
    layer = model.base_model.model.layer
    x = torch.randn(2, 5, INPUTS, generator=torch.Generator().manual_seed(2))
    found = layer(x, adapter_names=["__base__", "default"])
    assert torch.equal(found[0], layer.base_layer(x)[0])
    assert torch.equal(found[1], layer(x)[1])
