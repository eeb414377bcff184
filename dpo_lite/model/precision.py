"""In which numbers a loaded model computes, and how it is turned to fp32 where fp16 will not do."""

from __future__ import annotations

from pathlib import Path

import torch

from dpo_lite.errors import UserError
from dpo_lite.model.host_embedding import HostEmbedding
from dpo_lite.model.scoring import causal_lm
from dpo_lite.model.sharding import is_divided
from dpo_lite.runs.folder import Run

COMPUTED_IN = "computed_in"  # in manifest.json, a dtype's name without "torch."


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


def as_it_was_trained(model: torch.nn.Module, folder: Path) -> None:
    """In fp32 where fp16 did not do for the run whose adapter this is, or whose checkpoint.

    Another card may have computed it in bf16, which is no reason: that holds what fp32 does.
    """
    if dtype_of(model) != torch.float16:
        return
    facts = (Run(at).manifest() for at in folder.resolve().parents[:2])
    if any(found.get(COMPUTED_IN) == name_of(torch.float32) for found in facts):
        to_fp32(model)


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
