"""The layers of a text model: where they stand, and how many there are of each kind."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel


def decoder_of(lm: torch.nn.Module) -> torch.nn.Module:
    """The text model inside of a transformers model: embedding, layers and last norm."""
    inside = lm
    while inner := _with_embedding(inside, lm.get_input_embeddings()):
        inside = inner
    return next((module for module in inside.modules() if _lists_in(module)), inside)


def _with_embedding(model: torch.nn.Module, embedding: torch.nn.Module) -> torch.nn.Module | None:
    """The model's part that is a model itself and has the embedding in it."""
    parts = (child for child in model.children() if isinstance(child, PreTrainedModel))
    return next((p for p in parts if any(m is embedding for m in p.modules())), None)


def layer_lists(lm: torch.nn.Module) -> dict[str, torch.nn.ModuleList]:
    """Lists of the text model's layers, by their names in it."""
    return _lists_in(decoder_of(lm))


def _lists_in(module: torch.nn.Module) -> dict[str, torch.nn.ModuleList]:
    """Lists of layers that have parts; a list of single matrices is none."""
    return {
        name: child
        for name, child in module.named_children()
        if isinstance(child, torch.nn.ModuleList)
        and any(next(layer.children(), None) is not None for layer in child)
    }


def kinds(layers: torch.nn.ModuleList) -> list[list[int]]:
    """Places of layers that are alike in their parts, shapes and settings, each kind's together."""
    found: dict[tuple, list[int]] = {}
    for place, layer in enumerate(layers):
        found.setdefault(_signature(layer), []).append(place)
    return list(found.values())


def _signature(layer: torch.nn.Module) -> tuple:
    shapes = tuple((name, tuple(p.shape)) for name, p in layer.named_parameters())
    settings = tuple(
        (name, key, value)
        for name, module in layer.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, (bool, str)) or "window" in key
    )
    return type(layer), shapes, repr(settings)
