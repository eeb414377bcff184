"""Log-probabilities of response tokens, without keeping logits.

The head (``lm_head``) is frozen, so the gradient of a token's log-probability with respect to its
hidden state h is known as soon as the logits are:

    d log p(y | h) / d h  =  W[y] - sum_v p(v | h) W[v]

One pass over the vocabulary yields both the log-probability and this vector; the backward pass
scales it. Nothing of size tokens x vocabulary outlives a chunk, and nothing is recomputed.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F

from dpo_lite.model.sharding import own_class

CHUNK_ELEMENTS = 2**24  # logits per chunk: 64 MB in fp32


@dataclass(frozen=True)
class Head:
    """The map from hidden states to logits: cap * tanh(scale * (h W^T + b) / cap)."""

    weight: torch.Tensor  # (V, H)
    bias: torch.Tensor | None  # (V,)
    scale: float = 1.0
    softcap: float | None = None


def frozen_head(model: torch.nn.Module) -> Head | None:
    """Describe the model's head, or None where it is not a plain frozen linear layer.

    Scales and caps are read from the config names that transformers models use; a model with
    another transformation is found out by the self-check (dpo_lite.model.scoring).
    """
    layer = model.get_output_embeddings()
    if layer is None or own_class(layer) is not torch.nn.Linear or layer.weight.requires_grad:
        return None
    config = model.config.get_text_config()
    scale = 1.0
    for key in ("logit_scale", "lm_head_multiplier"):  # Cohere; Falcon-H1
        scale *= getattr(config, key, None) or 1.0
    scaling = getattr(config, "logits_scaling", None) or 1.0
    scale *= scaling if _multiplies(own_class(model), "logits_scaling") else 1 / scaling
    caps = ("final_logit_softcapping", "logits_soft_cap")  # Gemma; RecurrentGemma
    softcap = next((cap for key in caps if (cap := getattr(config, key, None))), None)
    return Head(layer.weight, layer.bias, scale, softcap)


@cache
def _multiplies(kind: Callable, key: str) -> bool:
    """Whether a model multiplies by a setting, as HyperCLOVA X, where Granite divides."""
    try:
        code = inspect.getsource(kind)
    except (OSError, TypeError):
        return False
    return re.search(rf"\*=?\s*self\.config\.(\w+\.)?{key}", code) is not None


def head_logits(hidden: torch.Tensor, head: Head) -> torch.Tensor:
    """What the head makes of hidden states (N, H): logits (N, V) in fp32."""
    logits = F.linear(hidden.to(head.weight.dtype), head.weight, head.bias).float()
    logits *= head.scale
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    return logits


def token_logps(hidden: torch.Tensor, target: torch.Tensor, head: Head) -> torch.Tensor:
    """log p(target | hidden) under a frozen head.

    hidden (N, H), target (N,) -> (N,) in fp32. Differentiable with respect to ``hidden``.
    """
    return _TokenLogps.apply(hidden, target, head)


class _TokenLogps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, target, head):
        rows = max(1, CHUNK_ELEMENTS // head.weight.shape[0])
        wants_grad = ctx.needs_input_grad[0]
        logps = torch.empty(len(target), device=hidden.device, dtype=torch.float32)
        direction = torch.empty_like(hidden) if wants_grad else None
        for start in range(0, len(target), rows):
            part = slice(start, start + rows)
            logits = head_logits(hidden[part], head)
            picked = target[part, None]
            normaliser = logits.logsumexp(-1, keepdim=True)
            logps[part] = (logits.gather(-1, picked) - normaliser).squeeze(-1)
            if direction is not None:
                # d logp / d logits = onehot - p, then back through cap and scale.
                slope = -(logits - normaliser).exp_()
                slope.scatter_add_(-1, picked, torch.ones_like(slope[:, :1]))
                if head.softcap is not None:
                    slope *= 1 - (logits / head.softcap) ** 2
                slope *= head.scale
                direction[part] = (slope.to(head.weight.dtype) @ head.weight).to(hidden.dtype)
        if direction is not None:
            ctx.save_for_backward(direction)
        return logps

    @staticmethod
    def backward(ctx, upstream):
        (direction,) = ctx.saved_tensors
        return direction * upstream[:, None].to(direction.dtype), None, None


def sum_by_response(logps: torch.Tensor, response: torch.Tensor, count: int) -> torch.Tensor:
    """Add up token log-probabilities (N,) by response, giving (R,)."""
    return torch.zeros(count, device=logps.device, dtype=logps.dtype).index_add(0, response, logps)
