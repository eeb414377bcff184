"""A scalar head beside the language model's own: for the reward model and the value function.

The head is a linear layer without bias on the last hidden state, named as transformers names it in
models for sequence classification. PEFT keeps one copy of it per adapter that saves it, so a role
wears its head together with its adapter, and what is saved loads with

    base = AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=1)
    model = PeftModel.from_pretrained(base, ADAPTER)

It starts at zero: the rewards of an untrained model are 0, and the loss of a pair is ln 2.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from dpo_lite.model.adapter_files import REWARD_FILE, mean_of
from dpo_lite.model.scoring import SCALAR_HEAD, causal_lm


def attach_head(model: torch.nn.Module) -> None:
    """Give the model a scalar head, frozen until an adapter takes a copy of it."""
    lm = causal_lm(model)
    if hasattr(lm, SCALAR_HEAD):
        return
    head = torch.nn.Linear(head_width(lm), 1, bias=False)
    torch.nn.init.zeros_(head.weight)
    setattr(lm, SCALAR_HEAD, head.to(lm.device).requires_grad_(False))


def head_width(lm: torch.nn.Module) -> int:
    """Numbers that a transformers model hands to its head; not always the width of its layers
    (OPT 350M)."""
    return lm.get_output_embeddings().weight.shape[1]


def head_is_zero(model: torch.nn.Module) -> bool:
    """Whether the head in use was never trained: then all rewards are 0."""
    head = getattr(causal_lm(model), SCALAR_HEAD, None)
    return head is not None and not head.weight.any().item()


def write_mean(adapter: Path, mean: float, responses: int) -> None:
    """Keep the mean reward of the training data, which centred rewards have subtracted."""
    facts = {"mean": mean, "responses": responses}
    (adapter / REWARD_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def read_mean(adapter: Path) -> float:
    """The mean to subtract; 0 for an adapter of another maker, which has none."""
    return mean_of(adapter) or 0.0
