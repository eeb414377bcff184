"""Part h: the memory of real updates against the plan's, part by part, for one shape.

Planned is what was foretold of the largest micro-batch before any update ran; measured are two
updates with the optimiser, after the preflight has chosen what to give up.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from datasets import Dataset

from benchmarks.gpu.bench import PACKED, Bench, loaded
from benchmarks.gpu.figures import MIB, Figure, near, needs_card, told
from dpo_lite.jobs.preflight import check
from dpo_lite.memory.accounting import memory_by_part
from dpo_lite.memory.of_model import costs_here
from dpo_lite.memory.parts import REST, TOGETHER
from dpo_lite.memory.plan import predict
from dpo_lite.model import roles
from dpo_lite.training.trainer import PreferenceTrainer

SHARE = 0.10
UPDATES = 2


def look(bench: Bench) -> Iterator[Figure]:
    config, packed = bench.config(bench.shape), PACKED[bench.shape]
    recipe = bench.recipe(quantization=packed, train={"max_steps": UPDATES})
    model = roles.add_policy(bench.base(config, packed), recipe.adapter, seed=0)
    rows = bench.pairs("ultra", UPDATES * recipe.train.batch_size, config)
    run = loaded(recipe, model, rows)
    report, objective = check(run)
    plan = report.plan
    yield told("split", plan.words())
    yield told("tokens of the largest micro-batch", report.trial.tokens)
    costs = costs_here(model, run.data.few, objective.way)
    expected = predict(costs, plan.choice, report.trial.tokens)
    recipe.train.optimizer = plan.choice.optimizer
    trainer = PreferenceTrainer(
        model,
        recipe,
        objective,
        budget=plan.budget,
        folder=bench.folder,
        train=Dataset.from_list(rows),
        evals={},
        callbacks=[],
        say=lambda text: None,
    )
    bench.forget_peak()
    started = bench.clock()
    trainer.train()
    yield told("seconds per update", (bench.clock() - started) / UPDATES, "s")
    parts = memory_by_part(expected, report.trial, report.libraries, model, trainer.optimizer)
    for name, part in parts.items():
        yield from _held_to(bench, name, part["predicted"], part["measured"])
    yield told("planned after the trial", round(plan.total / MIB), "MiB")
    if bench.on_card:
        reserved = torch.cuda.max_memory_reserved(bench.device)
        yield told("reserved by the allocator", round(reserved / MIB), "MiB")


def _held_to(
    bench: Bench, name: str, planned: int | None, measured: int | None
) -> Iterator[Figure]:
    if measured is None and not bench.on_card and name == REST:
        yield needs_card(name)
    elif measured is None or planned is None:  # what is kept shows only where all of it is
        known = planned if measured is None else measured
        which = "planned, not measured" if measured is None else "measured, not planned"
        yield told(f"{name}, {which}", round((known or 0) / MIB, 1), "MiB")
    elif name == REST or (name == TOGETHER and not bench.on_card):  # what the others leave over
        yield told(f"{name}, planned", round(planned / MIB, 1), "MiB")
        yield told(f"{name}, measured", round(measured / MIB, 1), "MiB")
    else:
        yield near(name, round(measured / MIB, 3), planned / MIB, SHARE, "MiB")
