"""The plan of a loaded model: measured on short examples, chosen for this machine, applied."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from peft import PeftModel

from dpo_lite.data.packing import Encoded
from dpo_lite.memory.capacity import free_memory
from dpo_lite.memory.plan import MemoryPlan, choose_plan, largest_update
from dpo_lite.model import roles
from dpo_lite.model.device_memory import told
from dpo_lite.model.dry_run import Costs, costs_of_model
from dpo_lite.model.forest_verdict import forest_verdict
from dpo_lite.model.host_embedding import park_embedding, return_embedding
from dpo_lite.model.precision import dtype_of
from dpo_lite.model.recompute import recompute
from dpo_lite.model.scoring import (
    Way,
    causal_lm,
    laid_out_tokens,
    micro_batches,
    shortened,
)
from dpo_lite.model.tiles import in_tiles
from dpo_lite.recipe import Recipe

MEASURED = 64  # tokens of a prompt or response by which memory per token is measured


def plan_run(
    model: PeftModel, recipe: Recipe, examples: list[Encoded], way: Way, lengths: np.ndarray
) -> MemoryPlan:
    """The plan for a loaded model on this machine, by what it keeps of these examples."""
    costs, memory = costs_here(model, examples, way), free_memory(model.device)
    most = largest_update(lengths, recipe.examples_per_step)
    return choose_plan(costs, recipe, int(lengths.max()), memory, most)


def apply_plan(model: PeftModel, plan: MemoryPlan) -> None:
    """Make the model do what the plan gives up."""
    recompute(model, plan.choice.recompute, plan.choice.recomputed)
    tile(model, plan.choice.tile)
    move = park_embedding if plan.choice.embeddings == "cpu" else return_embedding
    move(causal_lm(model))
    model.train()


def tile(model: PeftModel, tokens: int) -> None:
    """Let what acts on single tokens in a layer do so many at a time; 0: all of them."""
    lm = causal_lm(model)
    in_tiles(model, tokens, forest_verdict(lm.config, lm).per_token if tokens else ())


def costs_here(model: PeftModel, examples: list[Encoded], way: Way) -> Costs:
    """What an update of the model keeps, measured on short parts of the examples.

    Per token it does not grow with the length, and before there is a plan nothing is recomputed, so
    whole examples might not fit. Raises UserError where not even these do.
    """
    short = shortened(examples, MEASURED, responses=2)
    with told(
        f"{laid_out_tokens(short, way)} tokens through two of the model's layers, by which an "
        "update's memory is measured",
        "take a smaller base, or free the card of other programs",
    ):
        costs = costs_of_model(model, dtype_of(model), short, way)
    if roles.VALUE not in model.peft_config:
        return costs
    # The value function is trained beside the policy, but its gradient comes after the policy's.
    value = sum(p.numel() for p in roles.parameters(model, roles.VALUE))
    return replace(costs, trained=costs.trained + value, weights=costs.weights - 4 * value)


def fullest(examples: list[Encoded], budget: int, way: Way) -> list[Encoded]:
    """The micro-batch with most tokens of the update of these examples."""
    batches = [[examples[i] for i in part] for part in micro_batches(examples, way, budget)]
    return max(batches, key=lambda part: laid_out_tokens(part, way))
