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

from dpo_lite.data.packing import Encoded
from dpo_lite.errors import UserError, memory_ran_out
from dpo_lite.memory.accounting import libraries_in_use
from dpo_lite.memory.capacity import free_memory, passes, peak_memory
from dpo_lite.memory.of_model import apply_plan, costs_here, fullest
from dpo_lite.memory.plan import MemoryPlan, choose_plan, largest_update, predict
from dpo_lite.memory.trial import Trial, settle
from dpo_lite.model import roles
from dpo_lite.model.base import count_4bit
from dpo_lite.model.choosing import ScoringChoice, choose_way
from dpo_lite.model.device_memory import release
from dpo_lite.model.divided import NO_ROOM, divided
from dpo_lite.model.dry_run import Costs
from dpo_lite.model.fresh import left_out
from dpo_lite.model.hybrid_forest import missing_packages
from dpo_lite.model.kept_bytes import kept_bytes
from dpo_lite.model.precision import dtype_of, to_fp32
from dpo_lite.model.scoring import Way, causal_lm, laid_out_tokens, lay_out
from dpo_lite.model.weights import Held
from dpo_lite.report.words import clock, counted
from dpo_lite.tasks import TASKS
from dpo_lite.training import ranks
from dpo_lite.training.loss_scale import LossScale, all_finite
from dpo_lite.training.method import Loaded, Method, Objective, Rehearsal
from dpo_lite.training.update import update_gradient

Say = Callable[[str], None]


@dataclass(frozen=True)
class Report:
    """What the preflight found out, as facts; ``lines`` puts them into words."""

    task: str
    objective: str
    reference: str  # which one
    before: tuple[str, str]  # the reference, and the policy before the first update, in words
    linear_4bit: int
    held: Held  # which weights are in 4 bits
    left_out: str | None  # which layers have no adapter that one might think have
    trained: int
    total: int
    scoring: ScoringChoice
    plan: MemoryPlan
    trial: Trial
    expected: MemoryPlan  # the first plan's prediction for the tokens of the trial
    libraries: int | None  # bytes of the process beside the plan's; None on a card
    start_loss: float | None  # None where the policy starts apart from its reference
    seconds_per_update: float  # the reference's numbers computed
    updates: int
    updates_cached: int  # those that find the reference's numbers in the cache
    rehearsal: Rehearsal | None = None  # what an update does besides a gradient
    faster: tuple[str, ...] = ()  # packages whose kernels the model would use on this card
    processes: int = 1  # that train together
    divided: bool = False  # whether the base's weights are, over these

    @property
    def seconds(self) -> float:
        """Of all updates."""
        choice, layers = self.plan.choice, self.plan.layers
        beside = TASKS[self.task].mechanics.passes_beside
        share = passes(choice, layers, True, beside) / passes(choice, layers, False, beside)
        return self.seconds_per_update * (self.updates - self.updates_cached * (1 - share))

    def lines(self) -> list[str]:
        reference, start = self.before
        plan, mib = self.plan, 2**20
        beside = self.libraries or 0
        libraries = f"Python and libraries {beside / mib:,.0f}, " if beside else ""
        return [
            f"model      {self.held.words()}",
            f"adapter    {self.trained:,} trained of {self.total:,} parameters "
            f"({self.trained / self.total:.1%}), in fp32"
            + (f"; {self.left_out}" if self.left_out else ""),
            f"objective  {self.objective}",
            f"reference  {reference}",
            f"step 0     {start}",
            f"scoring    {self.scoring.reason} (differs by "
            f"{self.scoring.difference:.0e} per token)",
            *([self._kernels()] if self.faster else []),
            f"memory     {(plan.total + beside) / mib:,.0f} MiB planned: {libraries}weights "
            f"{plan.weights / mib:,.0f}, adapter {plan.adapter_and_optimizer / mib:,.0f}, "
            f"activations {plan.activations / mib:,.0f}, head {plan.head / mib:,.0f}, workspace "
            f"{plan.workspace / mib:,.0f}",
            f"split      {plan.words()}",
            *([self._together()] if self.processes > 1 else []),
            *([f"drawing    {self.rehearsal.words}"] if self.rehearsal else []),
            f"time       {counted(self.updates, TASKS[self.task].unit)} of about "
            f"{clock(self.seconds_per_update)}, {clock(self.seconds)} in all"
            + (" (the reference in the first epoch only)" if self.updates_cached else ""),
        ]

    def _together(self) -> str:
        divided = f" and 1/{self.processes} of the base's weights" if self.divided else ""
        return (
            f"processes  {self.processes}, each with its share of an update's examples{divided}; "
            "memory and split are those of the card with the least room"
        )

    def _kernels(self) -> str:
        """transformers says so too, where it is not kept quiet (dpo_lite.quiet)."""
        return (
            "kernels    its recurrent layers and convolutions run on PyTorch's own operations, "
            f"right but slow; `pip install {' '.join(self.faster)}` makes them faster"
        )


