"""A saved adapter on a base, under any name: all of it, and nothing else is changed."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict

from dpo_lite.errors import UserError
from dpo_lite.model.adapter_files import WEIGHTS, adapter_folder, config_of
from dpo_lite.model.adapter_names import renaming
from dpo_lite.model.adapter_settings import HEADED, refusal
from dpo_lite.model.attach import attach_saved
from dpo_lite.model.base_copies import is_of_base, without_copies
from dpo_lite.model.heads import attach_head
from dpo_lite.model.precision import as_it_was_trained
from dpo_lite.model.safetensors_header import tensor_places
from dpo_lite.model.scoring import SCALAR_HEAD, causal_lm
from dpo_lite.model.stacking import Adapter
from dpo_lite.model.targets import plain_name
from dpo_lite.model.tensor_files import load_tensors

HEAD_WEIGHT = f"base_model.model.{SCALAR_HEAD}.weight"


def call_headed(model: PeftModel, name: str) -> None:
    """Have the adapter saved as one for sequence classification, which is what loads its head."""
    model.peft_config[name].task_type = HEADED


def read_adapter(model: torch.nn.Module, adapter: str | Path) -> Adapter:
    """An adapter's files, without copies of the model's own weights."""
    folder = adapter_folder(str(adapter))
    config, tensors = config_of(folder), load_tensors(folder / WEIGHTS)
    if why := refusal(config):
        raise ValueError(f"it {why}")
    if any(map(is_of_base, tensors)):
        named = causal_lm(model).named_parameters(remove_duplicate=False)
        weights = {plain_name(name): weight for name, weight in named}
        tensors = without_copies(tensors, weights.get)
    return Adapter(config, tensors)


def add_saved(
    model: torch.nn.Module, adapter: Adapter | str | Path, name: str, head: bool, trained: bool
) -> PeftModel:
    """The model with a saved adapter under this name, nothing else changed in what is worn.

    Not by PEFT's loader: that takes the base of an adapter with a head for a classifier, beside
    whose adapter none without a head can stand. The base then computes in what that run did, where
    that was more than fp16. Raises ValueError, OSError or RuntimeError.
    """
    if isinstance(adapter, Adapter):
        saved = adapter
    else:
        saved = read_adapter(model, adapter)
        as_it_was_trained(model, adapter_folder(str(adapter)))
    settings = saved.config | {"task_type": "CAUSAL_LM"}
    settings["modules_to_save"] = [SCALAR_HEAD] if head else None
    if head:
        attach_head(model)
    found = attach_saved(model, settings, saved.tensors, name, trained)
    if head:
        call_headed(found, name)
    return found


def check_all_loaded(model: PeftModel, folder: Path, name: str, role: str, key: str) -> None:
    """PEFT leaves out tensors that find no layer, and says so in a warning that nobody reads."""
    loaded = get_peft_model_state_dict(model, adapter_name=role, save_embedding_layers=False)
    own = [name for name in tensor_places(folder / WEIGHTS) if not is_of_base(name)]
    saved = set(map(renaming(causal_lm(model), own).tensor, own))
    fresh_head = {HEAD_WEIGHT} - saved
    if strangers := sorted(saved ^ set(loaded) - fresh_head):
        raise UserError(
            f"{key}: {name} does not fit this base: {len(strangers)} of its tensors have "
            f"no counterpart, such as {strangers[0]}; check model.base."
        )
