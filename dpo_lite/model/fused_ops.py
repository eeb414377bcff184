"""RMSNorm, gated activations and rotation, each one operation that keeps no more than it needs.

Written in PyTorch's own operations a norm is half a dozen of them, and autograd keeps copies in
fp32 of what goes through. Here a norm keeps its input and one number per row, a gated activation
its two inputs, and the backward pass works the rest out again:

    RMSNorm   y = w * n, n = x / rms(x);   dx = (u - n * mean(u * n)) / rms(x), u = w * dy
    gate      h = f(g) * u;                du = dh * f(g), dg = dh * u * f'(g)
    rotation  y = x * cos + turn(x) * sin, turn((a, b)) = (-b, a);   its transpose goes back

(RMSNorm: arXiv:1910.07467; gates: arXiv:2002.05202; rotation: arXiv:2104.09864.) The same formulas
stand here twice: in PyTorch's operations, in the order in which transformers computes them, so that
on a CPU the values are its own bit by bit; and, on an NVIDIA card, each as one kernel
(``fused_kernels``). Whether those do here what they should is tried on random numbers first.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F

from dpo_lite.errors import memory_ran_out

Gate = Literal["silu", "gelu_tanh"]
GATES: tuple[Gate, ...] = ("silu", "gelu_tanh")
HALF = (torch.bfloat16, torch.float16)
WIDEST = 2**15  # numbers of a row that one program of a kernel holds


class Norm(NamedTuple):
    """Which RMSNorm: how the weight comes in."""

    eps: float
    offset: float  # added to the weight (Gemma: 1)
    late: bool  # the weight is multiplied in fp32, before the result is rounded


# --- in PyTorch's operations ----------------------------------------------------------------------


def norm_values(x: torch.Tensor, weight: torch.Tensor, how: Norm) -> tuple[torch.Tensor, ...]:
    """The normed rows of x (..., C), and of each row 1 / rms in fp32 (..., 1)."""
    wide = x.to(torch.float32)
    scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + how.eps)
    normed = wide * scale
    if not how.late:
        return weight * normed.to(x.dtype), scale
    factor = weight.float() + how.offset if how.offset else weight
    return (factor * normed).to(x.dtype), scale


def norm_gradient(upstream, x, weight, scale, offset: float) -> torch.Tensor:
    """d x, from x and the rows' 1 / rms."""
    inner = upstream.float() * (weight.float() + offset if offset else weight.float())
    normed = x.float() * scale
    inner -= normed * (inner * normed).mean(-1, keepdim=True)
    return inner.mul_(scale).to(x.dtype)


def activated(gate: torch.Tensor, kind: str) -> torch.Tensor:
    return F.silu(gate) if kind == "silu" else F.gelu(gate, approximate="tanh")


def gated_gradient(upstream, gate, up, kind: str) -> tuple[torch.Tensor, ...]:
    """(d gate, d up, f(gate) * up): what comes out is needed again where it is multiplied next."""
    slope = upstream * up
    if kind == "silu":
        slope = torch.ops.aten.silu_backward(slope, gate)
    else:
        slope = torch.ops.aten.gelu_backward(slope, gate, approximate="tanh")
    active = activated(gate, kind)
    return slope, upstream * active, active * up


def rotated(x, cos, sin, back: bool = False) -> torch.Tensor:
    """x (B, heads, T, D) turned by angles (B or 1, T, D); ``back``: by the transpose of that."""
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    half = x.shape[-1] // 2
    other = x * sin if back else x
    first, second = other[..., :half], other[..., half:]
    turned = torch.cat((second, -first) if back else (-second, first), dim=-1)
    return x * cos + (turned if back else turned * sin)


# --- as one operation on a card -------------------------------------------------------------------


