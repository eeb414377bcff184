"""Part j: the longest context that trains: foretold by the plan, then tried.

An example of context L has a prompt of L/2 tokens and two responses of L/2, so 1.5 L tokens.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.gpu.bench import PACKED, Bench
from benchmarks.gpu.figures import GIB, MIB, Figure, at_least, told
from dpo_lite.data.packing import Encoded
from dpo_lite.memory.capacity import free_memory, seconds_per_epoch, speed_here
from dpo_lite.memory.longest import furthest
from dpo_lite.memory.of_model import apply_plan, costs_here
from dpo_lite.memory.plan import MemoryPlan, choose_plan
from dpo_lite.model import roles
from dpo_lite.model.device_memory import release
from dpo_lite.model.scoring import laid_out_tokens
from dpo_lite.training.method import Objective
from dpo_lite.training.update import update_gradient

STEP, MOST = 256, 131_072  # tokens: how finely, and how far
GROWTH = 1.15  # how much longer than what trained is tried
TRIALS = 4
WANTED = 0.95  # of what the plan promises, at least


def look(bench: Bench) -> Iterator[Figure]:
    size = bench.shapes[-1]
    config, packed = bench.config(size), PACKED[size]
    recipe = bench.recipe(quantization=packed, train={"batch_size": 1})
    model = roles.add_policy(bench.base(config, packed), recipe.adapter, seed=0).train()
    costs = costs_here(model, bench.pairs("hh", 3, config), "forest")
    memory = free_memory(bench.device) or costs.weights + 24 * MIB  # a card for what is tiny
    yield told("model", f"{size}, {packed}, LoRA of rank {recipe.adapter.r}")
    yield told("usable memory", round(memory / GIB, 2), "GiB")

    def plan_of(context: int) -> MemoryPlan:
        tokens = laid_out_tokens([example(context)], "forest")
        return choose_plan(costs, recipe, tokens, memory, tokens)

    def fits(context: int) -> bool:
        return plan_of(context).total <= memory

    planned = furthest(fits, MOST if bench.on_card else 2048, STEP if bench.on_card else 64)
    yield told("longest context by the plan", planned, "tokens")
    if not planned:
        return
    yield told("which gives up", plan_of(planned).words())

    def seconds(context: int) -> float:
        """At worst, of one update; 0 where the card's speed is not known."""
        plan, flops = plan_of(context), speed_here(bench.device)
        tokens = laid_out_tokens([example(context)], "forest")
        if not flops:
            return 0.0
        return seconds_per_epoch(costs, plan.choice, tokens, context, flops)[1]

    start = planned
    while start > STEP and 2 * seconds(start) > bench.left:
        start = int(0.8 * start)
    objective, best, took = Objective.of(recipe, "forest", bench.dtype), 0, 0.0
    context, over = start, None
    for _ in range(TRIALS):
        apply_plan(model, plan_of(context))
        begun = bench.clock()
        if _trains(model, example(context), objective, bench):
            best, took = context, bench.clock() - begun
        else:
            over = context
        further = (
            int(GROWTH * best) if over is None else (best + over) // 2 if best else int(0.85 * over)
        )
        done = best and over and over - best <= max(STEP, best // 20)
        if done or not bench.on_card or further > MOST or 2.5 * took > bench.left:
            break
        context = further
    if start < planned:
        yield told("tried no further than, for want of time", start, "tokens")
    yield told("longest context that trained", best, "tokens")
    yield told("its update takes", took, "s")
    yield at_least("of what was planned and tried", best / start, WANTED)
    if bench.on_card:
        yield told("peak of the last try", round(bench.peak() / GIB, 2), "GiB")


def example(context: int) -> Encoded:
    half = context // 2
    return {
        "prompt_ids": [5] * half,
        "response_ids": [[6] * (context - half), [7] * (context - half)],
    }


def _trains(model, of_context: Encoded, objective: Objective, bench: Bench) -> bool:
    """Whether an update on the example goes through. Nothing of it stays."""
    bench.forget_peak()
    try:
        update_gradient(model, [of_context], objective, laid_out_tokens([of_context], "forest"))
        trained = True
    except torch.OutOfMemoryError:
        trained = False
    model.zero_grad(set_to_none=True)
    release()
    return trained
