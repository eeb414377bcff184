"""In which numbers a loaded model computes, and how it is turned to fp32 where fp16 will not do."""

from __future__ import annotations

import torch

from dpo_lite.errors import UserError
from dpo_lite.model.host_embedding import HostEmbedding
from dpo_lite.model.scoring import causal_lm
from dpo_lite.model.sharding import is_divided


def dtype_of(model: torch.nn.Module) -> torch.dtype:
    """What the model computes in: that of what lies in it unpacked, whichever the device's is."""
    return causal_lm(model).dtype


def to_fp32(model: torch.nn.Module) -> None:
    """Compute in fp32 from now on. 4-bit weights stay as they are, others take twice the room.

    Weights that were rounded to fp16 when they were read stay so; policy and reference share them.
    """
    lm = causal_lm(model)
    if is_divided(lm):
        raise UserError(
            "fp16 does not hold this model's numbers, and divided weights cannot change theirs;"
            " launch it on cards that have bf16 (Ampere and later)."
        )
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.dtype == torch.float16:
            tensor.data = tensor.data.float()
        if (state := getattr(tensor, "quant_state", None)) is not None:
            state.dtype = torch.float32
    for module in model.modules():
        if isinstance(module, HostEmbedding):
            module.held = (module.held[0], module.held[1].float())
        if getattr(module, "compute_dtype", None) == torch.float16:
            module.compute_dtype = torch.float32
    lm.config.dtype = torch.float32
