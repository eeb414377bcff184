"""Everything that can go wrong with a run, looked at before the first update.

``check`` scores real examples: that the fast scores are the true ones, that policy and reference
are equal at the start (loss = ln 2), that gradients flow and the largest micro-batch fits. A run
that fails stops here, in words.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from peft import PeftModel

from dpo_lite.data.packing import Encoded
from dpo_lite.data.prepare import PreparedData
from dpo_lite.errors import UserError
from dpo_lite.model import roles
from dpo_lite.model.base import (
    compute_dtype,
    count_4bit,
    load_base,
)
from dpo_lite.model.dry_run import costs_of_model
from dpo_lite.model.scoring import Choice, Way, batch_tokens, causal_lm, choose_way
from dpo_lite.objectives import loss_at_start
from dpo_lite.planning import MemoryPlan, choose_plan, free_memory
from dpo_lite.recipe import Recipe
from dpo_lite.report import clock
from dpo_lite.training.update import Objective, update_gradient

# Policy and reference run the same kernels on the same weights; what is left is rounding.
IDENTITY_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-3}


@dataclass(frozen=True)
class Loaded:
    """What a run needs, in memory."""

    recipe: Recipe
    tokenizer: object
    data: PreparedData
    model: PeftModel


@dataclass(frozen=True)
class Report:
    """What the preflight found out, as facts; ``lines`` puts them into words."""

    reference: str
    linear_4bit: int
    trained: int
    total: int
    scoring: Choice
    plan: MemoryPlan
    start_loss: float | None
    seconds_per_update: float
    updates: int

    def lines(self) -> list[str]:
        plan = self.plan
        held = f"{self.linear_4bit} layers in 4 bits (NF4)" if self.linear_4bit else "16-bit base"
        start = (
            f"loss {self.start_loss:.4f}, all rewards 0: policy equals reference"
            if self.start_loss is not None
            else "policy starts apart from the reference (reference: base)"
        )
        mib = 2**20
        return [
            f"model      {held}, {self.trained:,} trained of {self.total:,} parameters "
            f"({self.trained / self.total:.1%}), adapter in fp32",
            f"reference  {self.reference}",
            f"step 0     {start}",
            f"scoring    {self.scoring.reason} (checked: differs by "
            f"{self.scoring.difference:.0e} per token)",
            f"memory     {plan.total / mib:,.0f} MiB predicted: weights "
            f"{plan.weights / mib:,.0f}, adapter {plan.adapter_and_optimizer / mib:,.0f}, "
            f"activations {plan.activations / mib:,.0f}, head {plan.head / mib:,.0f}; "
            f"{plan.budget:,} tokens per micro-batch"
            + (", checkpointed" if plan.checkpointing else ""),
            f"time       {self.updates:,} updates, about {clock(self.seconds_per_update)} each, "
            f"{clock(self.updates * self.seconds_per_update)} in all",
        ]


def load_model(recipe: Recipe) -> PeftModel:
    """The base with the policy's adapter, and the start adapter where it is the reference."""
    base = load_base(recipe.model)
    if recipe.model.adapter:
        model = recipe.model
        return roles.continue_policy(
            base,
            model.adapter,
            recipe.reference,
            model.base,
            recipe.adapter.extra_r,
            recipe.train.seed,
        )
    return roles.add_policy(base, recipe.adapter, recipe.train.seed)