def check(loaded: Loaded, say: Say = lambda text: None) -> tuple[Report, Objective]:
    """Run the preflight on a loaded model. Raises UserError in words where a run must not start."""
    recipe, model, train = loaded.recipe, loaded.model, loaded.data.train
    method = TASKS[recipe.task].mechanics
    method.check_data(recipe, loaded.data)
    say("checking the scores of packed rows against separate ones")
    few, lengths = method.expected(recipe, loaded.data)
    scoring = ranks.each(lambda: choose_way(model, few))
    _check_alike(scoring, dtype_of(model))
    objective = Objective.of(recipe, scoring.way, dtype_of(model))
    tokens = lengths.of_batch(shared=scoring.way == "forest")
    say("measuring what an update keeps in memory")
    costs = _costs(model, few, scoring.way)
    libraries = libraries_in_use(costs, model.device)
    say("trying one update with the longest examples")
    largest = _largest_update(loaded, method, tokens)
    try:
        tried = _try_update(loaded, method.measured(objective), costs, tokens, largest)
    except Overflow:
        say("fp16 does not hold the gradient, however the loss is scaled: trying in fp32")
        to_fp32(model)
        objective = replace(objective, dtype=torch.float32)
        costs = _costs(model, few, scoring.way)
        tried = _try_update(loaded, method.measured(objective), costs, tokens, largest)
    planned, plan, trial = tried
    batch = fullest(largest, plan.budget, scoring.way)
    method.check_start(recipe, objective, trial.loss, batch)

    average = float(tokens.mean()) * min(recipe.train.batch_size, len(tokens)) / ranks.count()
    seconds, rehearsal = trial.seconds * average / trial.tokens, None
    longest = int(lengths.whole.max())  # a prompt with one response
    if rehearsed := method.rehearse(loaded, objective, plan, trial, longest, say):
        seconds, rehearsal = rehearsed
    compares = method.compares(recipe)
    updates = method.updates(recipe, len(train))
    per_epoch = math.ceil(len(train) / recipe.train.batch_size)
    cached = recipe.train.reference_cache and method.caches_reference(recipe)
    report = Report(
        task=recipe.task,
        objective=recipe.objective,
        reference=method.reference_name(recipe, model),
        before=method.before(recipe, model, trial.loss),
        linear_4bit=count_4bit(model),
        held=costs.held,
        left_out=left_out(causal_lm(model), recipe),
        trained=costs.trained,
        total=costs.held.total + costs.trained,
        scoring=scoring,
        plan=plan,
        trial=trial,
        expected=predict(costs, planned.choice, trial.tokens),
        libraries=libraries,
        start_loss=None if recipe.starts_apart and compares else trial.loss,
        seconds_per_update=seconds,
        updates=updates,
        updates_cached=max(updates - per_epoch, 0) if cached else 0,
        rehearsal=rehearsal,
        faster=tuple(missing_packages(causal_lm(model))) if model.device.type == "cuda" else (),
        processes=ranks.count(),
        divided=divided(),
    )
    return report, objective


def _check_alike(scoring: ScoringChoice, dtype: torch.dtype) -> None:
    """Cards that compute in other ways or numbers would train another model on each of them."""
    found = sorted({f"{way} rows in {kind}" for way, kind in ranks.gathered((scoring.way, dtype))})
    if len(found) > 1:
        raise UserError(
            f"The cards of this launch score in different ways ({'; '.join(found)}); launch it on"
            " cards of one kind."
        )


