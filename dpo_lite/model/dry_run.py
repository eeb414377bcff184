"""What an update of a base costs in memory, found by running its own code on tensors without data.

The base is built from its config alone on PyTorch's fake tensors: every operation runs, nothing is
computed and nothing is allocated. What autograd would keep for the backward pass is counted as it
goes by. So the casts of PEFT and of autocast, the attention over packed rows and the frozen head
are all in the count, for any architecture, and no weights are loaded. It runs with few of its
layers (``kept_bytes``); where a model cannot be cut so, with all of them. A loaded base is measured
the same way, so that a card needs no more room for it than for two layers.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from peft import PeftModel
from torch._subclasses.fake_tensor import FakeTensorMode

from dpo_lite.data.packing import Encoded
from dpo_lite.errors import UserError, memory_ran_out
from dpo_lite.model import brought
from dpo_lite.model.attach import attach
from dpo_lite.model.chance import disable_dropout
from dpo_lite.model.experts import shape_of, use_own_products
from dpo_lite.model.forest_verdict import forest_verdict
from dpo_lite.model.four_bits import would_pack
from dpo_lite.model.fresh import fresh_config
from dpo_lite.model.fused_modules import fuse_modules
from dpo_lite.model.host_embedding import parkable_numbers
from dpo_lite.model.kept_bytes import Kept, Pass, by_kind, kept
from dpo_lite.model.known_layers import make_known
from dpo_lite.model.own_start import start_at, start_bytes
from dpo_lite.model.recompute import decoder_layers
from dpo_lite.model.roles import POLICY
from dpo_lite.model.scoring import Way, causal_lm, laid_out_tokens
from dpo_lite.model.sharding import at_once, gathered_bytes
from dpo_lite.model.text_model import from_config
from dpo_lite.model.tiles import parts_of
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
    tokens, run = laid_out_tokens(examples, way), Pass(examples, way, dtype, fuse)
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
    run = Pass(examples, way, dtype)
    if model.device.type == "cuda":  # without a card nothing is given up for memory
        run = replace(run, per_token=forest_verdict(lm.config, lm).per_token)

    def measure() -> Kept:
        return kept(model, run)

    try:
        total, rest = by_kind(lm, measure)
    except Exception as error:  # its code needs all of its layers; what is truly wrong shows again
        if memory_ran_out(error):
            raise
        total, rest = measure(), 0.0
    weights = sum(nbytes(p) for p in model.parameters() if not p.requires_grad)
    weights += start_bytes(model) + gathered_bytes(lm)
    element, held_now = torch.finfo(dtype).bits // 8, held(lm)
    per_token = total.per(tokens)
    return _costs(model, weights, per_token, rest / tokens, element, held_now, run.per_token)


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


def _dry_by_kind(config, recipe: Recipe, run: Pass) -> tuple[Kept, float]:
    model, _ = _on_meta(config, recipe, run.dtype)

    def measure() -> Kept:
        _from_meta(model)
        return kept(model.train(), run)

    with FakeTensorMode(allow_non_fake_inputs=True):
        return by_kind(causal_lm(model), measure)


def _all_layers(config, recipe: Recipe, run: Pass) -> Kept:
    model, _ = _on_meta(config, recipe, run.dtype)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            _from_meta(model)
            return kept(model.train(), run)
    except UserError:
        raise
    except Exception as error:
        kind, fault = config.get_text_config().model_type, str(error).strip().split("\n")[0]
        raise UserError(
            f"model.base: {kind} cannot be run without data, so there is no plan ({fault}); a run's"
            " preflight measures the loaded model."
        ) from error


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