def check(
    loaded: Loaded, say: Callable[[str], None] = lambda text: None
) -> tuple[Report, Objective]:
    """Run the preflight on a loaded model. Raises UserError in words where a run must not start."""
    recipe, model, train = loaded.recipe, loaded.model, loaded.data.train
    _check_responses(recipe, loaded.data.report.responses)
    say("checking the scores of packed rows against separate ones")
    few = loaded.data.few
    choice = choose_way(model, few)
    dtype = compute_dtype(next(model.parameters()).device)
    train_keys = recipe.train
    objective = Objective(
        train_keys.loss, train_keys.beta, choice.way, dtype, train_keys.sft_weight
    )

    lengths = loaded.data.lengths.of_batch(shared=choice.way == "forest")
    longest = int(lengths.max())
    plan = plan_run(model, recipe, few, choice.way, longest)
    if plan.checkpointing:
        causal_lm(model).gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
    say("trying one update with the longest examples")
    probe = _probe_examples(train, lengths, plan.budget, recipe.train.batch_size)
    start_loss, seconds = _probe(model, probe, objective, plan.budget)
    apart = recipe.reference == "base" and recipe.model.adapter is not None
    if not apart:
        check_identity(start_loss, objective, probe)

    updates = recipe.train.max_steps or math.ceil(
        math.ceil(len(train) / recipe.train.batch_size) * recipe.train.epochs
    )
    average = float(lengths.mean()) * min(recipe.train.batch_size, len(lengths))
    report = Report(
        reference=roles.reference_name(model),
        linear_4bit=count_4bit(model),
        trained=sum(p.numel() for p in roles.trainable_parameters(model)),
        total=causal_lm(model).num_parameters(),
        scoring=choice,
        plan=plan,
        start_loss=None if apart else start_loss,
        seconds_per_update=seconds * average / sum(batch_tokens(e, choice.way) for e in probe),
        updates=updates,
    )
    return report, objective


def plan_run(
    model: PeftModel, recipe: Recipe, examples: list[Encoded], way: Way, longest: int
) -> MemoryPlan:
    """The plan for a loaded model on this machine, by what it keeps of these examples."""
    device = next(model.parameters()).device
    costs = costs_of_model(model, compute_dtype(device), examples, way)
    return choose_plan(costs, recipe.train, longest, free_memory(device))


def check_identity(loss: float, objective: Objective, examples: list[Encoded]) -> None:
    """At step 0 policy and reference are equal, so the loss is known. Else the reference is wrong.

    The loss is ln 2 = 0.6931 for DPO whatever the data, since all implicit rewards are zero.
    """
    sizes = [len(example["response_ids"]) for example in examples]
    expected = sum(loss_at_start(objective.loss, k, objective.beta) for k in sizes) / len(sizes)
    tolerance = IDENTITY_TOLERANCE[objective.dtype] * max(1.0, expected)
    if not abs(loss - expected) <= tolerance:
        raise UserError(
            f"Before the first update the loss is {loss:.6f}, not {expected:.6f}: policy and "
            "reference differ although nothing was trained, so the reference is wrong; check "
            "`reference` and `model.adapter`."
        )


def _probe(
    model: PeftModel, examples: list[Encoded], objective: Objective, budget: int
) -> tuple[float, float]:
    """Loss and seconds of one update on the examples, which is then thrown away.

    Without the reference cache: the step-0 identity compares policy and reference in one batch,
    where rounding cancels; a remembered number could hide a wrong reference.
    """
    device = next(model.parameters()).device
    update_gradient(model, examples[:1], objective, budget)  # kernels warm up here
    model.zero_grad(set_to_none=True)
    started = time.perf_counter()
    try:
        outcome = update_gradient(model, examples, objective, budget)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"The longest examples do not fit in the GPU's memory with {budget} tokens per "
            "micro-batch; lower train.token_budget or data.max_length, or set "
            "train.checkpointing=true."
        ) from error
    if device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    norms = [p.grad.norm().item() for p in roles.trainable_parameters(model) if p.grad is not None]
    model.zero_grad(set_to_none=True)
    if not sum(norms) > 0:
        raise UserError(
            "The adapter gets no gradient, so nothing would be learned; check adapter.targets."
        )
    return outcome.losses.mean().item(), seconds


def _probe_examples(train, lengths: np.ndarray, budget: int, batch_size: int) -> list[Encoded]:
    """The longest examples, as many as fit in one micro-batch and in one update."""
    chosen, used = [], 0
    for index in np.argsort(-lengths, kind="stable")[:batch_size].tolist():
        if chosen and used + lengths[index] > budget:
            break
        chosen.append(train[index])
        used += int(lengths[index])
    return chosen


def _check_responses(recipe: Recipe, responses: dict[str, int]) -> None:
    """The number of responses must suit the loss."""
    fewest, most = responses["fewest"], responses["most"]
    if fewest < 2:
        raise UserError(
            "data.train holds single responses; DPO needs at least two per prompt, one preferred."
        )
    if most > 2 and recipe.train.loss != "plackett_luce":
        raise UserError(
            f"data.train holds {most} responses per prompt; set train.loss=plackett_luce, or "
            "data.pairs=best_worst to make pairs."
        )