def _costs(model: PeftModel, examples: list[Encoded], way: Way) -> Costs:
    """What an update keeps, as the first process measured it: all of them plan by one measure."""
    return ranks.gathered(ranks.each(lambda: costs_here(model, examples, way)))[0]


def _share(loaded: Loaded) -> int:
    """How many examples of an update a process has about."""
    return math.ceil(loaded.recipe.examples_per_step / ranks.count())


class Overflow(Exception):
    """The trial's gradient is not finite in fp16."""


def _largest_update(loaded: Loaded, method: Method, tokens: np.ndarray) -> list[Encoded]:
    """The examples of the update that needs most, as they will be scored: one process' share."""
    longest_first = np.argsort(-tokens, kind="stable")[: _share(loaded)]
    examples = [loaded.data.train[index] for index in longest_first.tolist()]
    return method.answered(loaded.recipe, examples)


def _try_update(
    loaded: Loaded, objective: Objective, costs: Costs, tokens: np.ndarray, largest: list[Encoded]
) -> tuple[MemoryPlan, MemoryPlan, Trial]:
    """The first plan, the one that was tried and stays applied, and its trial.

    Of several processes each tries on its own card, and what does not fit on one is not taken.
    """
    recipe, model = loaded.recipe, loaded.model

    def choose(factor: float) -> MemoryPlan:
        free = ranks.gathered(free_memory(model.device))
        memory = None if None in free else min(free)
        most, longest = largest_update(tokens, _share(loaded)), int(tokens.max())
        return choose_plan(costs, recipe, longest, memory, most, factor)

    def attempt(plan: MemoryPlan) -> Trial | None:
        apply_plan(model, plan)
        batch = fullest(largest, plan.budget, objective.way)
        trial = _least(ranks.gathered(ranks.each(lambda: _attempt(model, batch, objective, plan))))
        if trial is None:  # cleared out here, where no traceback holds the activations any more
            model.zero_grad(set_to_none=True)
            release()
        return trial

    planned = choose(1.0)
    plan, trial = settle(costs, choose, attempt)
    apply_plan(model, plan)
    return planned, plan, trial


def _least(trials: list[Trial | None]) -> Trial | None:
    """What all processes can count on: None where memory ran out on one of their cards."""
    held = [trial for trial in trials if trial is not None]
    if len(held) < len(trials):
        return None
    return max(held, key=lambda trial: (trial.peak or 0, trial.seconds))


def _attempt(
    model: PeftModel, examples: list[Encoded], objective: Objective, plan: MemoryPlan
) -> Trial | None:
    """One update on the examples, measured and thrown away; None where memory runs out.

    Without the reference cache: the step-0 identity compares policy and reference in one batch,
    where rounding cancels; a remembered number could hide a wrong reference.
    """
    device = model.device
    on_card = device.type == "cuda"
    tokens = laid_out_tokens(examples, objective.way)
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
        activations = None
        if plan.choice.recompute == "none":
            batch = lay_out(examples, objective.way).to(device)
            activations = kept_bytes(model, batch, objective.dtype, objective.way)
    except RuntimeError as error:
        if not memory_ran_out(error):
            raise
        if divided():
            raise UserError(NO_ROOM) from error
        return None
    if objective.dtype == torch.float16:
        _scaled(model, examples[:1], objective, plan.budget)
    norms = [p.grad.norm().item() for p in roles.trainable_parameters(model) if p.grad is not None]
    model.zero_grad(set_to_none=True)
    if not sum(norms) > 0:
        raise UserError(
            "The adapter gets no gradient, so nothing would be learned; check adapter.targets."
        )
    return Trial(outcome.loss, seconds, tokens, peak, activations)


def _scaled(model: PeftModel, examples: list[Encoded], objective: Objective, budget: int) -> None:
    """Leave the gradient of the examples at the largest loss scale at which fp16 holds it.

    Raises Overflow where it does at none.
    """
    scale = LossScale().scale
    while scale >= 1:
        model.zero_grad(set_to_none=True)
        update_gradient(model, examples, objective, budget, scale=scale)
        if all_finite([p.grad for p in roles.trainable_parameters(model) if p.grad is not None]):
            return
        scale /= 16
    model.zero_grad(set_to_none=True)
    raise Overflow
