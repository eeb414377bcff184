"""What a recipe's fresh adapter is to PEFT on a base."""

from __future__ import annotations

import re

import torch

from dpo_lite.bounded import at_most
from dpo_lite.errors import UserError
from dpo_lite.model.attach import Config, names_of
from dpo_lite.model.scoring import SCALAR_HEAD
from dpo_lite.model.targets import all_linear
from dpo_lite.recipe import AdapterSection, Recipe

PATTERN_SECONDS = 5


def fresh_config(lm: torch.nn.Module, section: AdapterSection, head: bool = False) -> Config:
    """What a recipe's adapter is to PEFT on a transformers model.

    With ``head`` it has a scalar head of its own. Raises UserError where the base has no experts to
    train, or experts of a kind that cannot be.
    """
    found = all_linear(lm, section.experts)
    modules: set[str] | str
    if section.targets == "all-linear":
        modules = names_of(lm, found.modules)
    else:
        modules = section.targets if isinstance(section.targets, str) else set(section.targets)
        if isinstance(modules, str):
            _try_pattern(modules, lm)
    if section.experts and not found.trains_experts:
        kind = "has experts of a kind that no adapter fits" if found.has_experts else "has none"
        raise UserError(f"adapter.experts: this base {kind}; set adapter.experts=false.")
    return Config(
        r=section.r,
        lora_alpha=section.alpha,
        use_dora=section.kind == "dora",
        use_rslora=section.rslora,
        target_modules=modules,
        target_parameters=_ends(found.parameters) or None,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
        modules_to_save=[SCALAR_HEAD] if head else None,
    )


def _try_pattern(pattern: str, lm: torch.nn.Module) -> None:
    """Raises UserError where matching it would not end: PEFT matches every name in the same way."""
    words = (
        f"adapter.targets: the pattern takes over {PATTERN_SECONDS} s on this base's names; write"
        " it without repetitions in one another, or as a list of names."
    )
    with at_most(PATTERN_SECONDS, words):
        for name, _ in lm.named_modules():
            re.fullmatch(pattern, name)


def left_out(lm: torch.nn.Module, recipe: Recipe) -> str | None:
    """Which layers a fresh adapter leaves out that ``all-linear`` might be thought to take in."""
    section = recipe.adapter
    if recipe.model.adapter or section.targets != "all-linear":
        return None
    return all_linear(lm, section.experts).words()


def _ends(parameters: list[str]) -> list[str]:
    """Of experts' weights what all layers' names end with: ``experts.down_proj``."""
    return sorted({".".join(name.split(".")[-2:]) for name in parameters})
