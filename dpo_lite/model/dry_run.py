"""What an update of a base costs in memory, found by running its own code on tensors without data.

The base is built from its config alone on PyTorch's fake tensors: every operation runs, nothing is
computed and nothing is allocated. What autograd would keep for the backward pass is counted as it
goes by. So the casts of PEFT and of autocast, the attention over packed rows and the frozen head
are all in the count, for any architecture, and no weights are loaded. It runs with one layer of
each kind, and with one more of one kind at a time: the difference is such a layer's share. Where a
model cannot be cut so, all of it runs. A loaded base is measured the same way, so that a card needs
no more room for it than for two layers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from peft import PeftModel
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import ModuleList

from dpo_lite.data.packing import Batch, Encoded
from dpo_lite.errors import UserError, memory_ran_out
from dpo_lite.model import brought
from dpo_lite.model.attach import attach
from dpo_lite.model.base import disable_dropout
from dpo_lite.model.experts import shape_of, use_own_products
from dpo_lite.model.forest_verdict import forest_verdict
from dpo_lite.model.four_bits import would_pack
from dpo_lite.model.fresh import fresh_config
from dpo_lite.model.fused_modules import fuse_modules
from dpo_lite.model.host_embedding import parkable_numbers
from dpo_lite.model.known_layers import make_known
from dpo_lite.model.layers import decoder_of, kinds, layer_lists
from dpo_lite.model.own_start import start_at, start_bytes
from dpo_lite.model.recompute import count_selective, decoder_layers
from dpo_lite.model.roles import POLICY
from dpo_lite.model.scoring import (
    Way,
    causal_lm,
    laid_out_tokens,
    lay_out,
    response_logps,
    scoring_context,
)
from dpo_lite.model.sharding import at_once, gathered_bytes
from dpo_lite.model.text_model import from_config
from dpo_lite.model.tiles import parts_of, tiles_for_a_while
from dpo_lite.model.weights import (
    NF4_BITS,
    Held,
    Multiplied,
    foretold_bytes,
    held,
    multiplied,
    nbytes,
)
from dpo_lite.recipe import Recipe

# What does not run is tried in another way or told in a sentence, without PyTorch's own traceback.
logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Costs:
    """Bytes, and numbers of parameters, of a base with its adapter."""

    weights: int  # the frozen base as it lies in memory
    trained: int  # parameters of the adapter
    linear: int  # parameters that every token is multiplied with, the head left out
    head: int  # those of the head, for scored tokens only
    layers: int
    recomputable: bool  # whether a layer can be run again in the backward pass
    layer: float  # kept for the backward pass, per token and layer
    selective: float  # of that the outputs of products and attention
    tiled: float  # kept of a layer whose parts that act on single tokens run in tiles; 0: none do
    rest: float  # kept outside of the layers, per token
    hidden: int  # size of the hidden state
    widest: int  # parameters that are unpacked at a time, of the largest product
    broadest: int  # the larger side of that product
    broadest_outside: int  # of the largest product that does not run in tiles
    vocabulary: int
    embedding: int  # bytes of the embeddings that can live on the host
    element: int  # bytes of a number in the forward pass
    held: Held  # which weights are in 4 bits
    gathered: int = 0  # bytes of weights that lie whole at a time, were they divided over cards


def costs_of_config(
    config,
    recipe: Recipe,
    dtype: torch.dtype,
    examples: Sequence[Encoded],
    way: Way = "forest",
    fuse: bool = False,
) -> Costs:
    """Costs of training a base that is not loaded, on examples like these, in ``dtype``.

    ``fuse``: with the fused attention of an NVIDIA card.
    """
    tokens, run = laid_out_tokens(examples, way), _Run(examples, way, dtype, fuse)
    run = replace(run, per_token=forest_verdict(config).per_token)
    try:
        total, rest = _dry_by_kind(config, recipe, run)
    except Exception:  # its code needs all of its layers; what is truly wrong shows again
        total, rest = _all_layers(config, recipe, run), 0.0
    model, packed = _on_meta(config, recipe, dtype)
    lm, element = causal_lm(model), torch.finfo(dtype).bits // 8

    def foretold(part: torch.nn.Module) -> int:
        return foretold_bytes(part, packed, element, brought.method(config))

    weights = foretold(lm) + start_bytes(model)
    per_token, held_then = total.per(tokens), held(lm, packed)
    costs = _costs(model, weights, per_token, rest / tokens, element, held_then, run.per_token)
    return replace(costs, gathered=at_once(lm, foretold))


def divided(costs: Costs, cards: int) -> Costs:
    """The costs on each of so many cards that the weights are divided over (``sharding``).

    The scales of weights in 4 bits stay whole.
    """
    scales = int(costs.held.packed * (NF4_BITS - 4) / 8)
    parts = (costs.weights - scales) // cards
    return replace(costs, weights=scales + parts + costs.gathered, embedding=0)


def costs_of_model(
    model: PeftModel, dtype: torch.dtype, examples: Sequence[Encoded], way: Way
) -> Costs:
    """Costs of a loaded model, from forward passes over these examples through few of its layers.

    Raises torch.OutOfMemoryError where not even these have room.
    """
    tokens, lm = laid_out_tokens(examples, way), causal_lm(model)
    run = _Run(examples, way, dtype)
    if model.device.type == "cuda":  # without a card nothing is given up for memory
        run = replace(run, per_token=forest_verdict(lm.config, lm).per_token)

    def measure() -> Kept:
        return _kept(model, run)

    try:
        total, rest = _by_kind(lm, measure)
    except Exception as error:  # its code needs all of its layers; what is truly wrong shows again
        if memory_ran_out(error):
            raise
        total, rest = measure(), 0.0
    weights = sum(nbytes(p) for p in model.parameters() if not p.requires_grad)
    weights += start_bytes(model) + gathered_bytes(lm)
    element, held_now = torch.finfo(dtype).bits // 8, held(lm)
    per_token = total.per(tokens)
    return _costs(model, weights, per_token, rest / tokens, element, held_now, run.per_token)


class Kept(NamedTuple):
    """Bytes that the backward pass needs of the layers: all; by ``selective`` alone; by tiles."""

    all: float
    selective: float
    tiled: float

    def per(self, count: int) -> Kept:
        return Kept(*(size / count for size in self))


@dataclass(frozen=True)
class _Run:
    """What a model is run on, and how."""

    examples: Sequence[Encoded]
    way: Way
    dtype: torch.dtype
    fuse: bool | None = None
    per_token: Collection[str] = ()  # classes of the parts that may run in tiles


def _costs(
    model: PeftModel,
    weights: int,
    kept: Kept,
    rest: float,
    element: int,
    weights_held: Held,
    tiled: Collection[str],
) -> Costs:
    lm = causal_lm(model)
    layers = lm.config.get_text_config().num_hidden_layers
    head = lm.get_output_embeddings().weight
    products = multiplied(lm)
    widest = max(products, key=lambda p: p.at_once)
    inside = {id(p) for part in parts_of(lm, tiled) for p in part.parameters()}
    outside = [p for p in products if id(p.weight) not in inside]
    return Costs(
        weights=weights,
        trained=sum(p.numel() for p in model.parameters() if p.requires_grad),
        linear=int(sum(shape_of(p.weight).numel() * p.used for p in products)),
        head=head.numel(),
        layers=layers,
        recomputable=bool(decoder_layers(lm)),
        layer=kept.all / layers,
        selective=kept.selective / layers,
        tiled=kept.tiled / layers,
        rest=rest,
        hidden=head.shape[1],
        widest=widest.at_once,
        broadest=_side(widest),
        broadest_outside=_side(max(outside, key=lambda p: p.at_once)) if outside else 0,
        vocabulary=head.shape[0],
        embedding=parkable_numbers(lm) * element,
        element=element,
        held=weights_held,
    )


def _side(product: Multiplied) -> int:
    """The larger side of a product."""
    return max(shape_of(product.weight)[-2:])


def _by_kind(lm: torch.nn.Module, measure: Callable[[], Kept]) -> tuple[Kept, float]:
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


def _dry_by_kind(config, recipe: Recipe, run: _Run) -> tuple[Kept, float]:
    model, _ = _on_meta(config, recipe, run.dtype)

    def measure() -> Kept:
        _from_meta(model)
        return _kept(model.train(), run)

    with FakeTensorMode(allow_non_fake_inputs=True):
        return _by_kind(causal_lm(model), measure)


def _all_layers(config, recipe: Recipe, run: _Run) -> Kept:
    model, _ = _on_meta(config, recipe, run.dtype)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            _from_meta(model)
            return _kept(model.train(), run)
    except UserError:
        raise
    except Exception as error:
        kind, fault = config.get_text_config().model_type, str(error).strip().split("\n")[0]
        raise UserError(
            f"model.base: {kind} cannot be run without data, so there is no plan ({fault}); a run's"
            " preflight measures the loaded model."
        ) from error


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


def _kept(model: PeftModel, run: _Run) -> Kept:
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


def _on_meta(config, recipe: Recipe, dtype: torch.dtype) -> tuple[PeftModel, set[int]]:
    """The base with a fresh adapter and without data; ids of weights that would be in 4 bits."""
    config = deepcopy(config)
    with torch.device("meta"):
        base = from_config(config, dtype=dtype)
        base.requires_grad_(False)
        base.config.use_cache = False
        make_known(base)
        use_own_products(base)
        disable_dropout(base)
        fuse_modules(base)
        packed = would_pack(base, recipe.model.quantization == "nf4")
        model = attach(base, fresh_config(base, recipe.adapter), POLICY)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        if recipe.adapter.init != "default":
            start_at(model, POLICY, recipe.adapter.init, recipe.train.seed)
    return model, packed


def _from_meta(model: PeftModel) -> None:
    """Put empty tensors where a model has some on meta; under FakeTensorMode they are fake."""
    for module in model.modules():
        for name, old in list(module._parameters.items()):
            if old is not None and old.is_meta:
                new = torch.empty(old.shape, dtype=old.dtype)
                module._parameters[name] = torch.nn.Parameter(new, requires_grad=old.requires_grad)
        for name, old in list(module._buffers.items()):
            if old is not None and old.is_meta:
                module._buffers[name] = torch.empty(old.shape, dtype=old.dtype)
    causal_lm(model).tie_weights()
