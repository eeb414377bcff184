"""What a run took of the memory, part by part, beside what the plan said."""

from __future__ import annotations

import torch
from peft import PeftModel

from dpo_lite.memory.capacity import peak_memory
from dpo_lite.memory.plan import MemoryPlan
from dpo_lite.memory.trial import Trial
from dpo_lite.model.weights import nbytes

Parts = dict[str, dict[str, int | None]]


def memory_by_part(
    expected: MemoryPlan, trial: Trial, model: PeftModel, optimizer: torch.optim.Optimizer
) -> Parts:
    """Bytes by part: ``predicted`` for the largest micro-batch before it ran, and ``measured``.

    None where a part cannot be measured: what a product needs for a moment shows only in the peak
    of a card, and what is kept only where nothing is recomputed.
    """
    device = model.device
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    known = {id(p) for p in trained}
    frozen = [p for p in model.parameters() if p.device == device and id(p) not in known]
    moments = sum(
        value.nbytes
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    )
    weights = sum(map(nbytes, frozen))
    adapter = 2 * sum(p.nbytes for p in trained) + moments  # masters and their gradients
    peak = peak_memory(device) if device.type == "cuda" else None
    rest = None
    if peak is not None and trial.activations is not None:
        rest = peak - weights - adapter - trial.activations
    measured = (weights, adapter, trial.activations, rest, peak)
    predicted = (
        expected.weights,
        expected.adapter_and_optimizer,
        expected.activations,
        expected.head + expected.workspace,
        expected.total,
    )
    names = ("weights", "adapter and optimiser", "activations", "head and workspace", "together")
    return {
        name: {"predicted": a, "measured": b}
        for name, a, b in zip(names, predicted, measured, strict=True)
    }