@torch.library.custom_op("dpo_lite::rms_norm", mutates_args=(), device_types="cuda")
def _norm_op(
    x: torch.Tensor, weight: torch.Tensor, eps: float, offset: float, late: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    from dpo_lite.model import fused_kernels

    return fused_kernels.norm(x, weight, eps, offset, late)


@_norm_op.register_fake
def _(x, weight, eps, offset, late):
    return torch.empty_like(x), x.new_empty((*x.shape[:-1], 1), dtype=torch.float32)


@torch.library.custom_op("dpo_lite::rms_norm_back", mutates_args=(), device_types="cuda")
def _norm_back_op(
    upstream: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    offset: float,
) -> torch.Tensor:
    from dpo_lite.model import fused_kernels

    return fused_kernels.norm_back(upstream, x, weight, scale, offset)


@_norm_back_op.register_fake
def _(upstream, x, weight, scale, offset):
    return torch.empty_like(x)


@torch.library.custom_op("dpo_lite::gated", mutates_args=(), device_types="cuda")
def _gated_op(gate: torch.Tensor, up: torch.Tensor, kind: str) -> torch.Tensor:
    from dpo_lite.model import fused_kernels

    return fused_kernels.gated(gate, up, kind)


@_gated_op.register_fake
def _(gate, up, kind):
    return gate.new_empty(gate.shape)


@torch.library.custom_op("dpo_lite::gated_back", mutates_args=(), device_types="cuda")
def _gated_back_op(
    upstream: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, kind: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    from dpo_lite.model import fused_kernels

    return fused_kernels.gated_back(upstream, gate, up, kind)


@_gated_back_op.register_fake
def _(upstream, gate, up, kind):
    return tuple(gate.new_empty(gate.shape) for _ in range(3))


@torch.library.custom_op("dpo_lite::rotated", mutates_args=(), device_types="cuda")
def _rotated_op(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, back: bool) -> torch.Tensor:
    from dpo_lite.model import fused_kernels

    return fused_kernels.rotated(x, cos, sin, back)


@_rotated_op.register_fake
def _(x, cos, sin, back):
    return torch.empty_like(x)


# --- which of the two, and for autograd -----------------------------------------------------------


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, how):
        fits = x.shape[-1] <= WIDEST and x.dtype == weight.dtype
        ctx.how, ctx.kernels = how, fits and kernels_serve(x)
        values = _norm_op(x, weight, *how) if ctx.kernels else norm_values(x, weight, how)
        ctx.save_for_backward(x, weight, values[1])
        return values[0]

    @staticmethod
    def backward(ctx, upstream):
        x, weight, scale = ctx.saved_tensors
        back = _norm_back_op if ctx.kernels else norm_gradient
        return back(upstream, x, weight, scale, ctx.how.offset), None, None


def rms_norm(x: torch.Tensor, weight: torch.Tensor, how: Norm) -> torch.Tensor:
    """Rows of x (..., C) over their root mean square, times a frozen weight (C,)."""
    return _RMSNorm.apply(x, weight, how)


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gate, up, kind):
        ctx.kind = kind
        ctx.save_for_backward(gate, up)
        return gated_values(gate, up, kind)

    @staticmethod
    def backward(ctx, upstream):
        gate, up = ctx.saved_tensors
        of_gate, of_up, _ = gated_back(upstream, gate, up, ctx.kind)
        return of_gate, of_up, None


def gated(gate: torch.Tensor, up: torch.Tensor, kind: Gate) -> torch.Tensor:
    """f(gate) * up, of one shape."""
    return _Gated.apply(gate, up, kind)


def gated_values(gate: torch.Tensor, up: torch.Tensor, kind: Gate) -> torch.Tensor:
    """The same outside of autograd."""
    if gate.dtype == up.dtype and kernels_serve(gate):
        return _gated_op(gate, up, kind)
    return activated(gate, kind) * up


def gated_back(upstream, gate, up, kind: Gate) -> tuple[torch.Tensor, ...]:
    back = _gated_back_op if gate.dtype == up.dtype and kernels_serve(gate) else gated_gradient
    return back(upstream, gate, up, kind)


class _Rotated(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, cos, sin):
        ctx.save_for_backward(cos, sin)
        return _rotated_op(x, cos, sin, False)

    @staticmethod
    def backward(ctx, upstream):
        return _rotated_op(upstream, *ctx.saved_tensors, True), None, None


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Queries or keys turned, on a card; shapes as in ``rotated``."""
    return _Rotated.apply(x, cos, sin)


# --- whether the kernels are right here -----------------------------------------------------------


def kernels_serve(x: torch.Tensor) -> bool:
    """Whether tensors like this one go through the kernels."""
    if x.device.type != "cuda" or x.dtype not in (*HALF, torch.float32) or not has_triton():
        return False
    return _agree_here(x.device, x.dtype)


@lru_cache
def has_triton() -> bool:
    """It comes with PyTorch's builds for NVIDIA cards, but for those of Windows."""
    return find_spec("triton") is not None


@lru_cache
def _agree_here(device: torch.device, dtype: torch.dtype) -> bool:
    # Whoever asks may be inside autocast or a pass without gradients; the trial is not.
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        try:
            return all(_near(a, b) for a, b in trials(device, dtype))
        except Exception as error:  # a card, driver or compiler that Triton cannot do with
            if memory_ran_out(error):  # which says nothing of the kernels
                raise
            return False


def trials(device: torch.device, dtype: torch.dtype):
    """Pairs of what the kernels say and what PyTorch's operations do, on random numbers."""
    draw = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw).to(device, dtype)

    x, upstream, weight = random(7, 96), random(7, 96), random(96)
    for how in (Norm(1e-6, 0.0, False), Norm(1e-6, 0.0, True), Norm(1e-6, 1.0, True)):
        expected, scale = norm_values(x, weight, how)
        yield _norm_op(x, weight, *how)[0], expected
        given = (upstream, x, weight, scale, how.offset)
        yield _norm_back_op(*given), norm_gradient(*given)
    gate, up, grown = random(7, 96), random(7, 96), random(7, 96)
    for kind in GATES:
        yield _gated_op(gate, up, kind), activated(gate, kind) * up
        both = (_gated_back_op(grown, gate, up, kind), gated_gradient(grown, gate, up, kind))
        yield from zip(*both, strict=True)
    heads, cos, sin = random(2, 5, 6, 32).transpose(1, 2), random(1, 5, 32), random(1, 5, 32)
    for back in (False, True):
        yield _rotated_op(heads, cos, sin, back), rotated(heads, cos, sin, back)


def _near(output: torch.Tensor, expected: torch.Tensor) -> bool:
    """Equal but for rounding: another formula would show a hundredfold."""
    difference = (output.float() - expected.float()).norm() / expected.float().norm()
    return bool(difference < (0.02 if expected.dtype in HALF else 1e-5))
