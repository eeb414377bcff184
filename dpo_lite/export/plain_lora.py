"""An adapter as programs take it that know LoRA alone: one rank, a scale of 1, linear layers.

vLLM and SGLang multiply every layer's B·A by the one alpha / r of the settings (SGLang without
rsLoRA's root), llama.cpp by alpha over the layer's rank. So each layer's own scale goes into its B,
ranks are filled up with zeros, and alpha is r: the same function in each of them, and in PEFT.
"""

from __future__ import annotations

from pathlib import Path

import torch

from dpo_lite.errors import UserError
from dpo_lite.export.deltas import scale_of
from dpo_lite.model.adapter_files import WEIGHTS, config_of
from dpo_lite.model.adapter_names import PREFIX
from dpo_lite.model.adapter_settings import refusal
from dpo_lite.model.stacking import Adapter
from dpo_lite.model.tensor_files import load_tensors

DOWN, UP = ".lora_A.weight", ".lora_B.weight"
MERGED = "merge it instead: `dpo-lite merge`, or `dpo-lite export --to gguf`"
HEADS = ("embed_tokens", "lm_head")


def plain(folder: Path) -> Adapter:
    """Raises UserError for what such programs do not know, in words that name it."""
    config = config_of(folder)
    if why := refusal(config):
        raise UserError(f"The adapter {why}")
    tensors = load_tensors(folder / WEIGHTS)
    if why := _unknown(config, tensors):
        raise UserError(f"{folder} {why}, which these programs do not serve; {MERGED}.")
    layers = sorted(name.removesuffix(DOWN) for name in tensors if name.endswith(DOWN))
    rank = max(tensors[layer + DOWN].shape[0] for layer in layers)
    found = {}
    for layer in layers:
        down, up = tensors[layer + DOWN].float(), tensors[layer + UP].float()
        own = down.shape[0]
        up = up * scale_of(config, layer.removeprefix(PREFIX), own)
        found[layer + DOWN] = torch.nn.functional.pad(down, (0, 0, 0, rank - own))
        found[layer + UP] = torch.nn.functional.pad(up, (0, rank - own))
    return Adapter(
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": config.get("base_model_name_or_path"),
            "revision": config.get("revision"),
            "r": rank,
            "lora_alpha": rank,
            "lora_dropout": 0.0,
            "bias": "none",
            "modules_to_save": None,
            "use_rslora": False,
            "use_dora": False,
            "inference_mode": True,
            "target_modules": sorted({layer.rpartition(".")[2] for layer in layers}),
        },
        found,
    )


def _unknown(config: dict, tensors: dict[str, torch.Tensor]) -> str | None:
    """What of an adapter is more than LoRA's two matrices of a linear layer, behind its name."""
    if config.get("use_dora"):
        return "is DoRA, whose rows have lengths of their own"
    if config.get("target_parameters"):
        return "adapts weights by name, as those of a mixture's experts in one tensor"
    if config.get("fan_in_fan_out"):
        return "is of layers whose weights are stored transposed"
    if others := sorted(name for name in tensors if not name.endswith((DOWN, UP))):
        return f"has more than LoRA's two matrices ({others[0]})"
    if any(tensor.ndim != 2 for tensor in tensors.values()):
        return "adapts layers other than linear ones"
    for name in sorted(tensors):
        if any(part in HEADS for part in name.split(".")):
            return "adapts the embedding or the head"
    return None
