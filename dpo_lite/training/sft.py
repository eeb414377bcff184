"""Supervised fine-tuning: the same rows with one response each, and its likelihood as the loss.

The mean of -log pi(token) over all response tokens of the update, as every SFT trainer has it, so
long answers weigh more than short ones. There is no reference and nothing to compare with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftModel

from dpo_lite.data.packing import Encoded
from dpo_lite.model import roles
from dpo_lite.model.scoring import Way, lay_out, response_logps, scoring_context
from dpo_lite.recipe import Recipe
from dpo_lite.training.method import Objective
from dpo_lite.training.offline import Offline
from dpo_lite.training.update import scored_parts


@dataclass
class Demonstrated:
    """Log-probability (E,) and length (E,) in tokens of each example's response, on the CPU."""

    logps: torch.Tensor
    lengths: torch.Tensor
    order: list[int] = field(default_factory=list)  # places of the examples in the input

    @property
    def loss(self) -> float:
        """Nats per token."""
        return -self.logps.sum().item() / self.lengths.sum().item()

    def metrics(self) -> dict[str, float]:
        return {
            "loss": self.loss,
            "perplexity": math.exp(min(self.loss, 50.0)),
            "logps/chosen": self.logps.mean().item(),
        }


def score_demonstrations(
    model: torch.nn.Module,
    examples: Sequence[Encoded],
    way: Way,
    dtype: torch.dtype,
    backward_over: float | None = None,
    role: Callable[[torch.nn.Module], AbstractContextManager] = roles.policy,
) -> Demonstrated:
    """Score one micro-batch; with ``backward_over`` = n tokens also backward of the sum / n."""
    batch = lay_out(examples, way).to(model.device)
    with scoring_context(model, batch, dtype), role(model):
        logps = response_logps(model, batch, way)
        if backward_over is not None:
            (-logps.sum() / backward_over).backward()
    return Demonstrated(logps.detach().cpu(), batch.response_lengths.cpu())


def response_tokens(examples: Sequence[Encoded]) -> int:
    return sum(len(ids) for example in examples for ids in example["response_ids"])


@torch.no_grad()
def reference_loss(
    model: torch.nn.Module, examples: Sequence[Encoded], objective: Objective, budget: int
) -> float:
    """Loss per token of the demonstrations under the model as it was before the training."""
    way, dtype = objective.way, objective.dtype
    parts = scored_parts(
        model,
        examples,
        way,
        budget,
        lambda some: score_demonstrations(model, some, way, dtype, role=roles.reference),
    )
    total = sum(part.logps.sum().item() for part in parts)
    return -total / response_tokens(examples)


class SFT(Offline):
    def over(self, examples: Sequence[Encoded]) -> int:
        return response_tokens(examples)

    def score(
        self,
        model: torch.nn.Module,
        examples: Sequence[Encoded],
        objective: Objective,
        references: Any = None,
        backward_over: float | None = None,
    ) -> Demonstrated:
        return score_demonstrations(model, examples, objective.way, objective.dtype, backward_over)

    def before(self, recipe: Recipe, model: PeftModel, loss: float) -> tuple[str, str]:
        return "none: demonstrations are learned, nothing is compared", (
            f"loss {loss:.4f} per response token of the longest examples "
            f"(perplexity {math.exp(min(loss, 50)):,.1f})"
        )

    def measured_beside(
        self,
        model: torch.nn.Module,
        rows: Sequence[Encoded],
        objective: Objective,
        budget: int,
        outcome: Demonstrated,
    ) -> dict[str, Any]:
        return {"reference_loss": reference_loss(model, rows, objective, budget)}
