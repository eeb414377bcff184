"""The experts of a mixture, multiplied one after the other from weights in 4 bits or in 16.

transformers holds all experts of a layer in one tensor of three dimensions and lets others say how
it is multiplied (its ``ExpertsInterface``). Here the tokens are sorted by expert, and each run of
experts that has tokens is unpacked, used and let go. The weights are frozen, so a product's
gradient needs nothing of the forward pass but them: they are unpacked once more, and autograd keeps
neither their 16 bits nor the tokens that were multiplied.

An adapter of the experts is two more such products of rank r. W + c·B·A is never made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from bitsandbytes import functional as bnb
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from dpo_lite.model import mxfp4
from dpo_lite.model.fused_ops import gated

NAME = "dpo_lite"  # of this way among those that transformers knows
PARAMETERS = ("gate_up_proj", "up_proj", "down_proj")
BLOCK = 64  # weights that share a scale
WHOLE = (torch.float32, torch.bfloat16, torch.float16)
UNPACKED = 2**25  # weights that are unpacked at a time: 64 MiB in bf16


class Factors(NamedTuple):
    """What an adapter adds to the experts: scale * up[e] @ down[e] of expert e."""

    down: torch.Tensor  # (E, r, in)
    up: torch.Tensor  # (E, out, r)
    scale: float


def expert_modules(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The modules, by name, that hold all experts of a layer and multiply as they are told to."""
    return {name: m for name, m in model.named_modules() if hasattr(m, "_is_expert_parallel")}


def expert_parameters(module: torch.nn.Module) -> list[str]:
    """The names of a module's weights of three dimensions (experts, ..., ...)."""
    return [n for n in PARAMETERS if isinstance(getattr(module, n, None), torch.nn.Parameter)]


def can_pack(shape: torch.Size) -> bool:
    """Whether each expert is whole blocks of 4-bit weights, so that it is unpacked by itself."""
    return len(shape) == 3 and math.prod(shape[1:]) % BLOCK == 0


def shape_of(weight: torch.Tensor) -> torch.Size:
    """(E, ..., ...) of a weight, also of one that is packed into bytes."""
    state = getattr(weight, "quant_state", None)
    return weight.shape if state is None else torch.Size(state.shape)


def use_own_products(model: torch.nn.Module) -> None:
    """Have the model's experts multiplied here: those in 16 bits, or packed by bitsandbytes."""
    for module in expert_modules(model).values():
        weights = [getattr(module, name) for name in expert_parameters(module)]
        known = all(hasattr(w, "quant_state") or w.dtype in WHOLE for w in weights)
        if weights and known and hasattr(module, "config"):
            module.config._experts_implementation_internal = NAME


def experts_forward(
    self: torch.nn.Module,
    hidden_states: torch.Tensor,
    top_k_index: torch.Tensor,
    top_k_weights: torch.Tensor,
) -> torch.Tensor:
    """The weighted sum of each token's experts: (N, H), (N, k), (N, k) -> (N, H).

    ``self`` is transformers' module of experts, whose layout, gate, biases and norm are respected.
    """
    chosen = top_k_index.size(-1)
    expert, order = torch.sort(top_k_index.reshape(-1))
    counts = torch.zeros(self.num_experts, dtype=torch.long, device=expert.device)
    counts = counts.scatter_add_(0, expert, torch.ones_like(expert))
    tokens = hidden_states[order // chosen]
    first = "gate_up_proj" if self.has_gate else "up_proj"
    inner = product(self, first, tokens, counts, expert)
    inner = _activated(self, inner)
    outputs = product(self, "down_proj", inner, counts, expert)
    if self.has_post_expert_norm:
        outputs = self.post_expert_norm(outputs)
    outputs = outputs * top_k_weights.reshape(-1)[order, None]
    places = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)).to(order))
    outputs = outputs[places].view(*top_k_index.shape, outputs.shape[-1])
    return outputs.sum(dim=1).to(hidden_states.dtype)


