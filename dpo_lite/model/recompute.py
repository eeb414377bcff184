"""Less memory for more time: which activations the backward pass computes again.

    none        everything is kept
    selective   the outputs of matrix products and of attention are kept, the rest is cheap to redo
    layers      a layer keeps only its input and is run again
    offload     the same, and the inputs wait in the host's memory (dpo_lite.model.offload)

The gradient is the same in all four. ``layers`` can be had for a part of the layers: the first
ones, since theirs wait longest. transformers calls the function that is set here in place of its
own checkpointing; it looks it up at every layer (GradientCheckpointingLayer).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)
from transformers.modeling_layers import GradientCheckpointingLayer

from dpo_lite.model.layers import decoder_of
from dpo_lite.model.offload import Lane
from dpo_lite.model.scoring import causal_lm

Recompute = Literal["none", "selective", "layers", "offload"]


def recompute(model: torch.nn.Module, how: Recompute, count: int | None = None) -> None:
    """Set what the model's layers compute again; ``count``: only the first so many layers."""
    ways = {
        "selective": partial(_selective, lora_rank(model)),
        "layers": _whole,
        "offload": Lane(),
    }
    for number, layer in enumerate(decoder_layers(model)):
        layer.gradient_checkpointing = how != "none" and (count is None or number < count)
        layer._gradient_checkpointing_func = ways.get(how)


def lora_rank(model: torch.nn.Module) -> int:
    """The largest rank of the model's adapters: it tells their products from those of the base."""
    return max((config.r for config in getattr(model, "peft_config", {}).values()), default=0)


def decoder_layers(model: torch.nn.Module) -> list[GradientCheckpointingLayer]:
    """The layers of the text model that can be computed again, in their order."""
    text = decoder_of(causal_lm(model))
    return [m for m in text.modules() if isinstance(m, GradientCheckpointingLayer)]


def _whole(run: Callable, *inputs: Any):
    if not torch.is_grad_enabled():
        return run(*inputs)
    return checkpoint(run, *inputs, use_reentrant=False, preserve_rng_state=False)


def _selective(rank: int, run: Callable, *inputs: Any):
    if not torch.is_grad_enabled():
        return run(*inputs)

    def policy(context, operation, *arguments, **options):
        keep = is_kept(rank, operation, arguments)
        return CheckpointPolicy.MUST_SAVE if keep else CheckpointPolicy.PREFER_RECOMPUTE

    return checkpoint(
        run,
        *inputs,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=partial(create_selective_checkpoint_contexts, policy),
    )


def is_kept(rank: int, operation, arguments: tuple) -> bool:
    """Whether ``selective`` keeps what an operation returns: products and attention.

    The adapter's product with B is as large as the base's and costs next to nothing: recomputed.
    """
    name = operation.name()
    if name in ("dpo_lite::lora_product", "bitsandbytes::gemm_4bit", "torch_attn::_varlen_attn"):
        return True
    if name == "dpo_lite::expert_product":
        return arguments[0].shape[1] > rank
    if name in ("aten::mm", "aten::addmm"):
        return arguments[-1].shape[0] > rank
    return name.startswith(("aten::_scaled_dot_product", "aten::_flash_attention_forward"))


class _Counter(TorchDispatchMode):
    """Adds up the bytes of what ``selective`` would keep."""

    def __init__(self, rank: int):
        super().__init__()
        self.rank, self.bytes = rank, 0

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        result = operation(*arguments, **(options or {}))
        if is_kept(self.rank, operation, arguments):
            outputs = result if isinstance(result, (tuple, list)) else (result,)
            self.bytes += sum(t.nbytes for t in outputs if isinstance(t, torch.Tensor))
        return result


@contextmanager
def count_selective(model: torch.nn.Module) -> Iterator[_Counter]:
    """Count, during a forward pass in this block, the bytes that ``selective`` keeps of all layers.

    The layers must not be recomputed otherwise; they are as before when the block ends.
    """
    counter = _Counter(lora_rank(model))

    def counted(run, *inputs):
        with counter:
            return run(*inputs)

    layers = decoder_layers(model)
    for layer in layers:
        layer.gradient_checkpointing, layer._gradient_checkpointing_func = True, counted
    try:
        yield counter
    finally:
        for layer in layers:
            layer.gradient_checkpointing = False
