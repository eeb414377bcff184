"""Nothing in a model is left to chance: no dropout, and no router that jitters or draws."""

from __future__ import annotations

from functools import partial

import torch
from transformers import PreTrainedConfig

from dpo_lite.model.four_bits import reads_while_training

JITTER = "jitter"
CHANCE = ("dropout", "pdrop", JITTER)


def disable_dropout(model: torch.nn.Module) -> None:
    """Take all chance out of a model: policy and reference must be the same network at step 0.

    Dropout stands in modules, in their numbers and in the configuration's; routers of some mixtures
    also jitter, and draw experts while they train. These, and modules that while they train take
    their layers' weights without the layers, stay as they are for answers.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "config"):
            _without_chance(module.config.__dict__)
        _without_chance(module.__dict__)
        if any(JITTER in key for key in module.__dict__) or reads_while_training(module):
            module.eval().train = partial(_stay, module)


def _without_chance(values: dict) -> None:
    """Set those numbers to zero that say how much is left to chance."""
    for key, value in values.items():
        if isinstance(value, float) and any(word in key for word in CHANCE):
            values[key] = 0.0
        elif isinstance(value, PreTrainedConfig):
            _without_chance(value.__dict__)


def _stay(module: torch.nn.Module, mode: bool = True) -> torch.nn.Module:
    """In place of a module's ``train``: its mode does not change."""
    return module
