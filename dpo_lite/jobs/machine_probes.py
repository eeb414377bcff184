"""What of this machine a training needs: one small function per thing, each may fail alone.

``python -m dpo_lite.jobs.machine_probes RUNS NAME...`` looks at the named things and prints what it
finds as JSON lines; ``dpo_lite.jobs.machine`` starts that and outlives it. Nothing heavy is
imported before a probe asks for it: what is broken must be one finding, not the end.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from dpo_lite.jobs.package_probes import (
    INSTALLED,
    LOADED,
    OPTIONAL,
    Finding,
    first_line,
    library,
    optional,
    product,
    python,
)

GIB = 2**30
LITTLE_DISK, NO_DISK = 10 * GIB, GIB
LITTLE_CARD = 4 * GIB
WALK_SECONDS = 5.0


def device(name: str, runs: str) -> Finding:
    """The card and whether it computes, or why it is the CPU."""
    import torch

    from dpo_lite.memory.device_words import device_words, why_cpu

    words = device_words()
    if not torch.cuda.is_available():
        if shutil.which("nvidia-smi"):
            todo = f"There is an NVIDIA driver, but no card is used, for {why_cpu()}."
            return Finding(name, words, todo, True)
        return Finding(
            name,
            words,
            "Without a card only small bases can be trained; `dpo-lite train"
            " quickstart` runs on any CPU.",
        )
    major, minor = torch.cuda.get_device_capability()
    words += f", compute capability {major}.{minor}, driver {_driver()}"
    if torch.cuda.device_count() > 1:
        words += f"; one of {torch.cuda.device_count()} cards (docs/several-cards.md)"
    return Finding(name, words, *_trouble_of_card(major))


def _trouble_of_card(major: int) -> tuple[str, bool]:
    """What is to be done about a card, by a sum that it does, and whether it is wrong as it is."""
    import torch

    try:
        square = torch.eye(32, device="cuda")
        computes = bool(torch.equal((square @ square).cpu(), torch.eye(32)))
    except RuntimeError as error:
        return (
            f"The card does not compute with this torch ({first_line(error)}); "
            "install a torch that is built for it: https://pytorch.org/get-started/locally"
        ), True
    if not computes:
        return (
            "The card multiplies wrongly; update its driver, and if that does not help do not"
            " train on it."
        ), True
    free, total = torch.cuda.mem_get_info()
    if free < min(LITTLE_CARD, total / 2):
        return (
            f"Other programs hold {(total - free) / GIB:.1f} GiB of the card; "
            "`nvidia-smi` names them: end those you do not need."
        ), True
    if major < 7:
        return (
            "This card has no fast 16-bit numbers, so a run computes in fp32: "
            "expect it to be slow, and take a small base."
        ), False
    return "", False


def four_bits(name: str, runs: str) -> Finding:
    """A small matrix quantised to NF4 and multiplied, held to the product in full precision."""
    import bitsandbytes.functional as packing
    import torch

    place = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    weight, rows = torch.randn(256, 256), torch.randn(8, 256)
    packed, state = packing.quantize_4bit(weight.to(place), quant_type="nf4")
    unpacked = packing.dequantize_4bit(packed, state).float().cpu()
    # Rounding to NF4 alone costs a normal weight about 9 % (QLoRA, arXiv:2305.14314, section 3).
    lost = float((unpacked - weight).norm() / weight.norm())
    layer = importlib.import_module("bitsandbytes.nn").Linear4bit(
        256, 256, bias=False, quant_type="nf4", compute_dtype=torch.float32
    )
    layer.weight.data = weight
    product = layer.to(place)(rows.to(place)).float().cpu()
    apart = float((product - rows @ unpacked.T).norm() / (rows @ unpacked.T).norm())
    words = f"works on {place}: NF4 loses {100 * lost:.0f} %, its product is right to {apart:.0e}"
    if not lost < 0.15 or not apart < 0.02:
        return Finding(
            name,
            f"wrong on {place}: NF4 loses {100 * lost:.0f} %, its product is off by {apart:.0e}",
            "bitsandbytes computes wrongly here; install it again, or train in 16 bits with "
            "model.quantization=none.",
            True,
        )
    return Finding(name, words)


def host(name: str, runs: str) -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    free, total = memory.available / GIB, memory.total / GIB
    words = f"{os.cpu_count()} cores, {free:.1f} of {total:.1f} GiB memory free"
    if free < 2:
        return Finding(
            name,
            words,
            "Less than 2 GiB of the host's memory are free, which the libraries "
            "take alone; close other programs.",
            True,
        )
    return Finding(name, words)


def disk(name: str, runs: str, folder: Callable[[], Path] | None = None) -> Finding:
    """Room where a folder lies or would lie, and whether it can be written."""
    from dpo_lite.errors import UserError
    from dpo_lite.runs.room import check_output

    path = (folder() if folder else Path(runs)).expanduser().absolute()
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    free = shutil.disk_usage(there).free
    words = f"{path}, {free / GIB:.1f} GiB free"
    if folder:
        words += f", holds {_size(path)}"
    try:
        check_output(path)
    except UserError as error:
        return Finding(name, words, str(error), True)
    if free < LITTLE_DISK:
        return Finding(
            name,
            words,
            f"Make room there: a base of 4B parameters takes 8 GiB, a run with its "
            f"checkpoints up to some more, and {free / GIB:.1f} GiB are free.",
            free < NO_DISK,
        )
    return Finding(name, words)


def hub(name: str, runs: str) -> Finding:
    """Whether there is a token, and from where; never the token."""
    from huggingface_hub import get_token

    from dpo_lite.hub.account import token_source

    if get_token():
        return Finding(name, f"a token is there, {token_source()}")
    return Finding(
        name, "no token", "Gated bases and publishing need one: `hf auth login`; all else does not."
    )


def _dpo_cache() -> Path:
    from dpo_lite.files import cache_folder

    return cache_folder()


def _hub_cache() -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


PROBES: dict[str, Callable[[str, str], Finding]] = {
    "dpo_lite": product,
    "python": python,
    **dict.fromkeys(LOADED, library),
    **dict.fromkeys(INSTALLED, partial(library, loads=False)),
    "device": device,
    "4 bits": four_bits,
    "host": host,
    "runs": disk,
    "cache": partial(disk, folder=_dpo_cache),
    "bases": partial(disk, folder=_hub_cache),
    "hub": hub,
    **dict.fromkeys(OPTIONAL, optional),
}


def look(name: str, runs: str = "runs") -> Finding:
    """What is found of one thing; a probe that fails is a finding too."""
    try:
        return PROBES[name](name, runs)
    except (Exception, SystemExit) as error:
        return Finding(
            name,
            "could not be looked at",
            f"Looking at it failed with {first_line(error)}; put right first what else is named "
            "here, then install the libraries again: pip install -r requirements.txt",
            True,
        )


def _driver() -> str:
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10)
        return done.stdout.split()[0]
    except (OSError, IndexError, subprocess.SubprocessError):
        return "of unknown version"


def _size(folder: Path) -> str:
    """What lies in a folder; of one that takes long to walk through what was seen until then."""
    size, until = 0, time.monotonic() + WALK_SECONDS
    for place, _, files in os.walk(folder):
        for file in files:
            try:
                size += os.lstat(os.path.join(place, file)).st_size
            except OSError:
                continue  # gone between two looks
        if time.monotonic() > until:
            return f"over {size / GIB:.1f} GiB"
    return f"{size / GIB:.1f} GiB"


def main(runs: str, names: list[str]) -> None:
    """Each name before it is looked at and the finding behind it, so that a crash has a place."""
    from dpo_lite.quiet import quiet_libraries

    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer

    def tell(facts: dict[str, Any]) -> None:
        print(json.dumps(facts), file=answers, flush=True)

    quiet_libraries()
    for name in names:
        tell({"begun": name})
        tell(asdict(look(name, runs)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
