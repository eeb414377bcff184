"""The two ways to compute attention over a forest, branch by branch.

A response's tokens see the prompt and their own branch, so attention over a tree is a few ordinary
causal ones that share the prompt's keys. The prompt goes with the first response, and every other
response is a block of queries at the end of ``[prompt | response]``:

    queries   [prompt | response 1]   response 2            response 3
    keys      [prompt | response 1]   [prompt | response 2] [prompt | response 3]

``blocked`` computes one after the other by PyTorch's SDPA, on any device: nothing that a token may
not see is ever multiplied. ``fused`` gives all branches of all trees to one call of the
variable-length flash attention that PyTorch brings for NVIDIA cards. Whether that call does here
what it should is tried on random numbers (``fused_agrees``), not concluded from a version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from inspect import signature
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from dpo_lite.data.packing import Tree
from dpo_lite.errors import memory_ran_out

HALF = (torch.bfloat16, torch.float16)
MOST_SCORES = 2**26  # of a mask, or of all heads where scores are written out: 256 MB in fp32


@dataclass(frozen=True)
class Table:
    """The branches of all trees for one fused call; S branches, N keys over all of them."""

    query_starts: torch.Tensor  # (S + 1,) int32, where a branch's queries begin in the row
    key_starts: torch.Tensor  # (S + 1,) int32, where its keys begin among the gathered ones
    gather: torch.Tensor  # (N,) int64, the place in the row of every key
    most_queries: int
    most_keys: int


def branches(trees: Sequence[Tree]) -> Iterator[tuple[range, range, range]]:
    """(queries, prompt, response) of every branch, as places in the row."""
    for tree in trees:
        prompt = range(tree.start, tree.start + tree.prompt)
        start = prompt.stop
        for number, length in enumerate(tree.responses):
            response = range(start, start + length)
            yield range(prompt.start if number == 0 else start, response.stop), prompt, response
            start = response.stop


def table(trees: Sequence[Tree], device: torch.device) -> Table:
    """Write the branches down. The queries lie in the row as they are; keys must be gathered."""
    query_starts, key_starts, gather = [0], [0], []
    for queries, prompt, response in branches(trees):
        query_starts.append(query_starts[-1] + len(queries))
        gather += [*prompt, *response]
        key_starts.append(len(gather))

    def longest(starts):
        return max(after - before for before, after in pairwise(starts))

    return Table(
        torch.tensor(query_starts, dtype=torch.int32).to(device, non_blocking=True),
        torch.tensor(key_starts, dtype=torch.int32).to(device, non_blocking=True),
        torch.tensor(gather).to(device, non_blocking=True),
        longest(query_starts),
        longest(key_starts),
    )


def fused(query, key, value, where: Table, scaling: float, window: int | None) -> torch.Tensor:
    """One call for all branches. query (1, heads, T, D), key and value (1, key_heads, T, D).

    Returns (1, T, heads, D). The queries of a branch stand at the end of its keys: PyTorch aligns
    causal attention of unequal lengths at the bottom right, which is just that. Values of another
    size than keys (DeepSeek's latent attention) are filled up with zeros, as the call takes one
    size.
    """
    from torch.nn.attention.varlen import varlen_attn

    size = value.shape[-1]
    query, key, value = _of_one_size(query, key, value)
    # torch 2.11 takes fewer heads of keys without being told, and cannot be told.
    asked = {"enable_gqa": query.shape[1] != key.shape[1]} if _can_be_told(varlen_attn) else {}
    keys, values = (x[0].transpose(0, 1).index_select(0, where.gather) for x in (key, value))
    outputs = varlen_attn(
        query[0].transpose(0, 1).to(values.dtype),
        keys.to(values.dtype),
        values,
        where.query_starts,
        where.key_starts,
        where.most_queries,
        where.most_keys,
        scale=scaling,
        # (left, right): how many keys before and after a token's own place it sees.
        window_size=(-1 if window is None else window - 1, 0),
        **asked,
    )
    return outputs[None, ..., :size]


@lru_cache
def _can_be_told(call: Callable) -> bool:
    """Whether PyTorch's call takes ``enable_gqa``."""
    parameters = signature(call).parameters.values()
    return any(p.name == "enable_gqa" or p.kind is p.VAR_KEYWORD for p in parameters)


def _of_one_size(*tensors: torch.Tensor) -> list[torch.Tensor]:
    largest = max(tensor.shape[-1] for tensor in tensors)
    return [
        # Not where nothing is missing: it copies all the same.
        tensor if tensor.shape[-1] == largest else F.pad(tensor, (0, largest - tensor.shape[-1]))
        for tensor in tensors
    ]


class Sight(NamedTuple):
    """How far a token sees back, in positions: so many, or to the begin of its chunk of so many."""

    window: int | None = None
    chunk: int | None = None


def blocked(
    query,
    key,
    value,
    trees: Sequence[Tree],
    scaling: float,
    sight: Sight,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """Branch after branch by SDPA, or written out where a score is capped or sinks take part.

    Shapes as in ``fused``.
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key = key.repeat_interleave(groups, dim=1)
        value = value.repeat_interleave(groups, dim=1)
    outputs = []
    # The gradient of a slice is written among zeros for all that it was cut from: first the trees
    # are split from each other, where nothing is written, then the branches cut from their tree.
    sizes = [tree.prompt + sum(tree.responses) for tree in trees]
    split = (x.split(sizes, dim=2) for x in (query, key, value))
    for tree, own_query, own_key, own_value in zip(trees, *split, strict=True):
        for queries, prompt, response in branches([Tree(0, tree.prompt, tree.responses)]):
            q = own_query[:, :, queries.start : queries.stop]
            k, v = (_keys(x, prompt, response) for x in (own_key, own_value))
            outputs.append(_branch(q, k, v, scaling, sight, softcap, sinks))
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous()


def _branch(q, k, v, scaling: float, sight: Sight, softcap, sinks) -> torch.Tensor:
    """Attention of a branch's queries, which stand at the end of its keys.

    Without a mask where none is needed. Masks, and scores that are written out, grow with queries
    times keys; where that is a lot, some queries go at a time, and again in the backward pass.
    """
    plain = softcap is None and sinks is None
    queries, keys = q.shape[2], k.shape[2]
    if plain and queries == keys and sight == Sight():
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling)

    def attended(q, k, v):
        mask = visible(q.shape[2], k.shape[2], sight, q.device)
        if plain:
            return F.scaled_dot_product_attention(q, k, v, mask, scale=scaling)
        return _explicit(q, k, v, mask, scaling, softcap, sinks)

    step = max(1, MOST_SCORES // (keys * (1 if plain else q.shape[1])))
    if queries <= step:
        return attended(q, k, v)
    outputs: list[torch.Tensor] = []
    for part in q.split(step, dim=2):
        last = keys - queries + sum(output.shape[2] for output in outputs) + part.shape[2]
        far = None if sight.chunk is not None else sight.window
        first = 0 if far is None else max(0, last - part.shape[2] - far + 1)
        seen = (part, k[:, :, first:last], v[:, :, first:last])
        outputs.append(checkpoint(attended, *seen, use_reentrant=False, preserve_rng_state=False))
    return torch.cat(outputs, dim=2)


def _keys(x: torch.Tensor, prompt: range, response: range) -> torch.Tensor:
    """The keys or values that a branch sees; a view where they lie side by side."""
    if prompt.stop == response.start:
        return x[:, :, prompt.start : response.stop]
    parts = [x[:, :, place.start : place.stop] for place in (prompt, response)]
    return torch.cat(parts, dim=2)


def visible(queries: int, keys: int, sight: Sight, device=None) -> torch.Tensor:
    """Which key (column) each query (row) sees, the queries being the last of the keys.

    A sliding window and chunks count positions: the first token of the second response is as near
    to the prompt as that of the first.
    """
    ahead = keys - queries
    mask = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(ahead)
    if sight.window is not None:
        mask = mask.triu(ahead - sight.window + 1)
    if sight.chunk is not None:
        place = torch.arange(keys, device=device) // sight.chunk
        mask &= place[ahead:, None] == place
    return mask


def _explicit(q, k, v, mask, scaling, softcap, sinks):
    """Softmax attention written out, for what the fused kernels lack.

    Softcapping (Gemma 2) squashes the scores; a sink (gpt-oss) is one more score per head that
    takes part in the softmax and carries no value. q, k, v are (1, heads, L, D), mask (L, L),
    sinks (heads,).
    """
    scores = q @ k.transpose(-1, -2) * scaling
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).float()
    if sinks is not None:
        column = sinks.float().reshape(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, column], dim=-1)
    weights = scores.softmax(dim=-1)[..., : k.shape[2]]
    return weights.to(v.dtype) @ v


def may_fuse(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether the fused call serves these tensors on this machine."""
    if value.device.type != "cuda" or value.dtype not in HALF:
        return False
    shape = (query.shape[1], key.shape[1], max(query.shape[-1], value.shape[-1]))
    return _fused_agrees_here(value.device, value.dtype, *shape)


@lru_cache
def _fused_agrees_here(device, dtype, heads, key_heads, dim) -> bool:
    # Whoever asks may be inside autocast, no_grad or a checkpoint; the trial is not.
    with torch.enable_grad(), torch.autocast(device.type, enabled=False):
        return fused_agrees(device, dtype, heads, key_heads, dim)


def fused_agrees(
    device: torch.device, dtype: torch.dtype, heads: int, key_heads: int, dim: int
) -> bool:
    """Try the fused call against the blocked one: outputs and gradients, with and without window.

    Old cards, head sizes without a kernel and builds without flash attention raise; another
    alignment or window would show as a difference a hundred times that of rounding. Memory that
    runs out says nothing of the call: raises torch.OutOfMemoryError.
    """
    trees = [Tree(0, 9, (5, 7)), Tree(21, 3, (4, 2, 6))]
    draw = torch.Generator().manual_seed(0)
    shapes = [(1, heads, 36, dim), (1, key_heads, 36, dim), (1, key_heads, 36, dim)]
    try:
        where = table(trees, device)
        for window in (None, 4):
            results = []
            inputs = [torch.randn(shape, generator=draw) for shape in shapes]
            upstream = torch.randn((1, 36, heads, dim), generator=draw).to(device)
            for way in ("fused", "blocked"):
                q, k, v = (x.to(device, dtype).requires_grad_() for x in inputs)
                if way == "fused":
                    output = fused(q, k, v, where, dim**-0.5, window)
                else:
                    output = blocked(q, k, v, trees, dim**-0.5, Sight(window))
                gradients = torch.autograd.grad((output * upstream).sum(), (q, k, v))
                results.append([output, *gradients])
            if not all(_near(a, b, dtype) for a, b in zip(*results, strict=True)):
                return False
    except (RuntimeError, TypeError, ValueError, ImportError) as error:
        if memory_ran_out(error):
            raise
        return False
    return True


def _near(output: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> bool:
    """Equal but for rounding: a tenth of a mean size, in bf16 a few steps of its eight bits."""
    difference = (output.float() - expected.float()).norm() / expected.float().norm()
    return bool(difference < (0.02 if dtype in HALF else 1e-5))
