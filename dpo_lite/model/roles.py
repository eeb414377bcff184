"""One base, many roles: every role is an adapter, and a role is worn inside a ``with`` block.

The policy carries PEFT's default adapter name, so that what is saved loads with plain
``PeftModel.from_pretrained``. Nothing outside this file touches ``set_adapter`` or
``disable_adapter``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors.torch import load_file

from dpo_lite.adapters import WEIGHTS, adapter_folder, check_adapter
from dpo_lite.errors import UserError
from dpo_lite.model.stacking import Adapter, concatenated, fresh_beside
from dpo_lite.recipe import AdapterSection
from dpo_lite.tensor_files import tensor_places

POLICY = "default"
START = "start"


def add_policy(base: torch.nn.Module, section: AdapterSection, seed: int) -> PeftModel:
    """Put a fresh LoRA adapter on the base: fp32 masters, no dropout, B = 0 (policy = base)."""
    torch.manual_seed(seed)
    config = LoraConfig(
        r=section.r,
        lora_alpha=section.alpha,
        target_modules=section.targets,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    try:
        model = get_peft_model(base, config, adapter_name=POLICY)
    except ValueError as error:
        raise UserError(
            f"adapter.targets: {str(error).splitlines()[0]} `all-linear` fits every model."
        ) from error
    return _checked(model)


def continue_policy(
    base: torch.nn.Module,
    adapter: str,
    reference: Literal["base", "start"],
    base_id: str | None = None,
    extra_r: int = 0,
    seed: int = 0,
) -> PeftModel:
    """Load an adapter to go on training; with ``reference: start`` also a frozen copy of it.

    ``base_id`` is the base's name, which the adapter's must agree with. ``extra_r`` fresh ranks
    stand beside its own. They add nothing at first, so the policy starts where the adapter is, and
    what is saved in the end is one adapter over the base.
    """
    folder = adapter_folder(adapter)
    config = check_adapter(folder, base_id, adapter)
    if extra_r:
        start = Adapter(config, load_file(folder / WEIGHTS))
        model = _on_base(base, concatenated(start, fresh_beside(start, extra_r, seed)), adapter)
    else:
        model = load_policy(base, folder)
    _check_all_loaded(model, folder, adapter)
    if reference == "start":
        add_start(model, folder)
    with policy(model):
        return _checked(model)


def load_policy(base: torch.nn.Module, adapter: str | Path) -> PeftModel:
    """The base with a saved adapter as its (trainable) policy."""
    try:
        return PeftModel.from_pretrained(
            base, str(adapter), adapter_name=POLICY, is_trainable=True, use_safetensors=True
        )
    except (ValueError, OSError, RuntimeError) as error:
        raise _does_not_load(adapter, error) from error


def _on_base(base: torch.nn.Module, adapter: Adapter, name: str) -> PeftModel:
    """The base with an adapter that is in memory as its (trainable) policy."""
    known = LoraConfig.__dataclass_fields__
    settings = {key: value for key, value in adapter.config.items() if key in known}
    config = LoraConfig(**settings | {"inference_mode": False, "lora_dropout": 0.0})
    try:
        model = get_peft_model(base, config, adapter_name=POLICY)
        set_peft_model_state_dict(model, adapter.tensors, adapter_name=POLICY)
    except (ValueError, RuntimeError) as error:
        raise _does_not_load(name, error) from error
    return model


def _does_not_load(adapter: str | Path, error: Exception) -> UserError:
    return UserError(
        f"model.adapter: {adapter} does not load on this base: {str(error).splitlines()[0]}"
    )


def _check_all_loaded(model: PeftModel, folder: Path, name: str) -> None:
    """PEFT leaves out tensors that find no layer, and says so in a warning that nobody reads."""
    loaded = get_peft_model_state_dict(model, adapter_name=POLICY, save_embedding_layers=False)
    saved = tensor_places(folder / WEIGHTS)
    if strangers := sorted(set(saved) ^ set(loaded)):
        raise UserError(
            f"model.adapter: {name} does not fit this base: {len(strangers)} of its tensors have "
            f"no counterpart, such as {strangers[0]}; check model.base."
        )


def add_start(model: PeftModel, adapter: str | Path) -> None:
    """Load a frozen adapter that ``reference`` will wear."""
    model.load_adapter(str(adapter), START, is_trainable=False, use_safetensors=True)
    model.set_adapter(POLICY)


@contextmanager
def policy(model: PeftModel) -> Iterator[None]:
    """Score or generate as the policy: its adapter on and trainable."""
    before = model.active_adapter
    model.set_adapter(POLICY)
    try:
        yield
    finally:
        if before != POLICY:
            model.set_adapter(before)


@contextmanager
def reference(model: PeftModel) -> Iterator[None]:
    """Score or generate as the reference: the frozen start adapter where there is one, else none.

    Which of the two it is was fixed when the model was built and is visible in its adapters.
    """
    if START not in model.peft_config:
        with model.disable_adapter():
            yield
        return
    before = model.active_adapter
    model.set_adapter(START, inference_mode=True)
    try:
        yield
    finally:
        model.set_adapter(before)


def reference_name(model: PeftModel) -> str:
    return "start adapter, frozen" if START in model.peft_config else "base, adapters off"


def trainable_parameters(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def save_policy(model: PeftModel, folder: Path, base_id: str, revision: str | None) -> None:
    """Write the policy's adapter in PEFT's own layout, naming the base as the recipe does."""
    config = model.peft_config[POLICY]
    config.base_model_name_or_path = base_id
    config.revision = revision
    # "auto" would ask the Hub whether the vocabulary was resized; ours never is.
    model.save_pretrained(str(folder), selected_adapters=[POLICY], save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's placeholder card says nothing


def _checked(model: PeftModel) -> PeftModel:
    trained = trainable_parameters(model)
    if not trained:
        raise UserError("The adapter has no trainable parameters; check adapter.targets.")
    wrong = {parameter.dtype for parameter in trained} - {torch.float32}
    if wrong:  # bf16 masters lose most updates at DPO's learning rates
        raise UserError(f"The adapter's parameters are {wrong}, not fp32; this is a fault.")
    return model
