"""Everything that can go wrong with a run, looked at before the first update.

``check`` scores real examples: that the fast scores are the true ones, that policy and reference
are equal at the start (loss = ln 2), that gradients flow and the largest micro-batch fits. A run
that fails stops here, in words.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from peft import PeftModel

from dpo_lite.data.expected import expected, expected_answers
from dpo_lite.data.packing import Encoded
from dpo_lite.data.tokens import encoder_of
from dpo_lite.errors import UserError
from dpo_lite.jobs.preflight_ppo import Drawing, rollout_seconds, try_rollout
from dpo_lite.memory.capacity import passes, peak_memory
from dpo_lite.memory.of_model import apply_plan, costs_here, fullest, plan_here
from dpo_lite.memory.plan import MemoryPlan, predict
from dpo_lite.memory.trial import Trial, settle
from dpo_lite.model import roles
from dpo_lite.model.base import compute_dtype, count_4bit
from dpo_lite.model.dry_run import kept_bytes
from dpo_lite.model.heads import head_is_zero
from dpo_lite.model.scoring import (
    ScoringChoice,
    batch_tokens,
    causal_lm,
    choose_way,
    lay_out,
)
from dpo_lite.objectives.preference import loss_at_start
from dpo_lite.recipe import Recipe
from dpo_lite.report.words import clock
from dpo_lite.training.loaded import Loaded
from dpo_lite.training.ppo import rollouts
from dpo_lite.training.reward_model import check_margins
from dpo_lite.training.update import Objective, update_gradient

# Policy and reference run the same kernels on the same weights; what is left is rounding.
IDENTITY_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-3}


@dataclass(frozen=True)
class Report:
    """What the preflight found out, as facts; ``lines`` puts them into words."""

    task: str
    objective: str
    reference: str
    linear_4bit: int
    trained: int
    total: int
    scoring: ScoringChoice
    plan: MemoryPlan
    trial: Trial
    expected: MemoryPlan  # the first plan's prediction for the tokens of the trial
    start_loss: float | None  # None where the policy starts apart from its reference
    fresh_head: bool  # a reward model's: still zero
    seconds_per_update: float  # the reference's numbers computed
    updates: int
    updates_cached: int  # those that find the reference's numbers in the cache
    drawing: Drawing | None = None  # of PPO, whose updates are rollouts

    @property
    def seconds(self) -> float:
        """Of all updates."""
        choice, layers = self.plan.choice, self.plan.layers
        share = passes(choice, layers, cached=True) / passes(choice, layers)
        return self.seconds_per_update * (self.updates - self.updates_cached * (1 - share))

    def lines(self) -> list[str]:
        held = f"{self.linear_4bit} layers in 4 bits (NF4)" if self.linear_4bit else "16-bit base"
        reference, start = self._before()
        plan, mib = self.plan, 2**20
        return [
            f"model      {held}, {self.trained:,} trained of {self.total:,} parameters "
            f"({self.trained / self.total:.1%}), adapter in fp32",
            f"objective  {self.objective}",
            f"reference  {reference}",
            f"step 0     {start}",
            f"scoring    {self.scoring.reason} (checked: differs by "
            f"{self.scoring.difference:.0e} per token)",
            f"memory     {plan.total / mib:,.0f} MiB predicted: weights "
            f"{plan.weights / mib:,.0f}, adapter {plan.adapter_and_optimizer / mib:,.0f}, "
            f"activations {plan.activations / mib:,.0f}, head {plan.head / mib:,.0f}, workspace "
            f"{plan.workspace / mib:,.0f}",
            f"split      {plan.words()}",
            *([f"drawing    {self.drawing.words}"] if self.drawing else []),
            f"time       {self.updates:,} {'rollouts' if self.drawing else 'updates'}, about "
            f"{clock(self.seconds_per_update)} each, {clock(self.seconds)} in all"
            + (", later epochs without the reference" if self.updates_cached else ""),
        ]

    def _before(self) -> tuple[str, str]:
        """The reference, and how the policy stands to it before the first update."""
        loss = self.start_loss
        if self.task == "sft":
            return "none: demonstrations are learned, nothing is compared", (
                f"loss {loss:.4f} per response token of the longest examples "
                f"(perplexity {math.exp(min(loss, 50)):,.0f})"
            )
        if self.task == "reward":
            at_zero = "all rewards 0" if self.fresh_head else "it goes on with a trained head"
            return "none: rewards are a head's own numbers", f"loss {loss:.4f}, {at_zero}"
        if self.task == "ppo" and loss is not None:
            return self.reference, "the KL of drawn answers is 0: policy equals reference"
        if loss is None:
            return self.reference, "policy starts apart from the reference (reference: base)"
        return self.reference, f"loss {loss:.4f}, all rewards 0: policy equals reference"


def check(
    loaded: Loaded, say: Callable[[str], None] = lambda text: None
) -> tuple[Report, Objective]:
    """Run the preflight on a loaded model. Raises UserError in words where a run must not start."""
    recipe, model, train = loaded.recipe, loaded.model, loaded.data.train
    _check_responses(recipe, loaded.data.report.responses)
    if recipe.task == "reward":
        for name, rows in {"data.train": train, **loaded.data.evals}.items():
            check_margins(name, rows)
    say("checking the scores of packed rows against separate ones")
    few, lengths = expected(recipe, loaded.data)
    on_policy = recipe.task == "ppo"
    choice = choose_way(model, few)
    dtype = compute_dtype(model.device)
    objective = Objective.of(recipe, choice.way, dtype)
    # What is measured of PPO is the gradient of drawn answers' likelihood: as large as its own.
    measured = replace(objective, task="sft") if on_policy else objective

    longest = int(lengths.whole.max())  # a prompt with one response
    lengths = lengths.of_batch(shared=choice.way == "forest")
    say("measuring what an update keeps in memory")
    costs = costs_here(model, few, choice.way)
    say("trying one update with the longest examples")
    longest_first = np.argsort(-lengths, kind="stable")[: recipe.examples_per_step]
    largest = [train[index] for index in longest_first.tolist()]
    if on_policy:
        largest = expected_answers(recipe, largest)

    def choose(factor: float) -> MemoryPlan:
        return plan_here(model, costs, recipe, lengths, factor)

    def attempt(plan: MemoryPlan) -> Trial | None:
        apply_plan(model, plan)
        trial = _attempt(model, fullest(largest, plan.budget, choice.way), measured, plan)
        if trial is None:  # cleared out here, where no traceback holds the activations any more
            model.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
        return trial

    planned = choose(1.0)
    plan, trial = settle(costs, choose, attempt)
    apply_plan(model, plan)
    if recipe.task == "dpo" and not recipe.starts_apart:
        check_identity(trial.loss, objective, fullest(largest, plan.budget, choice.way))

    average = float(lengths.mean()) * min(recipe.train.batch_size, len(lengths))
    seconds, drawing = trial.seconds * average / trial.tokens, None
    if on_policy:
        say("drawing answers for one rollout")
        prompts = list(train.select(range(min(recipe.train.batch_size, len(train)))))
        encoder = encoder_of(loaded.tokenizer, recipe.data)
        drawing = try_rollout(model, recipe, prompts, encoder, objective, plan, longest)
        gradient = trial.seconds * drawing.tokens / trial.tokens
        seconds = rollout_seconds(model, recipe, gradient, drawing)

    cached = recipe.train.reference_cache and recipe.task == "dpo"
    per_epoch = math.ceil(len(train) / recipe.train.batch_size)
    updates = recipe.train.max_steps or math.ceil(per_epoch * recipe.train.epochs)
    if on_policy:
        updates = rollouts(recipe, len(train))
    report = Report(
        task=recipe.task,
        objective=recipe.objective,
        reference="none" if recipe.task == "reward" else roles.reference_name(model),
        linear_4bit=count_4bit(model),
        trained=costs.trained,
        total=causal_lm(model).num_parameters(),
        scoring=choice,
        plan=plan,
        trial=trial,
        expected=predict(costs, planned.choice, trial.tokens),
        start_loss=None if recipe.starts_apart and recipe.task in ("dpo", "ppo") else trial.loss,
        fresh_head=head_is_zero(model),
        seconds_per_update=seconds,
        updates=updates,
        updates_cached=max(updates - per_epoch, 0) if cached else 0,
        drawing=drawing,
    )
    return report, objective


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


def _attempt(
    model: PeftModel, examples: list[Encoded], objective: Objective, plan: MemoryPlan
) -> Trial | None:
    """One update on the examples, measured and thrown away; None where memory runs out.

    Without the reference cache: the step-0 identity compares policy and reference in one batch,
    where rounding cancels; a remembered number could hide a wrong reference.
    """
    device = model.device
    on_card = device.type == "cuda"
    tokens = sum(batch_tokens(example, objective.way) for example in examples)
    try:
        update_gradient(model, examples[:1], objective, plan.budget)  # kernels warm up here
        model.zero_grad(set_to_none=True)
        if on_card:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats(device)
        started = time.perf_counter()
        outcome = update_gradient(model, examples, objective, plan.budget)
        if on_card:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        peak = peak_memory(device) if on_card else None
        kept = None
        if plan.choice.recompute == "none":
            batch = lay_out(examples, objective.way).to(device)
            kept = kept_bytes(model, batch, objective.dtype, objective.way)
    except torch.OutOfMemoryError:
        return None
    norms = [p.grad.norm().item() for p in roles.trainable_parameters(model) if p.grad is not None]
    model.zero_grad(set_to_none=True)
    if not sum(norms) > 0:
        raise UserError(
            "The adapter gets no gradient, so nothing would be learned; check adapter.targets."
        )
    return Trial(outcome.loss, seconds, tokens, peak, kept)


def _check_responses(recipe: Recipe, responses: dict[str, int]) -> None:
    """The number of responses must suit the task and the loss."""
    if recipe.task in ("sft", "ppo"):  # data.pairs left one an example, or none
        return
    fewest, most = responses["fewest"], responses["most"]
    if fewest < 2:
        raise UserError(
            f"data.train holds single responses; task: {recipe.task} needs at least two per prompt,"
            " one preferred. To learn from them as they are set task: sft."
        )
    if most > 2 and recipe.train.loss != "plackett_luce":
        raise UserError(
            f"data.train holds {most} responses per prompt; set train.loss=plackett_luce, or "
            "data.pairs=best_worst to make pairs."
        )
