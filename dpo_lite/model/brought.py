"""The numbers that a checkpoint's files are in, where they are not plain: which are let in.

bitsandbytes' 4 bits and gpt-oss' MXFP4 stay as they are published. Block-wise or per-tensor FP8
(DeepSeek's scheme, as of Ministral 3 and of many ``-FP8`` copies) has no gradient on most cards, so
it is read as the numbers it stands for, and these are packed into NF4 one tensor after the other.
Of every other kind it is not known here that its gradients are right.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from dpo_lite.errors import UserError

BITSANDBYTES, MXFP4, FP8 = "bitsandbytes", "mxfp4", "fp8"

# Keys of FP8's settings whose meaning is known: how a layer's input is rounded is of no account
# where the product is done in 16 bits.
FP8_KEYS = {
    "quant_method",
    "fmt",
    "activation_scheme",
    "weight_block_size",
    "modules_to_not_convert",
    "dequantize",
}


def settings(config: PreTrainedConfig) -> dict[str, Any]:
    """How a base's files are quantised, as its config.json says it; empty where they are not."""
    found = getattr(config, "quantization_config", None) or {}
    return dict(found if isinstance(found, dict) else found.to_dict())


def method(config: PreTrainedConfig) -> str | None:
    """The name of the scheme that a base's files are in."""
    own = settings(config)
    if own.get("load_in_4bit") or own.get("load_in_8bit"):
        return BITSANDBYTES
    name = own.get("quant_method")
    return str(getattr(name, "value", name)) if own else None


def check_brought(base: str, config: PreTrainedConfig) -> None:
    """Raise UserError where a base's files are in numbers that cannot be trained on here."""
    name, own = method(config), settings(config)
    if name is None or name == MXFP4:
        return
    if name == BITSANDBYTES and not own.get("load_in_8bit"):
        return
    odd = sorted(key for key in own.keys() - FP8_KEYS if own[key])
    if name == FP8 and not odd:
        return
    words = {BITSANDBYTES: "8 bits (bitsandbytes)", FP8: f"FP8 with {', '.join(odd)}"}
    raise UserError(
        f"model.base: {base} is published in {words.get(name, name)}, on which training is not "
        "known to be exact here; take the 16-bit model that it was made from, which is packed into "
        "4 bits while it loads."
    )
