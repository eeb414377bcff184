"""Part b: attention over a forest, fused and branch by branch, against one mask over the row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median

import torch
import torch.nn.functional as F

from benchmarks.gpu.bench import Bench, apart
from benchmarks.gpu.figures import Figure, at_least, at_most, needs_card, so, told
from dpo_lite.data.packing import Tree, tree_tokens
from dpo_lite.model.branches import HALF, Sight, blocked, branches, fused, may_fuse, table

# Heads, key heads, size of a head, window. Of Qwen2.5 0.5B and 1.5B, of Llama 3.1 8B, of others.
KINDS = {
    "size 64, 7 heads a key": (14, 2, 64, None),
    "size 80": (8, 8, 80, None),
    "size 96": (8, 2, 96, None),
    "size 128, 6 heads a key": (12, 2, 128, None),
    "size 128, 4 heads a key": (32, 8, 128, None),
    "size 256": (8, 1, 256, None),
    "size 128, window of 64": (8, 2, 128, 64),
}
EXACT = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 5e-3}
ROUNDS = 5
# What a head of so many numbers must have: those of the shapes that are measured here.
USED = (64, 128)


def look(bench: Bench) -> Iterator[Figure]:
    dtypes = (bench.dtype, torch.float16) if bench.on_card else (bench.dtype,)
    for dtype in dict.fromkeys(dtypes):
        for name, kind in list(KINDS.items())[: 2 if bench.small else None]:
            yield from _numbers(bench, f"{name}, {_short(dtype)}", kind, dtype)
    if not bench.on_card:
        yield needs_card("fused attention")
        return
    for name, kind in list(KINDS.items())[: 2 if bench.small else None]:
        yield from _times(bench, name, kind)


def _numbers(bench: Bench, name: str, kind: tuple, dtype: torch.dtype) -> Iterator[Figure]:
    """Outputs and gradients of both ways, in ``dtype``, against one mask in fp64."""
    trees = _trees(bench, 600)
    given = _inputs(bench, kind, trees, dtype)
    expected = _run(_masked(trees, kind), [x.double() for x in given])
    found = _run(_blocked(trees, kind), given)
    yield at_most(f"{name}: branch by branch differs by", apart(found, expected), EXACT[dtype])
    if dtype in HALF and bench.on_card:
        fits = may_fuse(*given[:3])
        yield so(f"{name}: fused", fits) if kind[2] in USED else told(f"{name}: fused", str(fits))
        if fits:
            found = _run(_fused(bench, trees, kind), given)
            yield at_most(f"{name}: fused differs by", apart(found, expected), EXACT[dtype])


def _times(bench: Bench, name: str, kind: tuple) -> Iterator[Figure]:
    """Forward and backward over a row of 8,192 tokens."""
    trees = _trees(bench, 8192)
    given = _inputs(bench, kind, trees, bench.dtype)
    if not may_fuse(*given[:3]):
        return
    one_by_one = _seconds(bench, _blocked(trees, kind), given)
    together = _seconds(bench, _fused(bench, trees, kind), given)
    yield told(f"{name}: fused takes", round(1000 * together, 2), "ms")
    ratio, what = one_by_one / together, f"{name}: fused is faster than branch by branch"
    yield told(what, ratio, "×") if bench.small else at_least(what, ratio, 1.0, "×")


def _trees(bench: Bench, most: int) -> list[Tree]:
    """Trees of pairs as long as HH's, up to so many tokens in a row."""
    trees, start = [], 0
    for pair in bench.pairs("hh", 200, bench.config(bench.shapes[0])):
        if start + tree_tokens(pair) <= most:
            lengths = tuple(map(len, pair["response_ids"]))
            trees.append(Tree(start, len(pair["prompt_ids"]), lengths))
            start = trees[-1].stop
    return trees


def _inputs(bench: Bench, kind: tuple, trees: Sequence[Tree], dtype: torch.dtype) -> list:
    """Query, key, value and the gradient of the output."""
    heads, key_heads, size, _ = kind
    tokens, draw = trees[-1].stop, torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw).to(bench.device, dtype)

    q, k, v = (random(1, n, tokens, size) for n in (heads, key_heads, key_heads))
    return [q, k, v, random(1, tokens, heads, size)]


Attend = Callable[..., torch.Tensor]


def _blocked(trees: Sequence[Tree], kind: tuple) -> Attend:
    return lambda q, k, v: blocked(q, k, v, trees, kind[2] ** -0.5, Sight(kind[3]))


def _fused(bench: Bench, trees: Sequence[Tree], kind: tuple) -> Attend:
    where = table(list(trees), bench.device)
    return lambda q, k, v: fused(q, k, v, where, kind[2] ** -0.5, kind[3])


def _masked(trees: Sequence[Tree], kind: tuple) -> Attend:
    """The definition: one mask over the row, true where a token sees another."""
    heads, key_heads, size, window = kind
    mask = torch.zeros(trees[-1].stop, trees[-1].stop, dtype=torch.bool)
    for queries, prompt, response in branches(trees):
        keys = torch.tensor([*prompt, *response])
        place = torch.arange(len(keys))
        own = torch.isin(keys, torch.tensor(list(queries)))
        sees = place[None, :] <= place[own][:, None]
        if window is not None:
            sees &= place[None, :] > place[own][:, None] - window
        mask[keys[own][:, None], keys[None, :]] = sees

    def attend(q, k, v):
        k, v = (x.repeat_interleave(heads // key_heads, 1) for x in (k, v))
        found = F.scaled_dot_product_attention(q, k, v, mask.to(q.device), scale=size**-0.5)
        return found.transpose(1, 2)

    return attend


def _run(attend: Attend, given: Sequence[torch.Tensor]) -> torch.Tensor:
    """Output and gradients in a row."""
    inputs = [x.detach().clone().requires_grad_() for x in given[:3]]
    output = attend(*inputs)
    parts = [output, *torch.autograd.grad(output, inputs, given[3].to(output.dtype))]
    return torch.cat([part.detach().double().cpu().flatten() for part in parts])


def _seconds(bench: Bench, attend: Attend, given: Sequence[torch.Tensor]) -> float:
    inputs = [x.detach().clone().requires_grad_() for x in given[:3]]
    times = []
    for _ in range(ROUNDS + 1):  # the first one warms up
        started = bench.clock()
        output = attend(*inputs)
        torch.autograd.grad(output, inputs, given[3].to(output.dtype))
        times.append(bench.clock() - started)
    return median(times[1:])


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
