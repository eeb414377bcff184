"""Attention over a packed forest: each token sees its own branch and the prompt before it.

Registered as a transformers attention function, so that it serves every model that dispatches
through ``ALL_ATTENTION_FUNCTIONS``. A name without a mask function makes transformers build no
mask at all; ours is made here, per example, so a row of many examples never pays for T x T.

The trees reach the attention layers through a stack in this module, not through keyword arguments,
which some models drop on the way. It is no context variable: autograd runs the backward pass of a
GPU in another thread, and gradient checkpointing runs the layers again there. So the block must
stay open until the backward pass is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, PreTrainedModel

from dpo_lite.data.packing import Batch, Tree

NAME = "dpo_lite_forest"

# Model types whose packed scores equal separate scores: attention is all that mixes tokens, it
# dispatches through the registry, and positions come from position_ids. Measured, see
# tests/model/test_architectures.py. Everything else is scored in separate rows.
FOREST_MODELS = {
    "llama",
    "mistral",
    "mixtral",
    "ministral",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_moe",
    "gemma",
    "gemma2",
    "gemma3_text",
    "phi",
    "phi3",
    "olmo",
    "olmo2",
    "olmo3",
    "smollm3",
    "granite",
    "granitemoe",
    "starcoder2",
    "cohere",
    "cohere2",
    "glm",
    "glm4",
    "exaone4",
    "ernie4_5",
    "hunyuan_v1_dense",
    "gpt_oss",
    "gpt2",
    "gpt_neox",
    "opt",
    "seed_oss",
    "arcee",
    "helium",
    "apertus",
}

_active: list[_Forest] = []


class _Forest:
    """The trees of the batch at hand and the masks made for them, one per window size."""

    def __init__(self, trees: list[Tree]):
        self.trees = trees
        self.masks: dict[int | None, list[torch.Tensor]] = {}

    def visible(self, window: int | None) -> list[torch.Tensor]:
        if window not in self.masks:
            self.masks[window] = [visibility(tree, window) for tree in self.trees]
        return self.masks[window]


def visibility(tree: Tree, window: int | None = None) -> torch.Tensor:
    """Which token (row) may see which (column) within one example; bool, shape (L, L).

    A sliding window counts *positions*, not places in the row: the second response is as near to
    its prompt as the first.
    """
    place = torch.arange(len(tree.branch), device=tree.branch.device)
    earlier = place[:, None] >= place
    own_or_prompt = (tree.branch[:, None] == tree.branch) | (tree.branch == 0)
    mask = earlier & own_or_prompt
    if window is not None:
        mask &= tree.position[:, None] - tree.position < window
    return mask


@contextmanager
def forest_attention(model: PreTrainedModel, batch: Batch) -> Iterator[None]:
    """Let ``model`` attend over the batch's trees until the block ends (after the backward pass).

    A batch of padded rows has no trees and leaves the model's own attention in place.
    """
    if not batch.trees:
        yield
        return
    configs = _configs(model)
    before = [config._attn_implementation_internal for config in configs]
    _active.append(_Forest(batch.trees))
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
    found = {id(m.config): m.config for m in model.modules() if isinstance(m, PreTrainedModel)}
    return list(found.values())


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
    """Attention of one layer, example by example.

    query is (1, heads, T, D), key and value (1, key_heads, T, D); returns (1, T, heads, D).
    """
    if not _active:
        raise RuntimeError("forest attention ran outside `with forest_attention(...)`")
    forest = _active[-1]
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key = key.repeat_interleave(groups, dim=1)
        value = value.repeat_interleave(groups, dim=1)
    if scaling is None:
        scaling = query.shape[-1] ** -0.5
    outputs = []
    for tree, mask in zip(forest.trees, forest.visible(sliding_window), strict=True):
        q, k, v = (x[:, :, tree.start : tree.stop] for x in (query, key, value))
        if softcap is None and s_aux is None:
            outputs.append(F.scaled_dot_product_attention(q, k, v, mask, scale=scaling))
        else:
            outputs.append(_explicit_attention(q, k, v, mask, scaling, softcap, s_aux))
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


def _explicit_attention(q, k, v, mask, scaling, softcap, sinks):
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


AttentionInterface.register(NAME, attend)
