"""The layers of a text model: where they stand, and how many there are of each kind."""

from __future__ import annotations

import torch


def decoder_of(lm: torch.nn.Module) -> torch.nn.Module:
    """The text model inside of a transformers model."""
    named = lm.get_decoder() if hasattr(lm, "get_decoder") else lm
    return next((module for module in named.modules() if _lists_in(module)), named)


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
