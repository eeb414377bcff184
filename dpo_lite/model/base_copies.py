"""Weights of the base that PEFT saves beside an adapter: copies are left out, others refused.

Where an adapter changes the embedding or the head, or the vocabulary was resized, PEFT puts their
whole weights into the adapter's file. Loaded, they would take the place of the base's own, also for
a reference with adapters off.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from dpo_lite.model.adapter_names import PREFIX
from dpo_lite.model.adapter_settings import MERGE, is_head
from dpo_lite.model.targets import plain_name


def is_of_base(name: str) -> bool:
    """Whether a tensor of an adapter's file is neither LoRA's nor a scalar head."""
    return ".lora_" not in name and not is_head(name)


def without_copies(
    tensors: dict[str, torch.Tensor], weight: Callable[[str], torch.Tensor | None]
) -> dict[str, torch.Tensor]:
    """An adapter's own tensors; ``weight`` gives the base's, by its name in the model.

    Raises ValueError where a weight is not the base's, to the precision that the base has.
    """
    for name, tensor in tensors.items():
        if not is_of_base(name):
            continue
        plain = plain_name(name.removeprefix(PREFIX))
        there = weight(plain)
        if there is None or not _same(tensor, there):
            raise ValueError(
                f"it comes with {plain} of its own, which is not this base's (was the vocabulary "
                f"resized, or that layer trained?); {MERGE}."
            )
    return {name: tensor for name, tensor in tensors.items() if not is_of_base(name)}


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape:
        return False
    coarser = min(one.dtype, other.dtype, key=lambda dtype: (dtype.itemsize, -_range(dtype)))
    return torch.equal(one.to(other.device, coarser), other.to(coarser))


def _range(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).max
