"""Queries and keys turned by one kernel each, on a card.

transformers' models call a function of their own file, ``apply_rotary_pos_emb``. Where it turns
halves of a head by the usual formula, which is tried on random numbers, the name stands for the
fused function while a batch is scored, and for the model's own before and after, also after an
exception. On a CPU nothing is gained, and the name is left alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps

import torch

from dpo_lite.model.fused_ops import kernels_serve, rotate, rotated

NAME = "apply_rotary_pos_emb"


@contextmanager
def fused_rotation(model: torch.nn.Module, device: torch.device) -> Iterator[None]:
    """Let the layers of a transformers model turn queries and keys in one kernel each."""
    before = {}
    if device.type == "cuda":
        files = {type(module).__module__ for module in model.modules()}
        modules = [sys.modules[name] for name in sorted(files) if name in sys.modules]
        before = {m: vars(m)[NAME] for m in modules if NAME in vars(m) and is_usual(vars(m)[NAME])}
    try:
        for module, original in before.items():
            setattr(module, NAME, _fused(original))
        yield
    finally:
        for module, original in before.items():
            setattr(module, NAME, original)


def _fused(original: Callable) -> Callable:
    @wraps(original)
    def apply(q, k, cos, sin, *others, **named):
        plain = (
            not others
            and not named
            and kernels_serve(q)
            and q.dtype == k.dtype == cos.dtype
            and q.dim() == k.dim() == 4
            and cos.dim() == 3
            and cos.shape[-1] == q.shape[-1] == k.shape[-1]
        )
        if not plain:
            return original(q, k, cos, sin, *others, **named)
        return rotate(q, cos, sin), rotate(k, cos, sin)

    return apply


@lru_cache
def is_usual(function: Callable) -> bool:
    """Whether a function turns (q, k) by (cos, sin) as ``rotated`` does, bit by bit."""
    draw = torch.Generator().manual_seed(0)
    try:
        with torch.no_grad(), torch.device("cpu"), torch.autocast("cpu", enabled=False):
            for dtype in (torch.float32, torch.bfloat16):
                q, k, cos, sin = (
                    torch.randn(shape, generator=draw, device="cpu").to(dtype)
                    for shape in ((2, 4, 6, 16), (2, 2, 6, 16), (2, 6, 16), (2, 6, 16))
                )
                turned = [rotated(x, cos, sin) for x in (q, k)]
                said = function(q, k, cos, sin)
                if not all(torch.equal(a, b) for a, b in zip(said, turned, strict=True)):
                    return False
    except Exception:  # it takes other things, or does others
        return False
    return True
