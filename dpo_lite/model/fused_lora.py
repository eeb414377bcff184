"""A linear layer and its LoRA adapter as one node of autograd.

    y = W x + b + s·B(A x)        dx = Wᵀ dy + s·Aᵀ(Bᵀ dy),  dA = s·(Bᵀ dy) xᵀ,  dB = s·dy (A x)ᵀ

(LoRA: arXiv:2106.09685, equation 3.) PEFT's layer makes B(A x), a scaled copy of it, a copy of
W x and their sum, each as large as y. Here the second product is added into the first, in y itself.
Kept for the backward pass are x and A x; the masters A and B are rounded once more there.

Where a gated activation is what the layer multiplies, x is made again from gate and up (see
``fused_ops``), which autograd keeps anyway: then x is not kept.

Only what is known to be the same goes this way: one adapter, plain LoRA without dropout or bias, on
a frozen ``Linear`` or ``Linear4bit``, in one dtype. All else is PEFT's own forward pass.
"""

from __future__ import annotations

from itertools import groupby
from types import MethodType
from typing import Any, NamedTuple

import bitsandbytes as bnb
import torch
import torch.nn.functional as F
from bitsandbytes.functional import dequantize_4bit
from peft.tuners.lora import LoraLayer
from torch import Tensor

from dpo_lite.model.fused_ops import Gate, gated, gated_back, gated_values

SCHEMA = """lora_product(Tensor x, Tensor weight, Tensor? bias, Tensor down, Tensor up, float scale,
 int[] shape, Tensor? absmax, Tensor? absmax_8bit, Tensor? code, Tensor? offset, int blocksize,
 str kind) -> (Tensor, Tensor)"""
_library = torch.library.Library("dpo_lite", "FRAGMENT")
_library.define(SCHEMA.replace("\n", ""))


class Packing(NamedTuple):
    """How a weight is packed, as bitsandbytes' product takes it; of a plain one its shape alone."""

    shape: list[int]
    absmax: Tensor | None = None
    absmax_8bit: Tensor | None = None
    code: Tensor | None = None
    offset: Tensor | None = None
    blocksize: int = 0
    kind: str = ""


class Layer(NamedTuple):
    """A frozen layer and the scale of its adapter."""

    weight: Tensor
    bias: Tensor | None
    packing: Packing
    state: object  # bitsandbytes' own of a packed weight
    scale: float


def lora_product(x, weight, bias, down, up, scale, *packing) -> tuple[Tensor, Tensor]:
    """(y, A x) of x (T, in): (T, out), (T, r). One operation, so ``selective`` keeps y whole."""
    how = Packing(*packing)
    if how.absmax is None:
        y = F.linear(x, weight, bias)
    else:
        y = torch.ops.bitsandbytes.gemm_4bit.default(
            x,
            weight.view(-1, 1),
            how.shape,
            how.absmax,
            how.blocksize,
            how.kind,
            bias=bias,
            absmax_8bit=how.absmax_8bit,
            absmax_code=how.code,
            absmax_offset=how.offset,
        )
    low = torch.mm(x, down.to(x.dtype).t())
    return y.addmm_(low, up.to(x.dtype).t(), alpha=scale), low


_library.impl("lora_product", lora_product, "CompositeExplicitAutograd")


@torch.library.register_fake("dpo_lite::lora_product")
def _(x, weight, bias, down, up, scale, shape, *packing):
    return x.new_empty(x.shape[0], shape[0]), x.new_empty(x.shape[0], down.shape[0])


def gradients(upstream, x, low, layer: Layer, down, up, of_x: bool) -> tuple[Any, Any, Tensor]:
    """(dx, dA, dB); ``x`` None: dA is s·Bᵀ dy, whose product with x is left to do."""
    bits = upstream.dtype
    inner = (upstream @ up.to(bits)).mul_(layer.scale)  # (T, r)
    of_up = (upstream.t() @ low).to(up.dtype).mul_(layer.scale)
    back = None
    if of_x:
        whole = layer.weight
        if layer.packing.absmax is not None:
            whole = dequantize_4bit(whole.view(-1, 1), layer.state).to(bits)
        back = (upstream @ whole).addmm_(inner, down.to(bits))
    return back, inner if x is None else (inner.t() @ x).to(down.dtype), of_up


def _shaped(y: Tensor, like: Tensor) -> Tensor:
    """(…, out) of (T, out). Not a view of what is inside of a node: some layers add in place to
    what they are given (Falcon, Llama 4), which autograd refuses for those."""
    return torch.ops.aten._unsafe_view(y, [*like.shape[:-1], y.shape[-1]])


class _Lora(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, down, up, layer):
        rows = x.reshape(-1, x.shape[-1])
        y, low = torch.ops.dpo_lite.lora_product.default(
            rows, layer.weight, layer.bias, down, up, layer.scale, *layer.packing
        )
        ctx.layer = layer
        ctx.save_for_backward(x, low, down, up)
        return _shaped(y, x)

    @staticmethod
    def backward(ctx, upstream):
        x, low, down, up = ctx.saved_tensors
        flat = upstream.reshape(-1, upstream.shape[-1])
        of_x, of_down, of_up = gradients(
            flat, x.reshape(-1, x.shape[-1]), low, ctx.layer, down, up, ctx.needs_input_grad[0]
        )
        return None if of_x is None else of_x.view(x.shape), of_down, of_up, None


