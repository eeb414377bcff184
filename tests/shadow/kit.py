"""Parts of the kit that measures a card (benchmarks/gpu) on one that computes nothing, as JSON.

What only a card reaches of them runs here: its numbers say nothing, but for bytes.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

from tests.shadow.card import Card, at_hand  # before torch

# isort: split
import torch
from peft import PeftModel
from transformers import Trainer

from benchmarks.gpu import parts
from benchmarks.gpu.bench import Bench
from dpo_lite.model import roles
from dpo_lite.training import dpo
from tests.shadow import models
from tests.shadow.models import CARD
from tests.shadow.scenes import SMALL, recipe

REAL = roles.add_policy


def config(self, size, layers=None):
    return SMALL


def add_policy(base, section, seed, head=False):
    """Of a base that is no more than its config."""
    config, how, dtype = base
    with (
        patch.object(roles, "add_policy", REAL),
        patch.object(models, "compute_dtype", lambda device: dtype or torch.bfloat16),
    ):
        return models.on_card(config, recipe(how), head)


def limited(card):
    def set_fraction(fraction, *device):
        card.limit = None if fraction == 1 else int(fraction * card.total)

    return set_fraction


def figures(name, gib):
    """What a part finds on a card of so much memory: value and verdict of each figure."""
    part = next(part for part in parts.PARTS if part.name == name)
    module, _, function = part.look.partition(":")
    look = getattr(import_module(module), function)
    cuda = {
        "is_bf16_supported": lambda including_emulation=True: True,
        "set_device": lambda device: None,
        "max_memory_reserved": lambda *device: card.peak,
    }
    with tempfile.TemporaryDirectory() as folder, at_hand(Card(gib)) as card, ExitStack() as stack:
        cuda["set_per_process_memory_fraction"] = limited(card)
        for key, answer in cuda.items():
            stack.enter_context(patch.object(torch.cuda, key, answer))
        stack.enter_context(patch.object(Bench, "config", config))
        stack.enter_context(
            patch.object(
                Bench, "base", lambda self, config, how="nf4", dtype=None: (config, how, dtype)
            )
        )
        # Nothing is moved, or written: a fake weight can be neither.
        stack.enter_context(patch.object(PeftModel, "to", lambda model, *given: model))
        stack.enter_context(patch.object(Trainer, "_save_checkpoint", lambda *given: None))
        stack.enter_context(patch.object(roles, "add_policy", add_policy))
        stack.enter_context(patch.object(dpo, "check_identity", lambda *given: None))
        on = Bench(
            CARD,
            torch.bfloat16,
            False,
            ("0.5b",),
            "0.5b",
            Path(folder),
            time.time() + 600,
        )
        return {f["what"]: [f["value"], f["passed"]] for f in look(on)}


if __name__ == "__main__":
    print(json.dumps({name: figures(name, gib=24) for name in sys.argv[1:]}))
