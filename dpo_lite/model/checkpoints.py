"""The policy's adapter in a checkpoint: plain LoRA for whoever reads it, exact for going on."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel, set_peft_model_state_dict

from dpo_lite.errors import UserError
from dpo_lite.model.adapter_files import WEIGHTS
from dpo_lite.model.attach import names_as_they_are
from dpo_lite.model.own_start import has_start, load_start, save_plain, save_start
from dpo_lite.model.roles import POLICY
from dpo_lite.model.tensor_files import load_tensors


def write_start(model: torch.nn.Module, folder: Path) -> None:
    """Make a checkpoint that was just saved what it must be, where the policy has a start."""
    if has_start(model, POLICY):
        save_plain(model, POLICY, folder)
        save_start(model, POLICY, folder)


def save_checkpoint(model: PeftModel, folder: Path) -> None:
    model.save_pretrained(str(folder), selected_adapters=[POLICY], save_embedding_layers=False)
    write_start(model, folder)


def load_checkpoint(model: PeftModel, folder: Path) -> None:
    """The policy bit by bit as it was when the checkpoint was saved."""
    if has_start(model, POLICY):
        load_start(model, POLICY, folder)
    else:
        load_adapter(model, folder / WEIGHTS, POLICY)


def load_adapter(model: PeftModel, file: Path, name: str) -> None:
    """Tensors into an adapter that the model has, by the names that they were saved under."""
    tensors = load_tensors(file)
    try:
        with names_as_they_are():
            set_peft_model_state_dict(model, tensors, adapter_name=name)
    except RuntimeError as error:  # of another shape
        raise UserError(
            f"{file} does not fit the adapter that the recipe asks for; put the section `adapter` "
            "back as it was, or start a new run."
        ) from error
