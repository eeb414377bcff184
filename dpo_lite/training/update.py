"""One update's gradient: exact, whatever the split into micro-batches.

The loss is the sum over the update's examples divided by their number. Each micro-batch adds its
share to the gradient, so how examples are split and packed changes nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch

from dpo_lite.data.packing import Encoded
from dpo_lite.model.scoring import micro_batches
from dpo_lite.training.method import Objective


def joined(parts: Sequence[Any]) -> Any:
    """Put scored micro-batches together, examples back in the order of the input."""
    order = [index for part in parts for index in part.order]
    back = torch.tensor(sorted(range(len(order)), key=order.__getitem__))
    kind = type(parts[0])
    names = [f.name for f in fields(kind) if f.name != "order"]
    values = {name: torch.cat([getattr(p, name) for p in parts])[back] for name in names}
    return kind(**values, order=sorted(order))


def update_gradient(
    model: torch.nn.Module,
    examples: Sequence[Encoded],
    objective: Objective,
    budget: int,
    references: Any = None,
    scale: float = 1.0,
) -> Any:
    """Add the gradient of the mean loss over ``examples`` to the policy's parameters.

    ``budget`` is the number of tokens per micro-batch. Gradients must be zero or None before.
    What ``references`` remembers is not computed again. ``scale``: of the gradient, not of what is
    returned; a power of two, so that nothing is rounded (dpo_lite.training.loss_scale).
    """
    parts = []
    method = objective.method
    over = method.over(examples) / scale
    for indices in micro_batches(examples, objective.way, budget):
        batch_examples = [examples[i] for i in indices]
        part = method.score(model, batch_examples, objective, references, over)
        part.order = indices
        parts.append(part)
    return joined(parts)


@torch.no_grad()
def evaluate_examples(
    model: torch.nn.Module,
    examples: Sequence[Encoded],
    objective: Objective,
    budget: int,
    progress=lambda count: None,
    references: Any = None,
) -> Any:
    """Score examples without gradients; calls ``progress(number of examples)`` as it goes."""
    was_training = model.training
    model.eval()
    try:
        parts = []
        for indices in micro_batches(examples, objective.way, budget):
            part = objective.method.score(
                model, [examples[i] for i in indices], objective, references
            )
            part.order = indices
            parts.append(part)
            progress(len(indices))
        return joined(parts)
    finally:
        model.train(was_training)
