"""Part a: what is there, by which all other numbers are to be read."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from importlib.metadata import version

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.figures import GIB, Figure, needs_card, so, told
from dpo_lite.memory.capacity import CONTEXT, free_memory
from dpo_lite.memory.cards import speed_of

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "trl", "accelerate")


def versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    found |= {name: version(name) for name in LIBRARIES}
    if torch.version.cuda:
        found["CUDA"] = torch.version.cuda
    return found


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def look(bench: Bench) -> Iterator[Figure]:
    yield told("computes on", f"{device_name()}, {bench.dtype}".replace("torch.", ""))
    yield told("system", f"{platform.system()} {platform.release()}")
    yield told("WSL", "yes" if "microsoft" in platform.release().lower() else "no")
    if not bench.on_card:
        yield needs_card("driver, bf16, memory of a card")
        return
    major, minor = torch.cuda.get_device_capability()
    yield told("compute capability", f"{major}.{minor}")
    yield told("driver", _driver())
    yield told("CUDA that torch was built for", torch.version.cuda or "none")
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    yield told("bf16 in hardware", "yes" if native else "no")
    yield so("computes in 16 bits", bench.dtype != torch.float32)
    yield told("cards visible, of which one trains", torch.cuda.device_count())
    yield told("known peak in bf16", speed_of(device_name()) or "not known", "TFLOP/s")
    torch.ones(1, device=bench.device)  # so that CUDA has what it needs
    free, total = torch.cuda.mem_get_info()
    yield told("memory", round(total / GIB, 2), "GiB")
    yield told("free", round(free / GIB, 2), "GiB")
    yield told("usable for a run", round((free_memory(bench.device) or 0) / GIB, 2), "GiB")
    beside = (total - free - torch.cuda.memory_reserved()) / GIB
    yield told("taken by CUDA's context and other programs", round(beside, 2), "GiB")
    yield told("reserve that plans for other cards assume", round(CONTEXT / GIB, 2), "GiB")
    yield told("allocator", os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "as it comes"))


def _driver() -> str:
    try:
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        found = subprocess.run(asked, capture_output=True, text=True, timeout=20).stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        found = []
    return found[0] if found else "nvidia-smi does not tell"