def _activated(module: torch.nn.Module, inner: torch.Tensor) -> torch.Tensor:
    """What the second product takes. A known gate (dpo_lite.model.fused_modules) keeps less."""
    if (kind := getattr(module, "fused_gate", None)) is not None:
        gate, up = inner.chunk(2, dim=-1)
        return gated(gate, up, kind)
    return module._apply_gate(inner) if module.has_gate else module.act_fn(inner)


ALL_EXPERTS_FUNCTIONS.register(NAME, experts_forward)


def product(
    module: torch.nn.Module,
    name: str,
    tokens: torch.Tensor,
    counts: torch.Tensor,
    expert: torch.Tensor,
) -> torch.Tensor:
    """Sorted tokens times their experts' weights, with bias and with the adapter that is worn."""
    weight = getattr(module, name)
    outputs = expert_product(tokens, counts, *unpacking(weight), module.is_transposed)
    if module.has_bias:
        outputs = outputs + getattr(module, f"{name}_bias")[expert]
    factors: Factors | None = module.__dict__.get("adapter_factors", {}).get(name)
    if factors is not None:
        dtype = outputs.dtype
        low = expert_product(tokens, counts, *unpacking(factors.down.to(dtype)), False)
        change = expert_product(low, counts, *unpacking(factors.up.to(dtype)), False)
        outputs = outputs + change * factors.scale
    return outputs


class Unpacking(NamedTuple):
    """What ``expert_product`` needs to know of a weight; the scales only where it is packed."""

    weight: torch.Tensor
    scales: torch.Tensor | None
    scale_values: torch.Tensor | None
    scale_scales: torch.Tensor | None
    scale_offset: torch.Tensor | None
    shape: list[int]
    dtype: torch.dtype


def unpacking(weight: torch.Tensor) -> Unpacking:
    state = getattr(weight, "quant_state", None)
    if state is None:
        return Unpacking(weight, None, None, None, None, list(weight.shape), weight.dtype)
    second = state.state2
    if second is None:  # MXFP4, see there
        own = list(state.shape)
        return Unpacking(weight, state.absmax, None, None, None, own, state.dtype)
    return Unpacking(
        weight,
        state.absmax,
        second.code,
        second.absmax,
        state.offset,
        list(state.shape),
        state.dtype,
    )


@torch.library.custom_op("dpo_lite::expert_product", mutates_args=())
def expert_product(
    tokens: torch.Tensor,
    counts: torch.Tensor,
    weight: torch.Tensor,
    scales: torch.Tensor | None,
    scale_values: torch.Tensor | None,
    scale_scales: torch.Tensor | None,
    scale_offset: torch.Tensor | None,
    shape: list[int],
    dtype: torch.dtype,
    transposed: bool,
) -> torch.Tensor:
    """Each token times the weight of its expert: (S, in) -> (S, out), in the weight's ``dtype``.

    ``tokens`` are sorted by expert, ``counts`` (E,) says how many each has. An expert's weight is
    (out, in), ``transposed`` (in, out). One operation, so that a pass without data (fake tensors)
    need not know which tokens go where.
    """
    packed = Unpacking(weight, scales, scale_values, scale_scales, scale_offset, shape, dtype)
    out = tokens.new_empty(len(tokens), shape[2 if transposed else 1], dtype=dtype)
    tokens = tokens.to(dtype)
    for part, first, experts in _unpacked(packed, counts.tolist()):
        matrices = experts if transposed else experts.transpose(1, 2)
        ends = counts[first : first + len(experts)].cumsum(0)
        out[part] = _grouped(tokens[part], matrices, ends)
    return out


@expert_product.register_fake
def _(tokens, counts, weight, scales, values, scales_of, offset, shape, dtype, transposed):
    return tokens.new_empty(tokens.shape[0], shape[2 if transposed else 1], dtype=dtype)


def _keep(ctx, inputs, output):
    tokens, counts, weight, *rest = inputs
    ctx.rest, ctx.dtype = rest, tokens.dtype
    # A frozen weight lies there anyway; only an adapter's own needs the tokens again.
    ctx.frozen = None if ctx.needs_input_grad[2] else weight
    ctx.save_for_backward(counts, *(() if ctx.frozen is not None else (tokens, weight)))


