"""An architecture with its checkpoint and the models that several columns need, made once each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from benchmarks.model_zoo.architectures import Architecture
from benchmarks.model_zoo.checkpoint import examples, save_checkpoint, unmodified
from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.model.choosing import ScoringChoice, choose_way
from dpo_lite.recipe import AdapterSection, ModelSection

ADAPTER = AdapterSection(r=4, alpha=8)
Cell = dict[str, Any]


class Missed(Exception):
    """What a column was to show is not so; the message is the number."""


@dataclass
class Case:
    """An architecture with all that several columns need, made when the first one asks."""

    architecture: Architecture
    folder: Path

    @cached_property
    def base(self) -> str:
        return save_checkpoint(self.architecture, self.folder / "base")

    @cached_property
    def whole(self) -> PeftModel:
        """The product's policy in 16 (here 32) bits, its adapter moved away from zero."""
        base = load_base(ModelSection(base=self.base, quantization="none"))
        model = roles.add_policy(base, ADAPTER, seed=0)
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in roles.trainable_parameters(model):
                parameter.add_(torch.randn_like(parameter) * 0.05)
        return model.train()

    @cached_property
    def adapter(self) -> str:
        """That policy as a run saves it."""
        roles.save_policy(self.whole, self.folder / "adapter", self.base, None)
        return str(self.folder / "adapter")

    @cached_property
    def plain(self) -> PeftModel:
        """The unmodified model with the saved adapter, by PEFT alone."""
        return PeftModel.from_pretrained(unmodified(self.base), self.adapter, is_trainable=True)

    @cached_property
    def packed(self) -> PeftModel:
        """The product's policy in 4 bits, with the saved adapter."""
        return roles.load_policy(load_base(ModelSection(base=self.base)), self.adapter).train()

    def forget(self) -> None:
        """Give the memory of the models back; what is on disk stays."""
        for name in ("whole", "plain", "packed"):
            self.__dict__.pop(name, None)

    @cached_property
    def choice(self) -> ScoringChoice:
        return choose_way(self.whole, examples())
