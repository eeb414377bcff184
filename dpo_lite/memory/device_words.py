"""On what a run computes, in words: the card, or why there is none."""

from __future__ import annotations

import os
import sys

import torch

from dpo_lite.memory.capacity import GIB
from dpo_lite.model.base import compute_device, compute_dtype

# Wheels of torch with CUDA; for Windows PyPI's have none.
WHEELS = "https://download.pytorch.org/whl/cu130"
CHOOSE = "https://pytorch.org/get-started/locally"


def device_words() -> str:
    """Name, memory and dtype of the card; of a CPU the reason for it and what helps."""
    device = compute_device()
    dtype = str(compute_dtype(device)).removeprefix("torch.")
    if device.type == "cpu":
        return f"CPU, {dtype}, because {why_cpu()}"
    free, total = torch.cuda.mem_get_info(device)
    memory = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"
    return f"{torch.cuda.get_device_name(device)}, {memory}, {dtype}"


def why_cpu() -> str:
    """Why no card is used, as a clause."""
    if torch.version.cuda is None and torch.version.hip is None:
        return _no_build()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES is '{visible.strip()}', which hides all cards; unset it"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        text = str(error)
    else:
        text = ""
    if "too old" in text:
        return (
            f"the NVIDIA driver is too old for this torch (CUDA {torch.version.cuda}); update it,"
            f" or install a torch for an older CUDA: {CHOOSE}"
        )
    if "no NVIDIA driver" in text:
        return "no NVIDIA driver is found: there is no NVIDIA card, or its driver is not installed"
    if visible is not None:
        return f"CUDA_VISIBLE_DEVICES is '{visible}', and torch finds no such card"
    first = text.strip().partition("\n")[0].rstrip(".")
    return "torch finds no card" + (f" ({first})" if first else "")


def _no_build() -> str:
    if sys.platform == "darwin":
        return "there is no CUDA on a Mac"
    version = torch.__version__.partition("+")[0]
    return (
        f"this torch ({torch.__version__}) is built without CUDA; for an NVIDIA card: "
        f"pip install --force-reinstall torch=={version} --index-url {WHEELS}"
    )
