"""Which of a base's modules are computed by ``fused_ops``: those whose formula is known.

No list of architectures: a module that looks like an RMSNorm, or like a gated MLP, is tried on a
few random rows. What comes out must be one of the known formulas' values, bit by bit, in fp32, bf16
and fp16; any other module is left as it is. Tried is a copy with small weights on the CPU, so a
base without weights (on meta) gets the same verdict as a loaded one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from types import MethodType
from typing import Any

import torch

from dpo_lite.model.fused_lora import after_gate
from dpo_lite.model.fused_ops import GATES, Gate, Norm, activated, norm_values, rms_norm

EPS = ("variance_epsilon", "eps", "norm_eps", "epsilon", "rms_norm_eps")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# An MLP's layers: with one for gate and up each, or one for both (Phi-3, GLM).
APART = {"gate_proj", "up_proj", "down_proj"}
JOINT = {"gate_up_proj", "down_proj"}
ROWS, INNER, OUTER = 6, 48, 32  # of a trial


def fuse_modules(model: torch.nn.Module) -> None:
    """Have norms, gated MLPs and experts' gates of a frozen base computed here, where that is the
    same."""
    known: dict[Hashable, Any] = {}  # one trial for all that are alike
    for module in model.modules():
        if _hooked(module):
            continue
        key: Hashable
        if _looks_like_norm(module):
            key = (type(module), tuple(module.weight.shape), _settings(module))
            if key not in known:
                known[key] = _norm_of(module)
            if known[key] is not None:
                module.fused_norm = known[key]
                module.forward = MethodType(_norm_forward, module)
        elif _looks_like_mlp(module):
            key = (type(module), repr(getattr(module, "act_fn", None)), _settings(module))
            if key not in known:
                known[key] = _gate_of(module)
            if known[key] is not None:
                module.fused_gate = known[key]
                forward = _mlp_forward if _parts(module) is APART else _joint_mlp_forward
                module.forward = MethodType(forward, module)
        elif getattr(module, "has_gate", False) and hasattr(module, "_is_expert_parallel"):
            key = (type(module), repr(getattr(module, "act_fn", None)), _settings(module))
            if key not in known:
                known[key] = _gate_of_experts(module)
            module.fused_gate = known[key]  # read where they are multiplied (experts)


def _norm_forward(self: torch.nn.Module, x: torch.Tensor, *others, **named) -> torch.Tensor:
    if others or named or self.weight.requires_grad:
        return type(self).forward(self, x, *others, **named)
    return rms_norm(x, self.weight, self.fused_norm)


def _mlp_forward(self: torch.nn.Module, x: torch.Tensor, *others, **named) -> torch.Tensor:
    if others or named:
        return type(self).forward(self, x, *others, **named)
    return after_gate(self.down_proj, self.gate_proj(x), self.up_proj(x), self.fused_gate)


def _joint_mlp_forward(self: torch.nn.Module, x: torch.Tensor, *others, **named) -> torch.Tensor:
    if others or named:
        return type(self).forward(self, x, *others, **named)
    gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
    return after_gate(self.down_proj, gate, up, self.fused_gate)


def _hooked(module: torch.nn.Module) -> bool:
    """Whether somebody else has put something into the module's way."""
    return "forward" in vars(module) or bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
    )


def _settings(module: torch.nn.Module) -> Hashable:
    plain = (bool, int, float, str)
    return tuple((k, v) for k, v in vars(module).items() if isinstance(v, plain))


def _eps(module: torch.nn.Module) -> float | None:
    found = [getattr(module, name, None) for name in EPS]
    return next((eps for eps in found if isinstance(eps, float)), None)


def _looks_like_norm(module: torch.nn.Module) -> bool:
    return (
        "norm" in type(module).__name__.lower()
        and set(module._parameters) == {"weight"}
        and isinstance(module.weight, torch.nn.Parameter)
        and module.weight.ndim == 1
        and not module._buffers
        and not module._modules
        and _eps(module) is not None
    )