def _backward(ctx, upstream):
    counts, *own = ctx.saved_tensors
    *unpack, transposed = ctx.rest
    weight = own[1] if own else ctx.frozen
    of_tokens = of_weight = None
    if ctx.needs_input_grad[0]:
        of_tokens = expert_product(upstream, counts, weight, *unpack, not transposed).to(ctx.dtype)
    if own:
        left, right = (own[0], upstream) if transposed else (upstream, own[0])
        of_weight = expert_outer(left, right, counts)
    return of_tokens, None, of_weight, *[None] * 7


expert_product.register_autograd(_backward, setup_context=_keep)


@torch.library.custom_op("dpo_lite::expert_outer", mutates_args=())
def expert_outer(left: torch.Tensor, right: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Sums over each expert's tokens of left ⊗ right: (S, a), (S, b) -> (E, a, b)."""
    right = right.to(left.dtype)
    ends = counts.cumsum(0)
    if _has_grouped(left, right):
        return torch.nn.functional.grouped_mm(left.T, right, offs=ends.int())
    sums = left.new_zeros(len(counts), left.shape[1], right.shape[1])
    begin = 0
    for expert, end in enumerate(ends.tolist()):
        torch.mm(left[begin:end].T, right[begin:end], out=sums[expert])
        begin = end
    return sums


@expert_outer.register_fake
def _(left, right, counts):
    return left.new_empty(counts.shape[0], left.shape[1], right.shape[1])


def _unpacked(packed: Unpacking, counts: list[int]) -> Iterator[tuple[slice, int, torch.Tensor]]:
    """Runs of experts that have tokens: their tokens, the first one's number, their weights."""
    one = math.prod(packed.shape[1:])
    most = max(1, UNPACKED // one)
    scales = _scales(packed)
    first = token = 0
    while first < len(counts):
        last = first
        while last < len(counts) and counts[last] and last - first < most:
            last += 1
        if last == first:
            first += 1
            continue
        end = token + sum(counts[first:last])
        yield slice(token, end), first, _weights(packed, scales, first, last)
        token, first = end, last


def _scales(packed: Unpacking) -> torch.Tensor | None:
    """The scale of each block in fp32: they are kept in 8 bits with scales of their own."""
    if packed.scale_values is None:
        return packed.scales
    scales = bnb.dequantize_blockwise(
        packed.scales, absmax=packed.scale_scales, code=packed.scale_values, blocksize=256
    )
    return scales.float() + packed.scale_offset


def _weights(packed: Unpacking, scales: torch.Tensor | None, first: int, last: int) -> torch.Tensor:
    """The weights of the experts ``first`` up to ``last``: (last - first, ..., ...)."""
    if scales is None:
        return packed.weight[first:last]
    if packed.scale_values is None:
        return mxfp4.unpacked(packed.weight[first:last], scales[first:last], packed.dtype)
    one = math.prod(packed.shape[1:])
    state = bnb.QuantState(
        absmax=scales[first * one // BLOCK : last * one // BLOCK],
        shape=torch.Size([last - first, *packed.shape[1:]]),
        dtype=packed.dtype,
        blocksize=BLOCK,
        quant_type="nf4",
    )
    return bnb.dequantize_4bit(packed.weight[first * one // 2 : last * one // 2], state)


def _grouped(tokens: torch.Tensor, matrices: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Tokens up to each end times a matrix of their own: (S, in), (E, in, out) -> (S, out)."""
    if _has_grouped(tokens, matrices):
        return torch.nn.functional.grouped_mm(tokens, matrices, offs=ends.int())
    out = tokens.new_empty(len(tokens), matrices.shape[2])
    begin = 0
    for matrix, end in zip(matrices, ends.tolist(), strict=True):
        torch.mm(tokens[begin:end], matrix, out=out[begin:end])
        begin = end
    return out


def _has_grouped(*operands: torch.Tensor) -> bool:
    """Whether a card multiplies all in one call: bf16, and rows that start on 16 bytes."""
    return all(t.is_cuda and t.dtype == torch.bfloat16 for t in operands) and all(
        size % 8 == 0 for t in operands for size in t.shape[1:]
    )
