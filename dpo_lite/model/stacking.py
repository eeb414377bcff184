"""Two LoRA adapters as one: their ranks side by side, exactly.

LoRA adds c·B·A to a weight. So c₁·B₁A₁ + c₂·B₂A₂ = c₁·[B₁, (c₂/c₁)B₂]·[A₁; A₂]: an adapter of rank
r₁ + r₂ that scales by c₁. Nothing is approximated; where c₁ = c₂ no number changes at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from dpo_lite.errors import UserError

DOWN, EMBEDDING = ("lora_A", "lora_embedding_A"), "lora_embedding_"


@dataclass(frozen=True)
class Adapter:
    """Settings as in adapter_config.json, tensors by the names of adapter_model.safetensors."""

    config: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    @property
    def rank(self) -> int:
        return self.config["r"]

    @property
    def scale(self) -> float:
        """What B·A is multiplied by."""
        rank = math.sqrt(self.rank) if self.config.get("use_rslora") else self.rank
        return self.config["lora_alpha"] / rank


def concatenated(first: Adapter, second: Adapter) -> Adapter:
    """One adapter that adds what both add. A layer that only one of them has gets zeros beside it.

    Raises UserError for what has no such sum: DoRA, ranks that differ by layer, biases.
    """
    for adapter in (first, second):
        _check_plain(adapter)
    rank = first.rank + second.rank
    config = first.config | {
        "r": rank,
        "lora_alpha": alpha_of(first.scale, rank),
        "use_rslora": False,
        "target_modules": _either(first.config["target_modules"], second.config["target_modules"]),
    }
    ratio = second.scale / first.scale
    tensors = {}
    for name in sorted({*first.tensors, *second.tensors}):
        one, two = first.tensors.get(name), second.tensors.get(name)
        down = _is_down(name)
        parts = [
            _or_zeros(one, two, first.rank, down),
            _or_zeros(two, one, second.rank, down) * (1.0 if down else ratio),
        ]
        tensors[name] = torch.cat(parts, dim=0 if down else 1).contiguous()
    return Adapter(config, tensors)


def _either(first: list[str] | str, second: list[str] | str) -> list[str] | str:
    """Names of layers; patterns are as they were, for it is the tensors that say which layers."""
    if isinstance(first, str) or isinstance(second, str):
        return first
    return sorted({*first, *second})


def fresh_beside(start: Adapter, rank: int, seed: int) -> Adapter:
    """A new adapter for the same layers, of the same scale: A random, B = 0, so it adds nothing."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, tensor in sorted(start.tensors.items()):
        down, embedding = _is_down(name), EMBEDDING in name
        shape = (rank, tensor.shape[1]) if down else (tensor.shape[0], rank)
        if down == embedding:  # one factor of a layer is zero: of an embedding the other one
            tensors[name] = tensor.new_zeros(shape)
        elif embedding:
            tensors[name] = torch.randn(shape, generator=generator).to(tensor)
        else:
            values = torch.rand(shape, generator=generator) * 2 - 1
            tensors[name] = (values / math.sqrt(shape[1])).to(tensor)  # as PEFT: kaiming, a = √5
    config = start.config | {
        "r": rank,
        "lora_alpha": alpha_of(start.scale, rank),
        "use_rslora": False,
    }
    return Adapter(config, tensors)


def _is_down(name: str) -> bool:
    return any(part in name for part in DOWN)


def alpha_of(scale: float, rank: int) -> int | float:
    """lora_alpha of an adapter of this rank whose update is multiplied by ``scale``."""
    alpha = scale * rank
    return int(alpha) if alpha == int(alpha) else alpha


def _or_zeros(
    tensor: torch.Tensor | None, other: torch.Tensor, rank: int, down: bool
) -> torch.Tensor:
    if tensor is not None:
        return tensor
    return other.new_zeros((rank, other.shape[1]) if down else (other.shape[0], rank))


def _check_plain(adapter: Adapter) -> None:
    config = adapter.config
    odd = [key for key in ("use_dora", "rank_pattern", "alpha_pattern") if config.get(key)]
    if config.get("lora_bias"):
        odd.append("lora_bias")
    # Ranks of experts lie in a row of all experts' ranks; linear layers may be named by weights.
    if any(not name.endswith(".weight") for name in config.get("target_parameters") or []):
        odd.append("adapted experts")
    if config.get("bias", "none") != "none":
        odd.append("bias")
    if odd or any(tensor.ndim != 2 for tensor in adapter.tensors.values()):
        what = ", ".join(odd) or "layers other than linear ones"
        raise UserError(f"An adapter with {what} has no sum with another; set adapter.extra_r=0.")