def _looks_like_mlp(module: torch.nn.Module) -> bool:
    """Layers called so, and nothing else that has weights."""
    own = _parts(module)
    others = [child for name, child in module.named_children() if name not in own]
    return (
        bool(own)
        and not module._parameters
        and not module._buffers
        and all(not list(child.parameters()) for child in others)
        and all(isinstance(module._modules[name], torch.nn.Linear) for name in own)
    )


def _parts(module: torch.nn.Module) -> set[str]:
    """The names of an MLP's layers; none where they are called otherwise."""
    return next((names for names in (APART, JOINT) if set(module._modules) >= names), set())


def _copy(module: torch.nn.Module, **changed) -> torch.nn.Module:
    """The module with other things inside, which shares none of them with the original."""
    copy = object.__new__(type(module))
    copy.__dict__ = vars(module) | changed
    return copy


def _random(draw: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=draw, device="cpu")


def _norm_of(module: torch.nn.Module) -> Norm | None:
    eps = _eps(module)
    assert eps is not None
    draw = torch.Generator().manual_seed(0)
    weight = _random(draw, module.weight.shape[0])
    rows = _random(draw, ROWS, module.weight.shape[0])
    rows[::2] *= eps**0.5  # where it counts whether eps stands under the root
    # An offset is only known with the weight in fp32.
    formulas = [Norm(eps, 0.0, False), Norm(eps, 0.0, True), Norm(eps, 1.0, True)]

    def said(dtype: torch.dtype, training: bool) -> torch.Tensor:
        own = torch.nn.Parameter(weight.to(dtype), requires_grad=False)
        return _copy(module, _parameters={"weight": own}, training=training)(rows.to(dtype))

    def same(how: Norm) -> bool:
        return all(
            torch.equal(said(dtype, mode), norm_values(rows.to(dtype), weight.to(dtype), how)[0])
            for dtype in DTYPES
            for mode in (True, False)
        )

    return _tried(same, formulas)


def _gate_of(module: torch.nn.Module) -> Gate | None:
    draw, joint = torch.Generator().manual_seed(0), _parts(module) is JOINT
    shapes = {"gate_proj": (INNER, OUTER), "up_proj": (INNER, OUTER), "down_proj": (OUTER, INNER)}
    if joint:
        shapes = {"gate_up_proj": (2 * INNER, OUTER), "down_proj": (OUTER, INNER)}
    weights = {name: _random(draw, *shape) / 4 for name, shape in shapes.items()}
    rows = _random(draw, 1, ROWS, OUTER)

    def parts(dtype: torch.dtype) -> dict[str, torch.nn.Module]:
        made = {}
        for name, weight in weights.items():
            made[name] = torch.nn.Linear(1, 1, bias=False, device="cpu")
            made[name].weight = torch.nn.Parameter(weight.to(dtype), requires_grad=False)
        return made

    def same(kind: Gate) -> bool:
        for dtype in DTYPES:
            own = parts(dtype)
            x = rows.to(dtype)
            if joint:
                gate, up = own["gate_up_proj"](x).chunk(2, dim=-1)
            else:
                gate, up = own["gate_proj"](x), own["up_proj"](x)
            expected = own["down_proj"](activated(gate, kind) * up)
            for mode in (True, False):
                copy = _copy(module, _modules=module._modules | own, training=mode)
                if not torch.equal(copy(x), expected):
                    return False
        return True

    return _tried(same, list(GATES))


def _gate_of_experts(module: torch.nn.Module) -> Gate | None:
    rows = 2 * _random(torch.Generator().manual_seed(0), ROWS, 2 * INNER)

    def same(kind: Gate) -> bool:
        for dtype in DTYPES:
            gate, up = rows.to(dtype).chunk(2, dim=-1)
            if not torch.equal(module._apply_gate(rows.to(dtype)), activated(gate, kind) * up):
                return False
        return True

    return _tried(same, list(GATES))


def _tried(same: Callable, formulas: list):
    """The first of the formulas that is the module's; None where none is, or it needs more."""
    try:
        with torch.no_grad(), torch.device("cpu"), torch.autocast("cpu", enabled=False):
            return next(filter(same, formulas), None)
    except Exception:  # a module of another form: anything may come of calling it
        return None
