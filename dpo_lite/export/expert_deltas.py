"""What an adapter of a mixture's experts adds to the weights as the base's files hold them.

In memory all experts of a layer are one tensor; the files mostly hold a tensor per expert and
product, by other names. transformers knows how it makes one of the other, and how to go back: by
splitting, turning round and renaming. All of that is linear, so what an adapter adds is taken the
same way back. The model stands on meta: it gives names and shapes, and takes no memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from dpo_lite.export.file_names import FileNames
from dpo_lite.model.adapter_names import PREFIX
from dpo_lite.model.attach import attach_saved
from dpo_lite.model.expert_adapter import ParamWrapper
from dpo_lite.model.experts import shape_of
from dpo_lite.model.targets import plain_name
from dpo_lite.model.text_model import from_config

NAME = "merged"


@dataclass(frozen=True, eq=False)
class Fused:
    """What an adapter adds to all experts of one weight: scale · up[e] @ down[e]."""

    files: FileNames
    name: str  # of the weight in the model
    down: torch.Tensor  # (r·E, in)
    up: torch.Tensor  # (out, r·E)
    scale: float
    shape: torch.Size
    transposed: bool

    def whole(self) -> torch.Tensor:
        experts = self.shape[0]
        down = self.down.view(experts, -1, self.down.shape[1])
        up = self.up.view(self.up.shape[0], -1, experts).permute(2, 0, 1)
        change = self.scale * (up.float() @ down.float())
        return change.transpose(1, 2) if self.transposed else change

    def in_files(self, change: torch.Tensor) -> dict[str, torch.Tensor]:
        """A change of the weight, by names of tensors in the files."""
        return self.files.in_files({self.name: change})


@dataclass(frozen=True)
class ExpertDelta:
    """What is added to one tensor of the files; rows are those of all its matrices in a row."""

    fused: Fused
    name: str
    shape: tuple[int, ...]
    whole = False

    def merged(self, weight: torch.Tensor, begin: int, end: int) -> torch.Tensor:
        """Rows ``begin`` to ``end`` with what is added to them, fp32."""
        return weight + _changes(self.fused)[self.name].reshape(-1, self.shape[-1])[begin:end]


@lru_cache(maxsize=1)  # the tensors that one weight became follow one another
def _changes(fused: Fused) -> dict[str, torch.Tensor]:
    return fused.in_files(fused.whole())


def expert_deltas(
    files: FileNames, settings: dict[str, Any], tensors: dict[str, torch.Tensor]
) -> tuple[dict[str, ExpertDelta], set[str]]:
    """The changes by names of tensors in the base's files, and the adapter's tensors used for them.

    ``tensors`` by the names of adapter_model.safetensors, as this base's model has them.
    """
    on_meta = {name: tensor.to("meta") for name, tensor in tensors.items()}
    with torch.device("meta"):
        lm = from_config(files.model.config)
        attach_saved(lm, settings, on_meta, NAME, trained=False)
    deltas, used = {}, set()
    for path, wrapper in lm.named_modules():
        if not isinstance(wrapper, ParamWrapper):
            continue
        keys = [f"{PREFIX}{path}.lora_{part}.weight" for part in "AB"]
        used |= set(keys)
        shape = shape_of(wrapper.get_param())
        fused = Fused(
            files,
            f"{plain_name(path)}.{wrapper.parameter_name}",
            tensors[keys[0]],
            tensors[keys[1]],
            wrapper.scaling[NAME],
            shape,
            wrapper.get_base_layer().is_transposed,
        )
        for name, part in fused.in_files(torch.empty(shape, device="meta")).items():
            deltas[name] = ExpertDelta(fused, name, tuple(part.shape))
    return deltas, used
