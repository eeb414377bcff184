"""The operations of ``fused_ops`` as one kernel each, in Triton.

Numbers are read in their own dtype, worked on in fp32 and rounded where transformers' code rounds.
Imported only where a card is at hand; Triton's interpreter runs the same code on a CPU
(tests/model/test_fused_kernels.py).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

ELEMENTS = 1024  # of a row of a gated activation, for one program


@triton.jit
def _norm(x, weight, y, scales, columns, eps, offset, LATE: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    places = tl.arange(0, BLOCK)
    inside = places < columns
    own = tl.load(x + row * columns + places, mask=inside, other=0.0)
    factor = tl.load(weight + places, mask=inside, other=0.0).to(tl.float32)
    wide = own.to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(wide * wide, axis=0) / columns + eps)
    normed = wide * scale
    if LATE:
        factor += offset
    else:
        normed = normed.to(own.dtype).to(tl.float32)
    tl.store(y + row * columns + places, (factor * normed).to(own.dtype), mask=inside)
    tl.store(scales + row, scale)


@triton.jit
def _norm_back(upstream, x, weight, scales, out, columns, offset, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    places = tl.arange(0, BLOCK)
    inside = places < columns
    own = tl.load(x + row * columns + places, mask=inside, other=0.0)
    factor = tl.load(weight + places, mask=inside, other=0.0).to(tl.float32) + offset
    scale = tl.load(scales + row)
    inner = tl.load(upstream + row * columns + places, mask=inside, other=0.0).to(tl.float32)
    inner *= factor
    normed = own.to(tl.float32) * scale
    along = tl.sum(inner * normed, axis=0) / columns
    tl.store(
        out + row * columns + places, ((inner - normed * along) * scale).to(own.dtype), mask=inside
    )


@triton.jit
def _activation(gate, SILU: tl.constexpr):
    """f(gate) and its slope, in fp32."""
    if SILU:
        share = 1.0 / (1.0 + tl.exp(-gate))
        active = gate * share
        slope = share * (1.0 + gate * (1.0 - share))
    else:
        # GELU's usual approximation: g / 2 * (1 + tanh(sqrt(2 / pi) * (g + 0.044715 g^3))),
        # with 1 + tanh(z) = 2 / (1 + exp(-2 z)).
        inner = 0.7978845608028654 * (gate + 0.044715 * gate * gate * gate)
        share = 1.0 / (1.0 + tl.exp(-2.0 * inner))
        active = gate * share
        grown = 0.7978845608028654 * (1.0 + 3.0 * 0.044715 * gate * gate)
        slope = share + 2.0 * gate * share * (1.0 - share) * grown
    return active, slope


@triton.jit
def _gated(gate, up, out, columns, gate_row, up_row, SILU: tl.constexpr, BLOCK: tl.constexpr):
    """A program does a part of a row; gate and up may be halves of what one layer made."""
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside, places = part < columns, row * columns + part
    own = tl.load(gate + row * gate_row + part, mask=inside, other=0.0)
    other = tl.load(up + row * up_row + part, mask=inside, other=0.0).to(tl.float32)
    active, _ = _activation(own.to(tl.float32), SILU)
    active = active.to(own.dtype).to(tl.float32)
    tl.store(out + places, (active * other).to(own.dtype), mask=inside)


@triton.jit
def _gated_back(
    upstream,
    gate,
    up,
    of_gate,
    of_up,
    out,
    columns,
    gate_row,
    up_row,
    SILU: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside, places = part < columns, row * columns + part
    own = tl.load(gate + row * gate_row + part, mask=inside, other=0.0)
    other = tl.load(up + row * up_row + part, mask=inside, other=0.0).to(tl.float32)
    grown = tl.load(upstream + places, mask=inside, other=0.0).to(tl.float32)
    active, slope = _activation(own.to(tl.float32), SILU)
    active = active.to(own.dtype).to(tl.float32)
    tl.store(of_gate + places, (grown * other * slope).to(own.dtype), mask=inside)
    tl.store(of_up + places, (grown * active).to(own.dtype), mask=inside)
    tl.store(out + places, (active * other).to(own.dtype), mask=inside)


@triton.jit
def _rotated(
    x,
    cos,
    sin,
    out,
    tokens,
    heads,
    half,
    x_row,
    x_head,
    x_token,
    out_row,
    out_head,
    out_token,
    angle_row,
    BACK: tl.constexpr,
    HEADS: tl.constexpr,
    HALF: tl.constexpr,
):
    """A program turns all heads of a token. Places are counted in 64 bits: a long row of wide
    layers has more than 2^31 numbers."""
    number = tl.program_id(0).to(tl.int64)
    row, token = number // tokens, number % tokens
    head, place = tl.arange(0, HEADS)[:, None].to(tl.int64), tl.arange(0, HALF)[None, :]
    inside = (head < heads) & (place < half)
    angle = row * angle_row + token * 2 * half + tl.arange(0, HALF)
    known = tl.arange(0, HALF) < half
    cos1 = tl.load(cos + angle, mask=known, other=0.0).to(tl.float32)[None, :]
    cos2 = tl.load(cos + angle + half, mask=known, other=0.0).to(tl.float32)[None, :]
    sin1 = tl.load(sin + angle, mask=known, other=0.0).to(tl.float32)[None, :]
    sin2 = tl.load(sin + angle + half, mask=known, other=0.0).to(tl.float32)[None, :]
    here = x + row * x_row + head * x_head + token * x_token + place
    own = tl.load(here, mask=inside, other=0.0)
    first = own.to(tl.float32)
    second = tl.load(here + half, mask=inside, other=0.0).to(tl.float32)
    if BACK:
        one, two = first * cos1 + second * sin2, second * cos2 - first * sin1
    else:
        one, two = first * cos1 - second * sin1, second * cos2 + first * sin2
    there = out + row * out_row + head * out_head + token * out_token + place
    tl.store(there, one.to(own.dtype), mask=inside)
    tl.store(there + half, two.to(own.dtype), mask=inside)


def _warps(block: int) -> int:
    return min(max(block // 512, 1), 16)


def norm(x, weight, eps: float, offset: float, late: bool) -> tuple[torch.Tensor, torch.Tensor]:
    x = x.contiguous()
    columns = x.shape[-1]
    out, scales = torch.empty_like(x), x.new_empty((*x.shape[:-1], 1), dtype=torch.float32)
    if rows := scales.numel():
        block = triton.next_power_of_2(columns)
        _norm[(rows,)](
            x, weight, out, scales, columns, eps, offset, late, block, num_warps=_warps(block)
        )
    return out, scales


def norm_back(upstream, x, weight, scales, offset: float) -> torch.Tensor:
    upstream, x = upstream.contiguous(), x.contiguous()
    columns, out = x.shape[-1], torch.empty_like(x)
    if rows := scales.numel():
        block = triton.next_power_of_2(columns)
        _norm_back[(rows,)](
            upstream, x, weight, scales, out, columns, offset, block, num_warps=_warps(block)
        )
    return out


def _rows(x: torch.Tensor) -> torch.Tensor:
    """(rows, columns) of (..., columns), not copied where rows are whole and evenly apart."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(1) == 1 else rows.contiguous()


