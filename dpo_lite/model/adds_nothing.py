"""Whether an adapter changes nothing, read from its file alone: no torch, no base.

LoRA adds B·A = Σ B[:, i]·A[i] over its ranks i. It adds nothing where of every rank one of the two
factors is all zero: B of an adapter that was never trained, A or B of one that began elsewhere.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dpo_lite.model.adapter_settings import is_head
from dpo_lite.model.safetensors_header import Place, tensor_places

UP, DOWN = ("lora_B", "lora_embedding_B"), ("lora_A", "lora_embedding_A")


def adds_nothing(file: Path) -> bool:
    """Whether a model wears this adapter_model.safetensors as if it wore none."""
    places = tensor_places(file)
    if any(is_head(name) and _filled(file, place).any() for name, place in places.items()):
        return False
    if any(name.endswith("lora_B.bias") and _filled(file, p).any() for name, p in places.items()):
        return False
    for name, place in places.items():
        up = next((part for part in UP if part in name and not name.endswith(".bias")), None)
        if up is None:
            continue
        ranks = _filled(file, place).any(axis=0)
        if not ranks.any():
            continue
        other = places.get(name.replace(up, DOWN[UP.index(up)]))
        down = np.ones_like(ranks) if other is None else _filled(file, other).any(axis=1)
        if down.shape != ranks.shape or (ranks & down).any():  # what does not fit is said later
            return False
    return True


def _filled(file: Path, place: Place) -> np.ndarray:
    """Which numbers of a tensor are not zero: a float is zero where all its bytes are."""
    with open(file, "rb") as stream:
        stream.seek(place.begin)
        content = np.frombuffer(stream.read(place.end - place.begin), np.uint8)
    return np.asarray(content.reshape(*place.shape, -1).any(axis=-1))
