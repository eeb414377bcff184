"""Attention over a packed forest: each token sees its own branch and the prompt before it.

Registered as a transformers attention function, so that it serves every model that dispatches
through ``ALL_ATTENTION_FUNCTIONS``. A name without a mask function makes transformers build no
mask at all. How the branches are computed is in dpo_lite.model.branches.

The trees reach the attention layers through a stack in this module, not through keyword arguments,
which some models drop on the way. It is no context variable: autograd runs the backward pass of a
GPU in another thread, and gradient checkpointing runs the layers again there. So the block must
stay open until the backward pass is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import AttentionInterface, PreTrainedModel

from dpo_lite.data.packing import Batch, Tree
from dpo_lite.model.branches import Sight, Table, blocked, fused, may_fuse, table

NAME = "dpo_lite_forest"

_active: list[_Forest] = []


class _Forest:
    """The trees of the batch at hand, and their table for the fused call once it is asked for."""

    def __init__(self, trees: list[Tree], fuse: bool | None):
        self.trees = trees
        self.fuse = fuse
        self.tables: dict[torch.device, Table] = {}

    def positions(self, device: torch.device) -> torch.Tensor:
        """The position of each token of the row in its branch, (T,)."""
        parts = [
            range(start, start + length)
            for tree in self.trees
            for start, length in [(0, tree.prompt), *((tree.prompt, n) for n in tree.responses)]
        ]
        return torch.tensor([place for part in parts for place in part], device=device)

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt with a response."""
        return max(tree.prompt + max(tree.responses, default=0) for tree in self.trees)

    def table(self, device: torch.device) -> Table:
        if device not in self.tables:
            self.tables[device] = table(self.trees, device)
        return self.tables[device]


@contextmanager
def forest_attention(
    model: PreTrainedModel, batch: Batch, fuse: bool | None = None
) -> Iterator[None]:
    """Let ``model`` attend over the batch's trees until the block ends (after the backward pass).

    A batch of padded rows has no trees and leaves the model's own attention in place. ``fuse``:
    whether to use the fused kernel; None asks what this machine can do.
    """
    if not batch.trees:
        yield
        return
    configs = _configs(model)
    before = [config._attn_implementation_internal for config in configs]
    _active.append(_Forest(batch.trees, fuse))
    for config in configs:
        config._attn_implementation_internal = NAME
    try:
        yield
    finally:
        _active.pop()
        for config, implementation in zip(configs, before, strict=True):
            config._attn_implementation_internal = implementation


def _configs(model: torch.nn.Module) -> list:
    """Every distinct config that an attention layer of the model may look its function up in."""
    configs = {id(m.config): m.config for m in model.modules() if isinstance(m, PreTrainedModel)}
    return list(configs.values())


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """Attention of one layer: fused where that is possible here, else branch by branch.

    query is (1, heads, T, D), key and value (1, key_heads, T, D); returns (1, T, heads, D).
    """
    if not _active:
        raise RuntimeError("forest attention ran outside `with forest_attention(...)`")
    forest = _active[-1]
    if scaling is None:
        scaling = query.shape[-1] ** -0.5
    query, chunk = _by_position(module, query, forest), _chunk(module, forest.longest)
    plain = softcap is None and s_aux is None and chunk is None
    if plain and (may_fuse(query, key, value) if forest.fuse is None else forest.fuse):
        where = forest.table(query.device)
        return fused(query, key, value, where, scaling, sliding_window), None
    trees = forest.trees
    seen = Sight(sliding_window, chunk)
    return blocked(query, key, value, trees, scaling, seen, softcap, s_aux), None


def _by_position(module: torch.nn.Module, query: torch.Tensor, forest: _Forest) -> torch.Tensor:
    """Llama 4 turns the queries of layers without rotation up every so many tokens of a row; here
    it is their position in their branch that counts."""
    tuned = getattr(module, "attn_temperature_tuning", False) and not module.use_rope
    if not tuned or query.shape[2] < module.floor_scale:
        return query

    def scale(places: torch.Tensor) -> torch.Tensor:
        steps = torch.floor((places.float() + 1) / module.floor_scale)
        return torch.log1p(steps) * module.attn_scale + 1

    in_row = torch.arange(query.shape[2], device=query.device)
    ratio = scale(forest.positions(query.device)) / scale(in_row)
    return (query * ratio[:, None]).to(query.dtype)


def _chunk(module: torch.nn.Module, longest: int) -> int | None:
    """How many positions a chunk has beyond which a layer does not see (Llama 4); None where it
    sees all of the longest branch, as it mostly does: there such a chunk has 8,192."""
    config = getattr(module, "config", None)
    chunk = getattr(config, "attention_chunk_size", None)
    if config is None or chunk is None or chunk >= longest:
        return None
    return chunk if config.layer_types[module.layer_idx] == "chunked_attention" else None


AttentionInterface.register(NAME, attend)
