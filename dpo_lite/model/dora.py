"""DoRA's forward pass, as PEFT computes it, in the memory of some rows and exact at its start.

A layer's output is m / ‖W + s·B·A‖ · (W + s·B·A) x, the norm taken of each row and kept out of the
gradient (DoRA, arXiv:2402.09353, equations 5 and 11). PEFT makes the whole product B·A, by a unit
matrix as wide as the layer, where autograd sees it. Here the norm is taken of some rows at a time
and behind its back. A fresh magnitude m is the very norm that the first forward pass finds, so the
policy starts as the base, bit by bit, in any dtype.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear, LoraLayer
from peft.tuners.lora.variants import DoraEmbeddingVariant, DoraLinearVariant
from peft.utils.integrations import dequantize_module_weight

NUMBERS = 2**22  # of the rows in fp32 that are worked on at a time


class Dora(DoraLinearVariant):
    """What a LoRA layer does in place of PEFT's own DoRA."""

    @staticmethod
    def forward(
        module: LoraLayer, active_adapter: str, x: torch.Tensor, result: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        name = active_adapter
        magnitude = module.lora_magnitude_vector[name].weight
        share = magnitude / row_norms(module, name)
        bias = module.get_base_layer().bias
        plain = result if bias is None else result - bias
        added = module.lora_B[name](module.lora_A[name](x)) * module.scaling[name]
        return (result + (share - 1) * plain + share * added).to(result.dtype)


def wear_dora(model: PeftModel, name: str, fresh: bool) -> None:
    """Have an adapter's linear DoRA layers computed here; ``fresh``: begin at the base's lengths.

    The tensors of a saved adapter must still be loaded.
    """
    for module in model.modules():
        variant = module.lora_variant.get(name) if isinstance(module, LoraLayer) else None
        if isinstance(variant, DoraLinearVariant) and not isinstance(variant, DoraEmbeddingVariant):
            module.lora_variant[name] = Dora()
            if fresh:
                magnitude = module.lora_magnitude_vector[name].weight
                magnitude.data = row_norms(module, name).to(magnitude.device)


@torch.no_grad()
def row_norms(layer: Linear, name: str) -> torch.Tensor:
    """‖W + s·B·A‖ of every row, one for each output: (out,), fp32, outside of any gradient."""
    weight = dequantize_module_weight(layer.get_base_layer())
    if getattr(layer, "fan_in_fan_out", False):
        weight = weight.T
    down, up, scale = layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]
    rows = max(1, NUMBERS // weight.shape[1])
    whole = nullcontext() if weight.is_meta else torch.autocast(weight.device.type, enabled=False)
    with whole:
        parts = [
            torch.linalg.vector_norm(some.float() + scale * (ups.float() @ down.float()), dim=1)
            for some, ups in zip(weight.split(rows), up.split(rows), strict=True)
        ]
    return torch.cat(parts)
