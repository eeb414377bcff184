"""Part g: memory that runs out, in the forward and in the backward pass, and what stays after it.

On a card its allocator is given less than an update needs. Without one an error is raised where
memory would have run out, which shows that the update is repeated, but not that memory comes back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from datasets import Dataset
from peft import PeftModel

from benchmarks.gpu.bench import Bench, apart, gradients, loaded, moved_policy
from benchmarks.gpu.figures import Figure, at_most, needs_card, so, told
from dpo_lite.jobs.preflight import check
from dpo_lite.model import roles
from dpo_lite.model.device_memory import release
from dpo_lite.model.layers import decoder_of
from dpo_lite.model.recompute import recompute
from dpo_lite.model.scoring import causal_lm, laid_out_tokens
from dpo_lite.training.method import Objective
from dpo_lite.training.trainer import PreferenceTrainer
from dpo_lite.training.update import update_gradient

# Other micro-batches round otherwise; the gradient is the same.
LIMIT = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 1e-2}
LAYERS = 8  # few, so that the head does not take more than a layer that is run again
# What of an update's changing memory is left to it. Half is too little for a forward pass where
# all is kept; where layers are run again the backward pass takes most, at its end.
WANTED = {"forward": ("none", (0.5, 0.7)), "backward": ("layers", (0.97, 0.93, 0.9, 0.85, 0.8))}


def look(bench: Bench) -> Iterator[Figure]:
    yield from _runs_out(bench)
    yield from _after_preflight(bench)


def _runs_out(bench: Bench) -> Iterator[Figure]:
    config = bench.config(bench.shapes[0], LAYERS)
    recipe = bench.recipe(train={"batch_size": 8})
    model = moved_policy(bench.base(config), recipe)
    rows = bench.pairs("ultra", 8, config)
    objective, budget = Objective.of(recipe, "forest", bench.dtype), laid_out_tokens(rows, "forest")
    update_gradient(model, rows, objective, budget)
    expected = gradients(model)
    for wanted, (how, shares) in WANTED.items():
        recompute(model, how)
        for share in shares:
            clear(model)
            room = _error_in(wanted, model, budget)
            if bench.on_card:
                clear(model)
                idle = bench.allocated()
                bench.forget_peak()
                update_gradient(model, rows, objective, budget)
                limit = idle + share * (bench.peak() - idle)
                clear(model)
                room = _card_with(bench, limit)
            trainer = _trainer(bench, model, recipe, objective, budget, rows)
            with room, _watched(trainer) as where:
                trainer.training_step(model, rows)
            if where[:1] == [wanted]:
                break
        yield so(f"memory ran out in the {wanted} pass", where[:1] == [wanted])
        yield told(f"{wanted}: tokens per micro-batch", f"{budget:,} → {trainer.budget:,}")
        off = apart(gradients(model), expected)
        what = f"{wanted}: the repeated update's gradient differs by"
        yield at_most(what, off, LIMIT[bench.dtype])
        clear(model)
        what = f"{wanted}: bytes that stay"
        yield at_most(what, bench.allocated() - idle, 0, "B") if bench.on_card else needs_card(what)


def _after_preflight(bench: Bench) -> Iterator[Figure]:
    """What a whole preflight leaves behind: nothing, apart from what was there before."""
    config, recipe = bench.config(bench.shapes[0]), bench.recipe(train={"batch_size": 8})
    model = roles.add_policy(bench.base(config), recipe.adapter, seed=0).train()
    rows = bench.pairs("hh", 32, config)
    # The first products and gradients make the libraries' own workspaces.
    update_gradient(model, rows[:1], Objective.of(recipe, "forest", bench.dtype), 4096)
    clear(model)
    before = bench.allocated() if bench.on_card else 0
    report, _ = check(loaded(recipe, model, rows))
    clear(model)
    yield told("preflight", report.plan.words())
    if bench.on_card:
        yield at_most("bytes that the preflight leaves", bench.allocated() - before, 0, "B")
    else:
        yield needs_card("bytes that the preflight leaves")


def clear(model: PeftModel) -> None:
    model.zero_grad(set_to_none=True)
    release()


def _trainer(
    bench: Bench, model: PeftModel, recipe: Any, objective: Objective, budget: int, rows: list
) -> PreferenceTrainer:
    trainer = PreferenceTrainer(
        model,
        recipe,
        objective,
        budget=budget,
        folder=bench.folder,
        train=Dataset.from_list(rows),
        evals={},
        callbacks=[],
        say=lambda text: None,
    )
    trainer.create_optimizer()
    return trainer


@contextmanager
def _card_with(bench: Bench, limit: float) -> Iterator[None]:
    """Inside, the allocator may take no more bytes of the card."""
    whole = torch.cuda.get_device_properties(bench.device).total_memory
    torch.cuda.set_per_process_memory_fraction(limit / whole)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@contextmanager
def _error_in(where: str, model: PeftModel, tokens: int) -> Iterator[None]:
    """Inside, a pass of the policy over so many tokens ends as it would without memory."""

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    def look_at(module, inputs, output):
        hidden = output.last_hidden_state
        if hidden.shape[:2].numel() >= tokens and hidden.requires_grad:
            if where == "forward":
                fail()
            hidden.register_hook(fail)

    hook = decoder_of(causal_lm(model)).register_forward_hook(look_at)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _watched(trainer: PreferenceTrainer) -> Iterator[list[str]]:
    """In which pass memory ran out, each time that it did inside."""
    real_backward, give_up_more = torch.Tensor.backward, trainer.give_up_more
    broken: list[str] = []
    where: list[str] = []

    def backward(*inputs, **options):
        try:
            return real_backward(*inputs, **options)
        except torch.OutOfMemoryError:
            broken.append("backward")
            raise

    def give_up(*inputs):
        where.append(broken.pop() if broken else "forward")
        give_up_more(*inputs)

    with (
        patch.object(torch.Tensor, "backward", backward),
        patch.object(trainer, "give_up_more", give_up),
    ):
        yield where
