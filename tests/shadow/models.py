"""Models of real shapes on the shadow card, as the product's loader and roles leave them."""

from __future__ import annotations

from copy import deepcopy
from unittest.mock import patch

import bitsandbytes as bnb
import torch
from bitsandbytes.functional import QuantState
from torch.utils._python_dispatch import _disable_current_modes

from dpo_lite.model import fused_ops, roles
from dpo_lite.model.base import compute_dtype
from dpo_lite.model.chance import disable_dropout
from dpo_lite.model.four_bits import would_pack
from dpo_lite.model.fused_modules import fuse_modules
from dpo_lite.model.scoring import causal_lm
from dpo_lite.model.text_model import from_config

CARD = torch.device("cuda", 0)
fused_ops.has_triton = lambda: True  # it comes with PyTorch's builds for cards


def on_card(config, recipe, head=False):
    """The base of a config with the recipe's adapter as its policy, ``head``: a reward model.

    It is put together on meta and then filled, so that no weight is ever there.
    """
    dtype = compute_dtype(CARD)
    with _disable_current_modes(), torch.device("meta"):
        base = from_config(deepcopy(config), dtype=dtype)
        base.requires_grad_(False)
        base.config.use_cache = False
        disable_dropout(base)
        fuse_modules(base)
        wanted, packed = would_pack(base, recipe.model.quantization == "nf4"), {}
        for module in list(base.modules()):
            for name, child in list(module.named_children()):
                if id(getattr(child, "weight", None)) in wanted:
                    small = bnb.nn.Linear4bit(1, 1, False, dtype, quant_type="nf4")
                    small.in_features, small.out_features = child.in_features, child.out_features
                    small.bias, packed[small] = child.bias, child.weight.shape
                    setattr(module, name, small)
        with (  # they ask the base what it says, which nothing on meta does
            patch.object(roles, "base_says", lambda model: None),
            patch.object(roles, "check_untouched", lambda model, before: None),
        ):
            model = roles.add_policy(base, recipe.adapter, 0, head)
    for module in model.modules():
        for name, old in module._parameters.items():
            if old is not None:
                new = torch.empty(old.shape, dtype=old.dtype, device=CARD)
                if module in packed and name == "weight":
                    new = nf4(packed[module], dtype)
                else:
                    new = torch.nn.Parameter(new, requires_grad=old.requires_grad)
                module._parameters[name] = new
        for name, old in module._buffers.items():
            if old is not None:
                module._buffers[name] = torch.empty(old.shape, dtype=old.dtype, device=CARD)
    causal_lm(model).tie_weights()
    return model.train()


def nf4(shape, dtype):
    """A weight as bitsandbytes holds it: 4 bits, a byte per 64 of them, and these scaled again."""
    numbers = shape.numel()
    blocks = -(-numbers // 64)

    def empty(count, kind=torch.float32):
        return torch.empty(count, dtype=kind, device=CARD)

    scales = QuantState(absmax=empty(-(-blocks // 256)), code=empty(256), blocksize=256)
    scales.dtype = torch.float32
    weight = torch.nn.Parameter(empty((-(-numbers // 2), 1), torch.uint8), requires_grad=False)
    weight.quant_state = QuantState(
        absmax=empty(blocks, torch.uint8),
        shape=shape,
        code=empty(16),
        blocksize=64,
        quant_type="nf4",
        dtype=dtype,
        offset=empty(()),
        state2=scales,
    )
    return weight
