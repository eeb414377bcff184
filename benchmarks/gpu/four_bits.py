"""Part d: gradients over NF4 weights against those over the very numbers that NF4 stands for.

The other model holds them in fp32 and never sees 4 bits. The model in 4 bits has answered before in
evaluation mode, as in any run: that is what made later gradients wrong on some processors.
"""

from __future__ import annotations

from collections.abc import Iterator

import bitsandbytes as bnb
import torch

from benchmarks.gpu.bench import Bench, apart, gradients, moved_policy
from benchmarks.gpu.figures import Figure, at_most
from dpo_lite.model.base import count_4bit
from dpo_lite.training.method import Objective
from dpo_lite.training.update import evaluate_examples, update_gradient

LIMIT = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 2e-2}
LAYERS = {"0.5b": 8, "1.5b": 8, "8b": 2, "tiny": 2}  # that fit in fp32 beside those in 4 bits


def look(bench: Bench) -> Iterator[Figure]:
    for size in dict.fromkeys((bench.shapes[0], bench.shapes[-1])):
        config, recipe = bench.config(size, LAYERS[size]), bench.recipe()
        packed = moved_policy(bench.base(config), recipe)
        whole = moved_policy(bench.base(config, "none", torch.float32), recipe)
        _unpack_into(whole, packed)
        rows = bench.pairs("hh", 8, config)
        found = []
        for model, dtype in ((packed, bench.dtype), (whole, torch.float32)):
            objective = Objective.of(recipe, "forest", dtype)
            evaluate_examples(model, rows, objective, 4096)
            update_gradient(model, rows, objective, 4096)
            found.append(gradients(model))
        name = f"{size}, {count_4bit(packed)} layers in 4 bits"
        yield at_most(f"{name}: gradient differs by", apart(*found), LIMIT[bench.dtype])
        del packed, whole, model


@torch.no_grad()
def _unpack_into(whole: torch.nn.Module, packed: torch.nn.Module) -> None:
    """Give one model the numbers of the other, unpacked where they are in 4 bits."""
    own = dict(whole.named_parameters())
    for name, weight in packed.named_parameters():
        if isinstance(weight, bnb.nn.Params4bit):
            weight = bnb.functional.dequantize_4bit(weight.data, weight.quant_state)
        own[name].copy_(weight.float())
