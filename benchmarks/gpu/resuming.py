"""Part f: a run that is stopped and resumed ends where one does that is never stopped.

Whole runs of `dpo-lite train`, with preflight, evaluation and answers. A card's attention adds its
gradients up in an order that changes from run to run, so two runs that nobody stops may differ
there too: the resumed one may differ by as much.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from safetensors.torch import load_file

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.figures import Figure, at_most, so, told
from benchmarks.model_zoo.architectures import ARCHITECTURES
from benchmarks.model_zoo.case import Case
from benchmarks.model_zoo.runs import QUIET, STOP_AFTER, recipe_of, stopped_after
from dpo_lite.jobs import train as job
from dpo_lite.model.adapter_files import WEIGHTS
from dpo_lite.runs.folder import Run

UPDATES = {"max_steps": 4, "save_steps": STOP_AFTER}
TIMES_NOISE = 4.0  # two runs are too few to know how far apart they can be


def look(bench: Bench) -> Iterator[Figure]:
    case = Case(ARCHITECTURES["llama"], bench.folder)
    whole = job.start(recipe_of(case, UPDATES), "whole", QUIET)
    with stopped_after(STOP_AFTER):
        part = job.start(recipe_of(case, UPDATES), "part", QUIET)
    yield so("the run to be stopped is stopped", part.status()["state"] == "stopped")
    job.resume(part, QUIET)
    updates = len(part.steps())
    yield so(f"the resumed run has all {UPDATES['max_steps']} updates, each once", updates == 4)
    noise = 0.0  # as it is on a CPU
    if bench.on_card:
        noise = _apart(whole, job.start(recipe_of(case, UPDATES), "again", QUIET))
    yield told("two runs that are not stopped differ by, of an adapter's tensor", noise)
    yield at_most("the resumed run differs by", _apart(whole, part), TIMES_NOISE * noise)
    losses = [step["loss"] for step in whole.steps()]
    yield told("loss of the first and the last update", f"{losses[0]:.4f} → {losses[-1]:.4f}")


def _apart(run: Run, other: Run) -> float:
    """The largest difference of any tensor of the adapters, as a share of its largest number."""
    ours, theirs = (load_file(each.adapter / WEIGHTS) for each in (run, other))
    if ours.keys() != theirs.keys():
        return float("inf")
    return max(_share(tensor, theirs[name]) for name, tensor in ours.items())


def _share(tensor: torch.Tensor, other: torch.Tensor) -> float:
    most = tensor.abs().max().item()
    return (tensor - other).abs().max().item() / most if most else float(other.any().item())
