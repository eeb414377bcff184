"""``dpo-lite plan``: will it fit, how is it split, how long will it take; no weights are loaded."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from dpo_lite.data.prepare import PreparedData
from dpo_lite.data.report import held_out_words
from dpo_lite.errors import UserError
from dpo_lite.jobs.launch import check_divided
from dpo_lite.memory.capacity import (
    GIB,
    card,
    free_memory,
    host_memory,
    host_needs,
    seconds_per_epoch,
    speed_here,
)
from dpo_lite.memory.cards import card_named, of_memory
from dpo_lite.memory.longest import longest_example, longest_pair
from dpo_lite.memory.plan import MemoryPlan, advice, bar, choose_plan, largest_update
from dpo_lite.model.base import compute_device, compute_dtype, load_config, position_limit
from dpo_lite.model.dry_run import Costs, costs_of_config, divided
from dpo_lite.model.forest_verdict import forest_verdict
from dpo_lite.recipe import Recipe
from dpo_lite.report.words import clock
from dpo_lite.tasks import TASKS
from dpo_lite.training.recipe_data import load_data

ASSUMED_LENGTH = 1024


@dataclass(frozen=True)
class Forecast:
    plan: MemoryPlan
    costs: Costs
    memory: float | None  # usable bytes; None on a CPU
    advice: list[str]
    epochs: dict[str, tuple[float, float]]  # seconds from best to worst, by card; "" is this one
    notes: list[str]
    longest: MemoryPlan | None = None  # for the longest example that a card has room for
    positions: int | None = None  # of the base; None where it names no limit
    host: dict[str, float] = field(default_factory=dict)  # bytes of RAM by what they are for
    ram: float | None = None  # free bytes of it; None where the plan is for another machine

    @property
    def fits(self) -> bool:
        return self.memory is None or self.plan.total <= self.memory

    def lines(self) -> list[str]:
        """The forecast in words, one line each."""
        plan, usable = self.plan, self.memory
        lines = [
            f"{letter}  {name:<22} {size / GIB:6.2f} GiB"
            for letter, (name, size) in zip("abcde", plan.parts.items(), strict=True)
        ]
        lines.append(f"   {'together':<22} {plan.total / GIB:6.2f} GiB")
        if usable is not None:
            lines += [f"   {'usable on the card':<22} {usable / GIB:6.2f} GiB", ""]
            lines.append(bar(plan.parts.values(), usable))
        lines += ["", plan.words()]
        lines += _ram(self.host, self.ram)
        lines.append(self.costs.held.words())
        lines += _times(self.epochs)
        if self.longest:
            lines += _room(self.longest, self.positions)
        lines.append("it fits" if self.fits else "it does not fit; change one of these:")
        return [*lines, *(f"  - {way}" for way in self.advice), *self.notes]


def _ram(needs: dict[str, float], free: float | None) -> list[str]:
    """What the host's memory must hold beside the card's, and whether it can."""
    whole = sum(needs.values())
    parts = ", ".join(f"{name} {size / GIB:.1f}" for name, size in needs.items())
    of = "" if free is None else f", {free / GIB:.1f} are free"
    lines = [f"RAM: {whole / GIB:.1f} GiB ({parts}){of}"]
    if free is not None and whole > free:
        lines.append(
            f"warning: that is {(whole - free) / GIB:.1f} GiB more RAM than is free; close other"
            " programs, or the system may end the run"
        )
    return lines


def _room(longest: MemoryPlan, positions: int | None) -> list[str]:
    """How long an example may be, and what that takes."""
    words = longest.choice.words(longest.layers)
    on_host = f", {longest.on_host / GIB:.1f} GiB of RAM" if longest.on_host else ""
    if positions is not None and longest.budget >= longest_pair(positions):
        return [f"every pair fits that the base's {positions:,} positions allow"]
    tokens = f"{longest.budget:,} tokens, prompt and responses together"
    return [f"longest example that fits: {tokens} ({words}{on_host})"]


def _times(epochs: dict[str, tuple[float, float]]) -> list[str]:
    """How long an epoch takes, on each card."""
    if not epochs:
        return []
    parts = [
        (f"{clock(best)} to {clock(worst)}" if worst >= 1 else "less than a second")
        + (f" on a {name}" if name else "")
        for name, (best, worst) in epochs.items()
    ]
    return [f"an epoch takes {', '.join(parts)} (35 to 60 % of the card's peak)"]


def forecast(
    recipe: Recipe,
    gpu: str | None = None,
    say: Callable[[str], None] = lambda text: None,
    cards: int = 1,
) -> Forecast:
    """Plan a recipe for this machine, or for a card such as ``3090`` or ``12GB``.

    ``cards``: how many such cards the base's weights are divided over (FSDP2); of each card then.

    Only the base's config is needed. Where the data cannot be had their lengths are assumed, and
    the notes say so. Raises UserError where the base's config or the card is not known.
    """
    method, config = TASKS[recipe.task].mechanics, load_config(recipe.model)
    here = compute_device()
    memory, flops = card(gpu) if gpu else (free_memory(here), speed_here(here))
    dtype = torch.bfloat16 if gpu else compute_dtype(compute_device())
    way = "forest" if forest_verdict(config).fits else "separate"
    notes, tokens, scored, most = [], None, 0, None
    try:
        data = _training_data(recipe, say, notes)
        if data.report.drawn_from:
            notes.append(f"held out: {held_out_words(data.report.evals, data.report.drawn_from)}")
        few, lengths = method.expected(recipe, data)
        lengths = lengths.of_batch(shared=way == "forest")
        longest, tokens = int(lengths.max()), int(lengths.sum())
        most = largest_update(lengths, math.ceil(recipe.examples_per_step / cards))
        scored = int(data.lengths.responses.sum())
    except UserError as error:
        longest = recipe.data.max_length if recipe.data.max_length != "auto" else ASSUMED_LENGTH
        few = method.assumed(recipe, longest)
        longest = len(few[0]["prompt_ids"]) + sum(map(len, few[0]["response_ids"]))
        notes.append(
            f"the data could not be had, so pairs of {longest:,} tokens are assumed and no time "
            f"is told: {error}"
        )
    say(f"running {recipe.model.base} without data")
    on_card = memory is not None
    costs = costs_of_config(config, recipe, dtype, few, way, fuse=on_card)
    if cards > 1:
        check_divided(recipe)
        notes.append(_divided_words(costs, cards))
        costs = divided(costs, cards)
    costs = with_adapters_beside(costs, recipe)
    plan = choose_plan(costs, recipe, longest, memory, most)
    ways = advice(plan, costs, recipe, memory) if on_card else []
    epochs = {}
    if method.untimed:
        notes.append(f"no time is told: {method.untimed}")
    elif tokens and cards == 1:
        speeds = {"": flops} if flops else {name: card(name)[1] for name in _alike(gpu)}
        epochs = {
            name: seconds_per_epoch(costs, plan.choice, tokens, scored, speed, method.passes_beside)
            for name, speed in speeds.items()
        }
        if gpu and not epochs and cards == 1:
            notes.append(f"no time is told: the speed of {gpu} in bf16 is not known")
    positions = position_limit(config)
    room = longest_example(costs, recipe, memory, longest_pair(positions)) if on_card else None
    host, ram = host_needs(plan, costs, on_card), None if gpu else host_memory()
    return Forecast(plan, costs, memory, ways, epochs, notes, room, positions, host, ram)


def _divided_words(costs: Costs, cards: int) -> str:
    return (
        f"{cards} cards, weights divided: each holds 1/{cards} of {costs.weights / GIB:.1f} GiB and"
        f" gathers {costs.gathered / GIB:.1f} GiB at a time; no time is told, for that hangs on"
        f" what joins the cards; while it loads, {cards * costs.weights / GIB:.0f} GiB of RAM"
    )


def _alike(gpu: str | None) -> list[str]:
    """Cards to tell the time of where the one asked for is a memory alone."""
    gib, _, name = card_named(gpu) if gpu else (0, None, None)
    return [] if name else of_memory(gib)


def _training_data(recipe: Recipe, say: Callable[[str], None], notes: list[str]) -> PreparedData:
    """The data, also where those held out, which the plan does not need, cannot be had."""
    try:
        return load_data(recipe, say)[1]
    except UserError as error:
        if recipe.data.eval is None:
            raise
        alone = recipe.model_copy(update={"data": recipe.data.model_copy(update={"eval": None})})
        data = load_data(alone, say)[1]
        notes.append(f"planned without the held-out data: {error}")
        return data


def with_adapters_beside(costs: Costs, recipe: Recipe) -> Costs:
    """Costs with the roles that stand beside the policy: each as large as the policy's adapter.

    What is trained too has gradients and moments; what is frozen lies there in fp32.
    """
    trained, frozen = TASKS[recipe.task].mechanics.beside(recipe)
    return replace(
        costs,
        trained=costs.trained * (1 + trained),
        weights=costs.weights + 4 * costs.trained * frozen,
    )
