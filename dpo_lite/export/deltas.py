"""What an adapter makes of each of the base's tensors, from the adapter's files.

LoRA adds scale · B·A to a weight. DoRA (arXiv:2402.09353, equation 5) also gives the sum's rows,
one per output, lengths of their own. A ``lora_bias`` is added to a layer's bias.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from dpo_lite.errors import UserError
from dpo_lite.export.expert_deltas import expert_deltas
from dpo_lite.export.file_names import FileNames
from dpo_lite.model.adapter_files import WEIGHTS, config_of
from dpo_lite.model.adapter_names import PREFIX, renaming
from dpo_lite.model.adapter_settings import refusal
from dpo_lite.model.base_copies import without_copies
from dpo_lite.model.tensor_files import load_tensors

HEAD = "lm_head.weight"
MAGNITUDE = "lora_magnitude_vector"


class Change(Protocol):
    """What becomes of a tensor, whose rows are those of all its matrices in a row."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def whole(self) -> bool:
        """Whether a row can only be changed with all others at hand."""
        ...

    def merged(self, weight: torch.Tensor, begin: int, end: int) -> torch.Tensor:
        """Rows ``begin`` to ``end`` as they become, of what they are: fp32, (rows, width) each."""
        ...


@dataclass(frozen=True)
class Delta:
    """A weight plus scale · up @ down, transposed where it is stored so."""

    up: torch.Tensor  # (out, r)
    down: torch.Tensor  # (r, in)
    scale: float
    transposed: bool
    magnitude: torch.Tensor | None = None  # (out,): DoRA's lengths

    def merged(self, weight: torch.Tensor, begin: int, end: int) -> torch.Tensor:
        if self.transposed:
            found = weight + self.scale * (self.down[:, begin:end].T @ self.up.T)
        else:
            found = weight + self.scale * (self.up[begin:end] @ self.down)
        if self.magnitude is None:
            return found
        if self.transposed:
            return found * (self.magnitude / found.norm(dim=0))
        return found * (self.magnitude[begin:end] / found.norm(dim=1))[:, None]

    @property
    def whole(self) -> bool:
        return self.transposed and self.magnitude is not None

    @property
    def shape(self) -> tuple[int, ...]:
        shape = (self.up.shape[0], self.down.shape[1])
        return shape[::-1] if self.transposed else shape


@dataclass(frozen=True)
class Shift:
    """A bias plus something."""

    by: torch.Tensor  # (out,)
    whole = False

    def merged(self, weight: torch.Tensor, begin: int, end: int) -> torch.Tensor:
        return weight + self.by

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.by.shape)


def read_deltas(
    adapter: Path, files: FileNames, read: Callable[[str], torch.Tensor]
) -> dict[str, Change]:
    """The change of each of the base's tensors that an adapter changes, by their names.

    ``read`` gives a tensor of the base's files.
    Raises UserError where the adapter is of a kind that is not merged, or is no one's of this base.
    """
    settings = config_of(adapter)
    if why := refusal(settings):
        raise UserError(f"The adapter {why}")
    try:
        saved = without_copies(
            load_tensors(adapter / WEIGHTS), lambda name: _of_base(name, files, read)
        )
    except ValueError as error:
        raise UserError(f"The adapter is not merged: {error}") from error
    names = renaming(files.model, saved)
    saved = {names.tensor(name): tensor for name, tensor in saved.items()}
    settings = names.settings(settings)
    deltas: dict[str, Change] = {}
    if settings.get("target_parameters"):
        of_experts, used = expert_deltas(files, settings, saved)
        saved = {name: tensor for name, tensor in saved.items() if name not in used}
        deltas.update(of_experts)
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in saved.items()}
    for layer in sorted({name.partition(".lora_")[0] for name in tensors}):
        deltas[tensor_of(layer, files)] = _of_layer(layer, tensors, settings)
        if (bias := tensors.get(f"{layer}.lora_B.bias")) is not None:
            scale = scale_of(settings, layer, tensors[f"{layer}.lora_A.weight"].shape[0])
            deltas[_bias_of(layer, files)] = Shift(scale * bias.float())
    return deltas


def _of_base(
    name: str, files: FileNames, read: Callable[[str], torch.Tensor]
) -> torch.Tensor | None:
    """A weight of the base; a tied head's is the embedding's."""
    layer, tied = name.removesuffix(".weight"), files.tied()
    if tied and layer == tied[1] and name not in files.renamed:
        name = f"{tied[0]}.weight"
    return read(files.renamed[name][0]) if name in files.renamed else None


def _of_layer(layer: str, tensors: dict[str, torch.Tensor], settings: dict[str, Any]) -> Delta:
    embedding = f"{layer}.lora_embedding_A" in tensors
    suffix = "lora_embedding_{}" if embedding else "lora_{}.weight"
    down, up = (tensors[f"{layer}.{suffix.format(part)}"].float() for part in "AB")
    if down.ndim != 2:
        raise UserError(f"{layer} is no linear layer; PEFT's merge_and_unload can merge it.")
    lengths = tensors.get(f"{layer}.{MAGNITUDE}", tensors.get(f"{layer}.{MAGNITUDE}.weight"))
    return Delta(
        up,
        down,
        scale_of(settings, layer, down.shape[0]),
        embedding or bool(settings.get("fan_in_fan_out")),
        None if lengths is None else lengths.float(),
    )


def tensor_of(layer: str, files: FileNames) -> str:
    """The tensor in the files that is a layer's weight; the head's name where it is tied."""
    tied = files.tied()
    if not tied or layer not in tied:
        return files.of_layer(layer)
    weight = f"{layer}.weight"
    return HEAD if layer == tied[1] and weight not in files.renamed else files.found(weight, layer)


def _bias_of(layer: str, files: FileNames) -> str:
    if f"{layer}.bias" not in files.renamed:
        raise UserError(
            f"The adapter has a bias for {layer}, which has none in the base (lora_bias): no "
            "merged base can be like that."
        )
    return files.found(f"{layer}.bias", f"layer {layer}")


def scale_of(settings: dict[str, Any], layer: str, rank: int) -> float:
    """What B·A is multiplied by in a layer, ``rank`` being its own."""
    from peft.utils.other import get_pattern_key

    pattern = settings.get("alpha_pattern") or {}
    alpha = pattern.get(get_pattern_key(pattern.keys(), layer), settings["lora_alpha"])
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
