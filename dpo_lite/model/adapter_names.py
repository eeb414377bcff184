"""An adapter's names as this model has them, whichever class it was made on.

transformers has several classes for one checkpoint of several senses, and has renamed them over the
years: the layer ``model.layers.0`` of the text class is ``model.language_model.layers.0`` of the
published one, and was ``language_model.model.layers.0``. Below the decoder the names are the same.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming

from dpo_lite.errors import UserError
from dpo_lite.model.layers import decoder_of
from dpo_lite.model.targets import plain_name
from dpo_lite.model.text_model import tower_modules

PREFIX = "base_model.model."
WRAPPERS = {"model", "language_model", "text_model", "transformer", "decoder", "thinker", "llm"}


@dataclass(frozen=True)
class Renaming:
    """What names begin with in the adapter and here, and what stands inside of them."""

    pairs: tuple[tuple[str, str], ...] = ()
    inside: tuple[tuple[str, str], ...] = ()

    def layer(self, name: str) -> str:
        for old, new in self.inside:
            name = replaced(name, old, new)
        for old, new in self.pairs:
            if name.startswith(old):
                return new + name.removeprefix(old)
        return name

    def tensor(self, name: str) -> str:
        if not name.startswith(PREFIX) or ".lora_" not in name:
            return name  # a scalar head, whose name is the same everywhere
        return PREFIX + self.layer(name.removeprefix(PREFIX))

    def settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Settings whose ranks and scales of single layers are by the names here."""
        patterns = {
            key: {self.layer(name): value for name, value in (settings.get(key) or {}).items()}
            for key in ("rank_pattern", "alpha_pattern")
            if key in settings
        }
        return settings | patterns


def layers_of(tensors: Collection[str]) -> set[str]:
    """The layers that an adapter's tensors belong to, by the adapter's names."""
    return {
        plain_name(name.removeprefix(PREFIX).partition(".lora_")[0])
        for name in tensors
        if ".lora_" in name
    }


def checkpoint_renamings(lm: torch.nn.Module) -> list[tuple[str, str]]:
    """What transformers renames in the names of a checkpoint's tensors: (there, here)."""
    rules = [
        (rule.source_patterns[0], rule.target_patterns[0])
        for rule in get_model_conversion_mapping(lm)
        if type(rule) is WeightRenaming
        if len(rule.source_patterns) == len(rule.target_patterns) == 1
    ]
    return [rule for rule in rules if re.fullmatch(r"[\w.]+", "".join(rule))]


def replaced(layer: str, old: str, new: str) -> str:
    """A layer's name with another part in it, of which the dot behind it may be one."""
    return f"{layer}.".replace(old, new).removesuffix(".")


def renaming(lm: torch.nn.Module, tensors: Collection[str]) -> Renaming:
    """From an adapter's names to those of this model; nothing where it is no class of this model's.

    Raises UserError where the adapter changes what is left out of this model.
    """
    layers = layers_of(tensors)
    modules = {plain_name(name): module for name, module in lm.named_modules()}
    if layers <= modules.keys():
        return Renaming()
    for rule in checkpoint_renamings(lm):
        if {replaced(layer, *rule) for layer in layers} <= modules.keys():
            return Renaming(inside=(rule,))
    if lost := sorted(layers & set(tower_modules(lm))):
        raise UserError(
            f"The adapter also changes {lost[0]}, which is no part of the text model; merge it "
            "into its base with PEFT and take that for a base."
        )
    text, head = decoder_of(lm), lm.get_output_embeddings()
    inside = next(f"{name}." if name else "" for name, module in modules.items() if module is text)
    below = {name.removeprefix(inside) for name in modules if name.startswith(inside)}
    last = next((name for name, module in modules.items() if module is head), "")
    pairs = set()
    for layer in layers:
        parts = layer.split(".")
        ends = (".".join(parts[start:]) for start in range(len(parts)))
        if end := next((end for end in ends if end in below), None):
            pairs.add((layer.removesuffix(end), inside))
        elif last and parts[-1] == last.rpartition(".")[2]:
            pairs.add((layer, last))
        else:
            return Renaming()
    begins = [old for old, new in pairs if new == inside]
    if len(begins) > 1 or not set("".join(begins).split(".")) <= WRAPPERS | {""}:
        return Renaming()
    return Renaming(tuple(sorted(pairs, key=lambda pair: -len(pair[0]))))
