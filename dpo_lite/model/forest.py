"""Open a forest: every layer that mixes tokens goes by the batch's trees until the block ends.

Attention layers do through their registry (dpo_lite.model.attention), recurrent layers and short
convolutions through the functions that their architectures call (dpo_lite.model.hybrid_forest).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import PreTrainedModel

from dpo_lite.data.packing import Batch
from dpo_lite.model.attention import forest_attention
from dpo_lite.model.hybrid_forest import hybrid_forest


@contextmanager
def open_forest(model: PreTrainedModel, batch: Batch, fuse: bool | None = None) -> Iterator[None]:
    """Let ``model`` run over the batch's trees; stay inside until the backward pass is over.

    A batch of padded rows has no trees and changes nothing. ``fuse`` as in ``forest_attention``.
    """
    if not batch.trees:
        yield
        return
    with forest_attention(model, batch, fuse), hybrid_forest(model, batch.trees):
        yield
