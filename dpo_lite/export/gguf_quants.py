"""Levels of quantisation by llama.cpp's names: which tensor gets which type, and its bytes.

A level of k-quants is a mixture: weights that lose most by rounding get more bits, as llama.cpp's
``llama-quantize`` deals them out. A row whose width no block of the type divides gets the nearest
type that does.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch

from dpo_lite.export import k_quants
from dpo_lite.export.gguf_levels import Level

OWN = {"Q4_K": k_quants.q4_k, "Q5_K": k_quants.q5_k, "Q6_K": k_quants.q6_k}
NARROWER = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}  # blocks of 32 in place of 256


def type_of(level: Level, name: str, shape: tuple[int, ...], layers: int, tied: bool) -> str:
    """The type, by its name in GGUF, of the tensor ``name``. ``tied``: the embedding is the head.

    Vectors stay in fp32: they are small, and norms multiply all.
    """
    if len(shape) < 2:
        return "F32"
    wanted = level.usual
    head = "token_embd.weight" if tied else "output.weight"
    if level.better and (name == head or _loses_most(name, layers)):
        wanted = level.better
    elif level.name == "q4_0" and name == head:
        wanted = "Q6_K"
    if wanted in OWN and shape[-1] % 256:
        wanted = NARROWER[wanted]
    return "F16" if wanted.startswith("Q") and shape[-1] % 32 else wanted


def _loses_most(name: str, layers: int) -> bool:
    """Values and the products out of the hidden layer, in the first and the last eighth of the
    layers and in every third between."""
    found = re.fullmatch(r"blk\.(\d+)\.(attn_v|ffn_down)\.weight", name)
    if found is None:
        return False
    layer, eighth = int(found[1]), layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def packed(tensor: torch.Tensor, kind: str) -> np.ndarray:
    """fp32 (rows, width) as the type's bytes; F32 and F16 as numbers."""
    import gguf

    if kind in OWN:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return OWN[kind](tensor.to(device)).cpu().numpy()
    return gguf.quantize(tensor.numpy(), gguf.GGMLQuantizationType[kind])


def unpacked(data: np.ndarray, kind: Any) -> torch.Tensor:
    """A tensor of a file as fp32; ``kind`` as gguf's reader has it."""
    import gguf

    return torch.from_numpy(np.array(gguf.dequantize(data, kind)))