class _GatedLora(torch.autograd.Function):
    """The same of x = f(gate) * up."""

    @staticmethod
    def forward(ctx, gate, wide, down, up, layer, kind):
        x = gated_values(gate, wide, kind)
        y, low = torch.ops.dpo_lite.lora_product.default(
            x.view(-1, x.shape[-1]),
            layer.weight,
            layer.bias,
            down,
            up,
            layer.scale,
            *layer.packing,
        )
        ctx.layer, ctx.kind = layer, kind
        ctx.save_for_backward(gate, wide, low, down, up)
        return _shaped(y, x)

    @staticmethod
    def backward(ctx, upstream):
        gate, wide, low, down, up = ctx.saved_tensors
        flat = upstream.reshape(-1, upstream.shape[-1])
        of_x, inner, of_up = gradients(flat, None, low, ctx.layer, down, up, True)
        of_gate, of_wide, x = gated_back(of_x.view(gate.shape), gate, wide, ctx.kind)
        of_down = (inner.t() @ x.view(-1, x.shape[-1])).to(down.dtype)
        return of_gate, of_wide, of_down, of_up, None, None


def fuse_adapters(model: torch.nn.Module) -> None:
    """Have the model's adapted linear layers computed here where they may be."""
    for module in model.modules():
        ours = isinstance(module, LoraLayer) and "forward" not in vars(module)
        if ours and type(module.get_base_layer()) in (torch.nn.Linear, bnb.nn.Linear4bit):
            module.forward = MethodType(_forward, module)


def _forward(self: LoraLayer, x: Tensor, *others, **named) -> Tensor:
    if list(named) == ["adapter_names"] and not others and _take_rows(self, named["adapter_names"]):
        return _by_rows(self, x, named["adapter_names"])
    worn = None if others or named else _worn(self, x)
    if worn is None:
        return type(self).forward(self, x, *others, **named)
    return _Lora.apply(x, *worn)


def _take_rows(self: LoraLayer, names: list[str]) -> bool:
    """Whether rows may wear these adapters as ``_by_rows`` does it: each plain, or none."""
    return not (self.disable_adapters or self.merged) and all(
        name not in self.lora_variant and type(self.lora_dropout[name]) is torch.nn.Identity
        for name in set(names) & {*self.lora_A}
    )


def _by_rows(self: LoraLayer, x: Tensor, names: list[str]) -> Tensor:
    """Each row with an adapter of its own, as PEFT's layer has it, neighbours of one name together.

    PEFT looks rows up by lists, for each of which the host waits until the card has it.
    """
    result, begin = self.base_layer(x), 0
    for name, same in groupby(names):
        end = begin + len(list(same))
        if name in self.lora_A:
            down, up, own = self.lora_A[name], self.lora_B[name], x[begin:end]
            more = up(down(own.to(down.weight.dtype))) * self.scaling[name]
            result[begin:end] += more.to(result.dtype)
        begin = end
    return result


def after_gate(down_proj: torch.nn.Module, gate: Tensor, up: Tensor, kind: Gate) -> Tensor:
    """What a layer makes of f(gate) * up."""
    is_ours = getattr(vars(down_proj).get("forward"), "__func__", None) is _forward
    worn = _worn(down_proj, gate) if is_ours and not _hooked(down_proj) else None
    if worn is None or gate.dtype != up.dtype:
        return down_proj(gated(gate, up, kind))
    return _GatedLora.apply(gate, up, *worn, kind)


def _hooked(module: torch.nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


def _worn(self: LoraLayer, x: Tensor) -> tuple[Tensor, Tensor, Layer] | None:
    """(A, B, layer) of the one adapter that is on, where all of it is as this file takes it."""
    if self.disable_adapters or self.merged:
        return None
    names = [name for name in self.active_adapters if name in self.lora_A]
    if len(names) != 1 or names[0] in self.lora_variant:
        return None
    (name,) = names
    down, up, base = self.lora_A[name], self.lora_B[name], self.base_layer
    plain = (
        type(down) is type(up) is torch.nn.Linear
        and up.bias is None
        and type(self.lora_dropout[name]) is torch.nn.Identity
        and not any(map(_hooked, (base, down, up)))
        and not base.weight.requires_grad
        and (base.bias is None or not base.bias.requires_grad)
        and x.numel() > 0
    )
    if not plain or not _in_one_dtype(x, base, down.weight):
        return None
    bias, state = base.bias, _state_of(base)
    if bias is not None and bias.dtype != x.dtype:
        bias = bias.to(x.dtype)
    packing = Packing(list(base.weight.shape)) if state is None else _packing(state)
    if packing is None or (type(base) is bnb.nn.Linear4bit) != (state is not None):
        return None
    layer = Layer(base.weight, bias, packing, state, float(self.scaling[name]))
    return down.weight, up.weight, layer


def _state_of(base: torch.nn.Module) -> Any:
    """How a layer's weight is packed; of a divided one the layer knows it (``sharding``)."""
    own = getattr(base.weight, "quant_state", None)
    return getattr(base, "quant_state", None) if own is None else own


def _in_one_dtype(x: Tensor, base: torch.nn.Module, master: Tensor) -> bool:
    """Whether PEFT's layer would compute all of it in the dtype of x."""
    own = base.compute_dtype if type(base) is bnb.nn.Linear4bit else base.weight.dtype
    if own not in (None, x.dtype):
        return False
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind) == x.dtype
    return master.dtype == x.dtype


def _packing(state) -> Packing | None:
    if getattr(state, "packing_format_for_cpu", False) or len(state.shape) != 2:
        return None
    own = (state.blocksize, state.quant_type)
    if not state.nested:
        return Packing(list(state.shape), state.absmax, None, None, None, *own)
    second = state.state2
    if second.blocksize != 256:
        return None
    nested = (second.absmax, state.absmax, second.code, state.offset)
    return Packing(list(state.shape), *nested, *own)
