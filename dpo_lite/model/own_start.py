"""An adapter that starts at factors of the base's weights, and leaves the base as it is.

PiSSA (arXiv:2404.02948) starts A and B at the largest singular vectors of W, OLoRA
(arXiv:2406.01775) at columns of its QR decomposition, and both take what these add, s·B₀·A₀, off W.
Then the base is another one, and so is a reference with adapters off. Here W stays, and what is
trained is the way from the start, ΔA and ΔB, which begin at zero:

    s·(B₀ + ΔB)(A₀ + ΔA) − s·B₀·A₀  =  s·[B₀ + ΔB, ΔB] [ΔA; A₀]

The gradients are those of A and B. At the start the layer adds exactly nothing, on a base in 4 bits
too; there is no difference of large numbers; and the right side is plain LoRA of twice the rank,
which is what is saved: it loads anywhere, on the base as it is published.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from peft.tuners.lora import Embedding, LoraLayer
from peft.tuners.lora.layer import LoraVariant, ParamWrapper
from peft.utils.integrations import dequantize_module_weight
from safetensors.torch import save_file
from torch.nn.functional import linear

from dpo_lite.errors import UserError
from dpo_lite.files import read_json, write_json
from dpo_lite.model.adapter_files import CONFIG, WEIGHTS
from dpo_lite.model.stacking import alpha_of
from dpo_lite.model.tensor_files import load_tensors

Start = Literal["pissa", "olora"]
FACTORS_FILE = "adapter_start.safetensors"  # in a checkpoint: B₀, which the sum B₀ + ΔB hides
EXACT = 512  # rows or columns up to which all singular vectors are computed
ROUNDS, MORE = 16, 8  # beyond: rounds of the power iteration, and vectors beside those wanted


class Moved(LoraVariant):
    """What a LoRA layer computes: B₀·ΔA x + ΔB·(A₀ + ΔA) x, times its scale."""

    @staticmethod
    def init(module: LoraLayer, adapter_name: str, **kwargs: Any) -> None:
        """Nothing is made before the base's weights are looked at."""

    @staticmethod
    def forward(
        module: LoraLayer, active_adapter: str, x: torch.Tensor, result: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        down, up = module.lora_A[active_adapter], module.lora_B[active_adapter]
        moved = linear(x, down.weight)
        added = linear(moved, up.start) + linear(moved + linear(x, down.start), up.weight)
        return result + (added * module.scaling[active_adapter]).to(result.dtype)


@torch.no_grad()
def start_at(model: PeftModel, name: str, how: Start, seed: int) -> None:
    """Give a fresh adapter's layers their start. Raises UserError where a layer has none."""
    for path, layer in _layers(model, name):
        base = layer.get_base_layer()
        if isinstance(layer, (Embedding, ParamWrapper)) or base.weight.ndim != 2:
            raise UserError(
                f"adapter.init: {how} is for linear layers, and {path} is none; set "
                "adapter.init=default, or leave it out of adapter.targets."
            )
        down, up = layer.lora_A[name], layer.lora_B[name]
        rank, (outputs, inputs) = down.weight.shape[0], (up.weight.shape[0], down.weight.shape[1])
        if rank > min(outputs, inputs):
            raise UserError(
                f"adapter.init: {how} has at most {min(outputs, inputs)} ranks in {path}; set "
                "adapter.r to that, or adapter.init=default."
            )
        if down.weight.is_meta:
            first, last = down.weight, up.weight
        else:
            weight = dequantize_module_weight(base).float()
            weight = weight.T if layer.fan_in_fan_out else weight
            first, last = FACTORS[how](weight, rank, layer.scaling[name], seed)
        down.register_buffer("start", first.detach().clone().contiguous(), persistent=False)
        up.register_buffer("start", last.detach().clone().contiguous(), persistent=False)
        down.weight.zero_()
        up.weight.zero_()
        layer.lora_variant[name] = Moved()


def _principal(
    weight: torch.Tensor, rank: int, scale: float, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A₀ (r, in) and B₀ (out, r), whose s·B₀·A₀ is the nearest to W of this rank."""
    if min(weight.shape) <= EXACT:
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
    else:
        devices = [weight.device] if weight.is_cuda else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            left, values, right = torch.svd_lowrank(weight, rank + MORE, ROUNDS)
        right = right.T
    left, values, right = left[:, :rank], values[:rank], right[:rank]
    root = (values / scale).sqrt()
    return root[:, None] * right, left * root


def _orthonormal(
    weight: torch.Tensor, rank: int, scale: float, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A₀ (r, in) and B₀ (out, r), of the QR decomposition of W."""
    left, right = torch.linalg.qr(weight)
    return right[:rank], left[:, :rank]


FACTORS: dict[Start, Callable[..., tuple[torch.Tensor, torch.Tensor]]] = {
    "pissa": _principal,
    "olora": _orthonormal,
}


def has_start(model: torch.nn.Module, name: str) -> bool:
    return any(True for _ in _started(model, name))


def start_bytes(model: torch.nn.Module) -> int:
    """What the starts of a model's adapters take in memory."""
    return sum(b.nbytes for key, b in model.named_buffers() if ".lora_" in key)


def save_plain(model: torch.nn.Module, name: str, folder: Path) -> None:
    """Turn a saved adapter's files, of ΔA and ΔB, into those of plain LoRA of twice the rank."""
    tensors = load_tensors(folder / WEIGHTS)
    scale = 1.0
    for path, layer in _started(model, name):
        down, up = f"{path}.lora_A.weight", f"{path}.lora_B.weight"
        first, last = layer.lora_A[name].start.cpu(), layer.lora_B[name].start.cpu()
        tensors[down] = torch.cat([tensors[down], first])
        tensors[up] = torch.cat([last + tensors[up], tensors[up]], dim=1).contiguous()
        scale = layer.scaling[name]
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config = read_json(folder / CONFIG) or {}
    rank = 2 * config["r"]
    plain = {"r": rank, "lora_alpha": alpha_of(scale, rank)}
    write_json(folder / CONFIG, config | plain | {"use_rslora": False})


def save_start(model: torch.nn.Module, name: str, folder: Path) -> None:
    """Put beside a checkpoint's plain adapter what it takes to go on from it bit by bit."""
    factors = {path: layer.lora_B[name].start.cpu() for path, layer in _started(model, name)}
    save_file(factors, folder / FACTORS_FILE)


@torch.no_grad()
def load_start(model: torch.nn.Module, name: str, folder: Path) -> None:
    """The adapter as it was when a checkpoint was saved."""
    tensors, factors = load_tensors(folder / WEIGHTS), load_tensors(folder / FACTORS_FILE)
    for path, layer in _started(model, name):
        down, up = layer.lora_A[name], layer.lora_B[name]
        rank = down.weight.shape[0]
        down.weight.copy_(tensors[f"{path}.lora_A.weight"][:rank])
        down.start.copy_(tensors[f"{path}.lora_A.weight"][rank:])
        up.weight.copy_(tensors[f"{path}.lora_B.weight"][:, rank:])
        up.start.copy_(factors[path])


def _layers(model: torch.nn.Module, name: str) -> Iterator[tuple[str, LoraLayer]]:
    for path, module in model.named_modules():
        if isinstance(module, LoraLayer) and (
            name in module.lora_A or name in module.lora_embedding_A
        ):
            yield path, module


def _started(model: torch.nn.Module, name: str) -> Iterator[tuple[str, LoraLayer]]:
    for path, module in _layers(model, name):
        if isinstance(module.lora_variant.get(name), Moved):
            yield path, module
