"""What a run took of the memory, part by part, beside what the plan said."""

from __future__ import annotations

import torch
from peft import PeftModel

from dpo_lite.memory.capacity import memory_in_use, peak_memory
from dpo_lite.memory.parts import ACTIVATIONS, ADAPTER, LIBRARIES, REST, TOGETHER, WEIGHTS
from dpo_lite.memory.plan import MemoryPlan
from dpo_lite.memory.trial import Trial
from dpo_lite.model.dry_run import Costs
from dpo_lite.model.weights import nbytes

Parts = dict[str, dict[str, int | None]]


def libraries_in_use(costs: Costs, device: torch.device) -> int | None:
    """Bytes of this process that are none of the plan's: Python, its libraries, the data's tables.

    Asked before the first update, when the weights and the adapter's masters are there and nothing
    else of the plan is. None on a card, whose allocator holds nothing but the plan's.
    """
    if device.type == "cuda":
        return None
    return max(memory_in_use() - costs.weights - 4 * costs.trained, 0)


def memory_by_part(
    expected: MemoryPlan,
    trial: Trial,
    libraries: int | None,
    model: PeftModel,
    optimizer: torch.optim.Optimizer,
) -> Parts:
    """Bytes by part: ``predicted`` for the largest micro-batch before it ran, and ``measured``.

    None where a part cannot be measured: what a product needs for a moment shows only in the peak
    of a card, and what is kept only where nothing is recomputed. Without a card the whole process
    is what is measured together, so what is predicted of it has the ``libraries`` in it.
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
    peak, rest = peak_memory(device), None
    if libraries is None and trial.activations is not None:
        rest = peak - weights - adapter - trial.activations
    rows: dict[str, tuple[int | None, int | None]] = {
        WEIGHTS: (expected.weights, weights),
        ADAPTER: (expected.adapter_and_optimizer, adapter),
        ACTIVATIONS: (expected.activations, trial.activations),
        REST: (expected.head + expected.workspace, rest),
    }
    if libraries is not None:
        rows[LIBRARIES] = (None, libraries)
    rows[TOGETHER] = (expected.total + (libraries or 0), peak)
    return {name: {"predicted": a, "measured": b} for name, (a, b) in rows.items()}
