"""Weights as llama.cpp's k-quants: Q4_K, Q5_K and Q6_K, which the package gguf only reads.

A row is cut into super-blocks of 256 weights. Q4_K and Q5_K cut one into 8 blocks of 32, and a
weight is d·s·q − e·m: q has 4 or 5 bits, the block's scale s and minimum m have 6, and d and e are
the super-block's, in fp16. Q6_K cuts it into 16 blocks of 16 and has no minimum: d·s·(q − 32), s a
signed byte. The bytes' order is ggml's (ggml-common.h), by which gguf.dequantize reads them.

The format leaves open which numbers are written. Here, as ggml does, each block tries some scales
about the one that just covers its range; for each, the best scale and minimum for the numbers so
rounded are those of weighted least squares, and the one with the smallest error is taken. Large
weights count more. Then the scales themselves are rounded, and the numbers once more for those.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

SUPER = 256
PART = 2**18  # weights that are worked on at a time: they stay in a core's cache
STEPS = tuple(-1.0 + 0.1 * i for i in range(21))  # about the largest number, for Q4_K and Q5_K
STEPS_SIGNED = tuple(0.1 * i for i in range(-9, 10))  # for Q6_K


def q4_k(rows: torch.Tensor) -> torch.Tensor:
    """fp32 (rows, width), width a multiple of 256, → bytes (rows, width / 256 · 144)."""
    return _by_parts(rows, lambda blocks: _with_minimum(blocks, 4))


def q5_k(rows: torch.Tensor) -> torch.Tensor:
    """The same in 176 bytes a super-block."""
    return _by_parts(rows, lambda blocks: _with_minimum(blocks, 5))


def q6_k(rows: torch.Tensor) -> torch.Tensor:
    """The same in 210 bytes a super-block."""
    return _by_parts(rows, _signed)


def _by_parts(rows: torch.Tensor, quantise: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    blocks = rows.reshape(-1, SUPER)
    parts = [quantise(some.float()) for some in blocks.split(PART // SUPER)]
    return torch.cat(parts).view(rows.shape[0], -1)


def _with_minimum(blocks: torch.Tensor, bits: int) -> torch.Tensor:
    """Super-blocks (N, 256) → bytes (N, 144 or 176)."""
    most = 2**bits - 1
    x = blocks.view(-1, 8, 32)
    scale, minimum = _scale_and_minimum(x, most)
    d, e = (_half(part.amax(-1) / 63) for part in (scale, minimum))
    s, m = (_whole(part * _inverse(unit)[:, None], 63) for part, unit in ((scale, d), (minimum, e)))
    step, least = (d[:, None] * s)[..., None], (e[:, None] * m)[..., None]
    q = _whole((x + least) * _inverse(step), most).byte()
    pairs = q.view(-1, 4, 2, 32)  # two blocks share 32 bytes, the first in the low bits
    low, high = pairs[:, :, 0], pairs[:, :, 1]
    parts = [_bytes(d), _bytes(e), _packed_scales(s.byte(), m.byte())]
    if bits == 5:
        shifts = torch.arange(4, device=q.device)[None, :, None] * 2
        fifth = ((low >> 4).int() << shifts) | ((high >> 4).int() << (shifts + 1))
        parts.append(fifth.sum(1).byte())
    parts.append(((low & 15) | ((high & 15) << 4)).flatten(1))
    return torch.cat(parts, dim=1)


def _scale_and_minimum(x: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """For x (…, n) the s ≥ 0 and m ≥ 0 (…) for which s·q − m is near x, q from 0 to ``most``."""
    weight = x.square().mean(-1, keepdim=True).sqrt() + x.abs()
    low, high = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True)
    span = high - low
    best = torch.full_like(span, torch.inf)
    scale, minimum = span / most, -low
    total, mean = weight.sum(-1, keepdim=True), (weight * x).sum(-1, keepdim=True)
    per_weight = _inverse(span)
    # Of the size of x, written over at each step: fresh ones would cost more than what they hold.
    q, wq, product = (torch.empty_like(x) for _ in range(3))
    from_low = x - low
    for step in (0.0, *STEPS):
        torch.mul(from_low, (most + step) * per_weight, out=q).round_().clamp_(0, most)
        torch.mul(weight, q, out=wq)
        q1 = wq.sum(-1, keepdim=True)
        q2 = torch.mul(wq, q, out=product).sum(-1, keepdim=True)
        qx = torch.mul(wq, x, out=product).sum(-1, keepdim=True)
        inverse = _inverse(total * q2 - q1.square())
        s, m = (total * qx - q1 * mean) * inverse, (q1 * qx - q2 * mean) * inverse
        below = m < 0  # a minimum is only ever taken off
        s, m = torch.where(below, qx * _inverse(q2), s), m.clamp(min=0)
        torch.mul(q, s, out=product).sub_(m).sub_(x).square_().mul_(weight)
        error = product.sum(-1, keepdim=True)
        better = (error < best) & (s > 0)
        best = torch.where(better, error, best)
        scale, minimum = torch.where(better, s, scale), torch.where(better, m, minimum)
    return scale.squeeze(-1), minimum.squeeze(-1)


def _packed_scales(s: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
    """Eight scales and eight minima of 6 bits (N, 8) each → (N, 12): the last four of each are cut
    into four bits of their own and two above the first four."""
    first = [part[:, :4] | ((part[:, 4:] >> 4) << 6) for part in (s, m)]
    return torch.cat([*first, (s[:, 4:] & 15) | ((m[:, 4:] & 15) << 4)], dim=1)


def _signed(blocks: torch.Tensor) -> torch.Tensor:
    """Super-blocks (N, 256) → bytes (N, 210)."""
    x = blocks.view(-1, 16, 16)
    scale = _signed_scale(x)
    largest = torch.gather(scale, 1, scale.abs().argmax(1, keepdim=True)).squeeze(1)
    d = _half(largest / -128)
    s = torch.round(scale * _inverse(d)[:, None]).clamp(-128, 127)
    q = torch.round(x * _inverse((d[:, None] * s)[..., None])).clamp(-32, 31) + 32
    quarters = q.byte().view(-1, 2, 4, 32)  # of each half
    one, two, three, four = quarters.unbind(2)
    low = torch.cat([(one & 15) | ((three & 15) << 4), (two & 15) | ((four & 15) << 4)], dim=-1)
    high = (one >> 4) | ((two >> 4) << 2) | ((three >> 4) << 4) | ((four >> 4) << 6)
    signed = s.to(torch.int8).view(torch.uint8)
    return torch.cat([low.flatten(1), high.flatten(1), signed, _bytes(d)], dim=1)


def _signed_scale(x: torch.Tensor) -> torch.Tensor:
    """For x (…, n) the scale (…), of either sign, for which scale·q is near x, q in −32 … 31."""
    weight = x.square()
    largest = torch.gather(x, -1, x.abs().argmax(-1, keepdim=True))
    best, scale = torch.zeros_like(largest), torch.zeros_like(largest)
    per_weight = _inverse(largest)
    q, wq, product = (torch.empty_like(x) for _ in range(3))
    for step in STEPS_SIGNED:
        torch.mul(x, -(32 + step) * per_weight, out=q).round_().clamp_(-32, 31)
        torch.mul(weight, q, out=wq)
        qx, q2 = (torch.mul(wq, y, out=product).sum(-1, keepdim=True) for y in (x, q))
        gained = qx.square() * _inverse(q2)  # the squared error is Σ w·x² less this
        better = gained > best
        best, scale = torch.where(better, gained, best), torch.where(better, qx / q2, scale)
    return scale.squeeze(-1)


def _whole(x: torch.Tensor, most: int) -> torch.Tensor:
    return torch.round(x).clamp(0, most)


def _inverse(x: torch.Tensor) -> torch.Tensor:
    """1 / x, and 0 for 0."""
    return torch.where(x == 0, 0.0, 1 / x)


def _half(x: torch.Tensor) -> torch.Tensor:
    """As fp16 holds it: what reads the file knows no other number."""
    return x.half().float()


def _bytes(x: torch.Tensor) -> torch.Tensor:
    """(N,) → the bytes of its fp16 (N, 2)."""
    return x.half()[:, None].view(torch.uint8)