def gated(gate, up, kind: str) -> torch.Tensor:
    out = gate.new_empty(gate.shape)
    if out.numel():
        gate, up = _rows(gate), _rows(up)
        grid = (gate.shape[0], triton.cdiv(gate.shape[1], ELEMENTS))
        how = (gate.shape[1], gate.stride(0), up.stride(0), kind == "silu", ELEMENTS)
        _gated[grid](gate, up, out, *how)
    return out


def gated_back(upstream, gate, up, kind: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    outs = tuple(gate.new_empty(gate.shape) for _ in range(3))
    if outs[0].numel():
        upstream, gate, up = upstream.contiguous(), _rows(gate), _rows(up)
        grid = (gate.shape[0], triton.cdiv(gate.shape[1], ELEMENTS))
        how = (gate.shape[1], gate.stride(0), up.stride(0), kind == "silu", ELEMENTS)
        _gated_back[grid](upstream, gate, up, *outs, *how)
    return outs


def rotated(x, cos, sin, back: bool) -> torch.Tensor:
    if x.stride(-1) != 1:
        x = x.contiguous()
    cos, sin = cos.contiguous(), sin.contiguous()
    rows, heads, tokens, size = x.shape
    out = torch.empty_like(x)
    if x.numel():
        _rotated[(rows * tokens,)](
            x,
            cos,
            sin,
            out,
            tokens,
            heads,
            size // 2,
            *x.stride()[:3],
            *out.stride()[:3],
            cos.stride(0) if cos.shape[0] > 1 else 0,
            back,
            triton.next_power_of_2(heads),
            triton.next_power_of_2(size // 2),
            num_warps=4,
        )
    return out
