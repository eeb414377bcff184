"""Part e: before the first update policy and reference are equal, so DPO's loss is ln 2."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.figures import Figure, at_most, so, told
from dpo_lite.model import roles
from dpo_lite.training.dpo import IDENTITY_TOLERANCE
from dpo_lite.training.loss_scale import LossScale, all_finite
from dpo_lite.training.method import Objective
from dpo_lite.training.update import update_gradient

LAYERS = 4  # what more of them add is the same again


def look(bench: Bench) -> Iterator[Figure]:
    half = [torch.float16] if bench.on_card else [torch.bfloat16]
    for dtype in dict.fromkeys([bench.dtype, *half]):
        for size in dict.fromkeys((bench.shapes[0], bench.shapes[-1])):
            for packed in ("none", "nf4"):
                yield from _at_start(bench, size, packed, dtype)


def _at_start(bench: Bench, size: str, packed: str, dtype: torch.dtype) -> Iterator[Figure]:
    config, recipe = bench.config(size, LAYERS), bench.recipe(quantization=packed)
    model = roles.add_policy(bench.base(config, packed, dtype), recipe.adapter, seed=0).train()
    scale = LossScale.of(dtype)
    objective = Objective.of(recipe, "forest", dtype)
    rows = bench.pairs("hh", 16, config)
    outcome = update_gradient(model, rows, objective, 4096, scale=scale.scale if scale else 1.0)
    name = f"{size}, {packed}, {dtype}".replace("torch.", "")
    limit = IDENTITY_TOLERANCE[dtype]
    yield at_most(f"{name}: loss is off ln 2 by", abs(outcome.loss - math.log(2)), limit)
    rewards = torch.cat([outcome.rewards_first, outcome.rewards_last]).abs().max().item()
    yield told(f"{name}: largest reward", rewards)
    while scale and scale.scale >= 1 and not _finite(model):
        scale.scale /= 2
        model.zero_grad(set_to_none=True)
        update_gradient(model, rows, objective, 4096, scale=scale.scale)
    at = f" at a loss scale of {scale.scale:g}" if scale else ""
    yield so(f"{name}: the gradient is finite{at}", _finite(model))


def _finite(model: torch.nn.Module) -> bool:
    return all_finite([p.grad for p in roles.trainable_parameters(model) if p.grad is not None])
