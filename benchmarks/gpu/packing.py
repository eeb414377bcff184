"""Part c: packed rows in the dtype that trains: right against single ones, and no branch leaks.

Against single rows a difference may be rounding, for a card computes rows of other shapes in
another order. So packed rows are also held to themselves: with other tokens in every other branch
and tree the row keeps its shape, and not a bit may change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from benchmarks.gpu.bench import Bench, moved_policy
from benchmarks.gpu.figures import Figure, at_most, told
from benchmarks.model_zoo.architectures import ARCHITECTURES
from benchmarks.model_zoo.checkpoint import examples as letters
from benchmarks.model_zoo.checkpoint import save_checkpoint
from dpo_lite.data.packing import Encoded
from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.model.choosing import (
    TOLERANCE,
    difference_from_truth,
    leak,
    leak_limit,
    true_token_logps,
)
from dpo_lite.model.precision import dtype_of
from dpo_lite.model.scoring import causal_lm
from dpo_lite.recipe import ModelSection

# Small ones of other kinds: norms of queries and keys, a window, capped scores, sinks and experts.
KINDS = ("qwen3", "mistral", "gemma2", "gpt_oss")
LAYERS = 4  # of the real shapes: rounding, not a leak, is what more of them add


def look(bench: Bench) -> Iterator[Figure]:
    for size in dict.fromkeys((bench.shapes[0], bench.shapes[-1])):
        for packed in ("none", "nf4"):
            config, recipe = bench.config(size, LAYERS), bench.recipe(quantization=packed)
            model = moved_policy(bench.base(config, packed), recipe)
            rows = bench.pairs("hh", 6, config)
            yield from _scores(f"{size}, {packed}", model, rows)
            del model
    for kind in KINDS[: 2 if bench.small else None]:
        folder = bench.folder / kind
        section = ModelSection(base=save_checkpoint(ARCHITECTURES[kind], folder))
        model = roles.add_policy(load_base(section), bench.recipe().adapter, seed=0)
        yield from _scores(kind, model, letters())
        del model


@torch.no_grad()
def _scores(name: str, model: torch.nn.Module, rows: Sequence[Encoded]) -> Iterator[Figure]:
    model.eval()
    limit = TOLERANCE[dtype_of(model)]
    truth = true_token_logps(model, rows)
    apart = "differ from single ones by, per token"
    padded = difference_from_truth(model, rows, "separate", truth)
    yield told(f"{name}: padded rows {apart}", padded, "nats")
    packed = difference_from_truth(model, rows, "forest", truth)
    yield at_most(f"{name}: packed rows {apart}", packed, limit, "nats")
    moved = 0.0
    for turn in range(len(rows)):  # each tree is once the first and once the last
        moved = max(moved, leak(model, [*rows[turn:], *rows[:turn]]))
    experts = any(name.endswith("experts") for name, _ in model.named_modules())
    # On a card experts get other tokens when other rows change, so they round otherwise.
    allowed = leak_limit(causal_lm(model)) if experts and model.device.type == "cuda" else 0.0
    yield at_most(f"{name}: other branches move a score by, per token", moved, allowed, "nats")
