"""What autograd keeps of the policy's forward pass, counted as it goes by.

It runs with one layer of each kind, and with one more of one kind at a time: the difference is such
a layer's share.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from peft import PeftModel
from torch.nn import ModuleList

from dpo_lite.data.packing import Batch, Encoded
from dpo_lite.errors import memory_ran_out
from dpo_lite.model.layers import decoder_of, kinds, layer_lists
from dpo_lite.model.recompute import count_selective
from dpo_lite.model.scoring import Way, lay_out, response_logps, scoring_context
from dpo_lite.model.tiles import tiles_for_a_while


class Kept(NamedTuple):
    """Bytes that the backward pass needs of the layers: all; by ``selective`` alone; by tiles."""

    all: float
    selective: float
    tiled: float

    def per(self, count: int) -> Kept:
        return Kept(*(size / count for size in self))


@dataclass(frozen=True)
class Pass:
    """What a model is run on, and how; ``fuse``: see ``scoring_context``."""

    examples: Sequence[Encoded]
    way: Way
    dtype: torch.dtype
    fuse: bool | None = None
    per_token: Collection[str] = ()  # classes of the parts that may run in tiles


def by_kind(lm: torch.nn.Module, measure: Callable[[], Kept]) -> tuple[Kept, float]:
    """Bytes kept in all layers, and outside of them, by what ``measure`` finds in few of them."""
    ((name, layers),) = layer_lists(lm).items()
    # The last of a kind: what later layers share with it (keys and values) is then there.
    alike = sorted(kinds(layers), key=lambda places: places[-1])
    once = [places[-1] for places in alike]

    def measured(chosen: list[int]) -> Kept:
        with _cut(lm, name, layers, chosen):
            return measure()

    least = measured(once)
    total, outside = Kept(0.0, 0.0, 0.0), least.all
    for places in alike:
        more = measured(sorted([*once, places[-1]]))
        share = Kept(*(m - a for m, a in zip(more, least, strict=True)))
        total = Kept(*(t + len(places) * s for t, s in zip(total, share, strict=True)))
        outside -= share.all
    return total, outside


@contextmanager
def _cut(
    lm: torch.nn.Module, name: str, layers: ModuleList, chosen: Sequence[int]
) -> Iterator[None]:
    """Inside, the model has the chosen layers, and lists of its config that name each layer fit."""
    text, before = lm.config.get_text_config(), {}
    whole = len(layers)
    for key, value in list(vars(text).items()):
        if isinstance(value, (list, tuple)) and len(value) == whole:
            before[key] = value
            vars(text)[key] = [value[place] for place in chosen]
    before["num_hidden_layers"] = text.num_hidden_layers
    text.num_hidden_layers = len(chosen)
    decoder = decoder_of(lm)
    setattr(decoder, name, ModuleList(layers[place] for place in chosen))
    try:
        yield
    finally:
        setattr(decoder, name, layers)
        vars(text).update(before)


def kept(model: PeftModel, run: Pass) -> Kept:
    """Bytes that autograd keeps, and of these what ``selective`` and tiles would, by forward
    passes."""
    batch = lay_out(run.examples, run.way).to(model.device)
    how = batch, run.dtype, run.way, run.fuse
    with count_selective(model) as counter:
        everything = kept_bytes(model, *how)
    if not run.per_token:
        return Kept(everything, counter.bytes, 0.0)
    with tiles_for_a_while(model, batch.input_ids.numel() // 2, run.per_token):
        try:
            return Kept(everything, counter.bytes, kept_bytes(model, *how))
        except Exception as error:  # foreign code, for whole rows alone: there are no tiles then
            if memory_ran_out(error):
                raise
            return Kept(everything, counter.bytes, 0.0)


def kept_bytes(
    model: PeftModel, batch: Batch, dtype: torch.dtype, way: Way, fuse: bool | None = None
) -> int:
    """Bytes that autograd keeps of the policy's forward pass, each storage once, none of those that
    are the model's own."""
    own = [*model.parameters(), *model.buffers()]
    parameters = {p.untyped_storage()._cdata for p in own}
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters:
            storages[storage._cdata] = storage  # held, so that no other takes its address
        return tensor.detach()  # itself, it would hold its own node, and so all of the pass

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        scoring_context(model, batch, dtype, fuse),
    ):
        scores = response_logps(model, batch, way)
    total = sum(storage.nbytes() for storage in storages.values())
    del scores
    return total
