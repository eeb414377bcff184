"""The card at hand, or one that is named: its memory, its speed, and what a run took of it."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import torch

from dpo_lite.memory.cards import card_named, speed_of
from dpo_lite.memory.plan import Choice, MemoryPlan
from dpo_lite.model.dry_run import Costs

GIB = 2**30
CONTEXT = 0.7 * GIB  # what CUDA itself and the allocator's gaps take on a card
USABLE = 0.9  # of the free memory of the card at hand
LIBRARIES = 2 * GIB  # of the host's memory: Python, torch and what CUDA keeps there

UTILISATION = (0.35, 0.6)  # share of that peak that QLoRA training reaches, from published runs
SELECTIVE = 0.1  # of a forward pass: norms, rotations, activations and the adapter again, assumed


def free_memory(device: torch.device) -> float | None:
    """Bytes that a run may take on this machine's card, what it holds already included."""
    if device.type == "cpu":
        return None
    held = torch.cuda.memory_allocated(device)
    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - held
    return USABLE * free + held


def host_needs(plan: MemoryPlan, costs: Costs, on_card: bool) -> dict[str, float]:
    """Bytes of the host's memory by what they are for. A base that is loaded
    is read through mapped files, whose pages give way, so it is not among them."""
    needs = {"the libraries": float(LIBRARIES)}
    if not on_card:
        return needs | {"the run": float(plan.total)}
    if plan.choice.embeddings == "cpu":
        needs["the embedding"] = float(costs.embedding)
    if plan.on_host:
        needs["the layers' inputs"] = float(plan.on_host)
    return needs


def host_memory() -> float:
    """Bytes of this machine's memory that are free, or would be if they were asked for."""
    return float(psutil.virtual_memory().available)


def card(name: str) -> tuple[float, float | None]:
    """Usable bytes and peak FLOP/s of a card: ``3090``, or ``12GB`` for its memory alone."""
    gib, tera, _ = card_named(name)
    return gib * GIB - CONTEXT, tera and tera * 1e12


def speed_here(device: torch.device) -> float | None:
    """Peak FLOP/s of this machine's card; None on a CPU, and for a card that is not known."""
    if device.type == "cpu":
        return None
    tera = speed_of(torch.cuda.get_device_name(device))
    return tera and tera * 1e12


def passes(choice: Choice, layers: int, cached: bool = False, beside: int = 0) -> float:
    """Forward passes' worth of work in an update: the policy's, its gradient's, the reference's.

    The base is frozen, so the backward pass costs one, not two. ``cached``: the reference's numbers
    are known; ``beside``: passes of the policy over as many tokens that need no gradient, each of
    which the reference has too (KTO's mismatched pairs).
    """
    again = {"none": 0.0, "selective": SELECTIVE}.get(choice.recompute, choice.recomputed / layers)
    return 2 + again + beside + (0 if cached else 1 + beside)


def seconds_per_epoch(
    costs: Costs, choice: Choice, tokens: int, scored: int, flops: float, beside: int = 0
) -> tuple[float, float]:
    """From best to worst, for ``tokens`` computed and ``scored`` response tokens, at ``flops``.

    Two operations per token and weight for each forward pass' worth (``passes``, which says what
    is ``beside``).
    """
    work = 2 * costs.linear * tokens * passes(choice, costs.layers, beside=beside)
    work += 2 * costs.head * scored * (3 + 2 * beside)
    worst, best = UTILISATION
    return work / flops / best, work / flops / worst


def peak_memory(device: torch.device) -> int:
    """Measured peak in bytes: of the allocator on a GPU, of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if (peak := _high_water()) is not None:
        return peak
    try:
        import resource
    except ImportError:  # Windows
        return psutil.Process().memory_info().peak_wset
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _high_water() -> int | None:
    """Linux's own mark of this process; getrusage gives a child that of who started it."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    marks = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(marks[0]) * 1024 if marks else None


def memory_in_use() -> int:
    """Bytes that this process occupies now: of the GPU by its allocator, else of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.memory_reserved()
    return psutil.Process().memory_info().rss
