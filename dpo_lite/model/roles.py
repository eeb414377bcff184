"""One base, many roles: every role is an adapter, and a role is worn inside a ``with`` block.

The policy carries PEFT's default adapter name, so that what is saved loads with plain
``PeftModel.from_pretrained``. Nothing outside this file touches ``set_adapter`` or
``disable_adapter`` but ``untouched``, which asks whether a model with adapters off is its base.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal

import torch
from peft import PeftModel
from safetensors.torch import save_file

from dpo_lite.errors import UserError
from dpo_lite.model.adapter_files import WEIGHTS, adapter_folder, check_adapter
from dpo_lite.model.attach import attach, tensors_for_plain_peft
from dpo_lite.model.fresh import fresh_config
from dpo_lite.model.heads import attach_head, head_width
from dpo_lite.model.own_start import has_start, save_plain, start_at
from dpo_lite.model.saved_adapter import (
    HEAD_WEIGHT,
    add_saved,
    call_headed,
    check_all_loaded,
    read_adapter,
)
from dpo_lite.model.scoring import causal_lm
from dpo_lite.model.stacking import Adapter, concatenated, fresh_beside
from dpo_lite.model.tensor_files import load_tensors
from dpo_lite.model.untouched import base_says, check_untouched
from dpo_lite.recipe import AdapterSection

POLICY = "default"  # what is trained: in task: reward it is the reward model
START = "start"
REWARD = "reward"
VALUE = "value"


def add_policy(
    base: torch.nn.Module, section: AdapterSection, seed: int, head: bool = False
) -> PeftModel:
    """Put a fresh LoRA adapter on the base: fp32 masters, no dropout, and it adds nothing yet.

    With ``head`` it has a scalar head of its own and is a reward model.
    """
    before = base_says(base)
    torch.manual_seed(seed)
    if head:
        attach_head(base)
    model = _with_fresh(base, section, POLICY, head)
    if head:
        call_headed(model, POLICY)
    if section.init != "default":
        start_at(model, POLICY, section.init, seed)
    check_untouched(model, before)
    return _checked(model)


def _with_fresh(
    model: torch.nn.Module, section: AdapterSection, name: str, head: bool
) -> PeftModel:
    try:
        return attach(model, fresh_config(causal_lm(model), section, head), name)
    except ValueError as error:
        fault = str(error).splitlines()[0]
        raise UserError(
            f"adapter.targets: {fault} `all-linear` fits nearly every model."
        ) from error


def continue_policy(
    base: torch.nn.Module,
    adapter: str,
    reference: Literal["base", "start"],
    base_id: str | None = None,
    extra_r: int = 0,
    seed: int = 0,
    head: bool = False,
) -> PeftModel:
    """Load an adapter to go on training; with ``reference: start`` also a frozen copy of it.

    ``base_id`` is the base's name, which the adapter's must agree with. ``extra_r`` fresh ranks
    stand beside its own. They add nothing at first, so the policy starts where the adapter is, and
    what is saved in the end is one adapter over the base. With ``head`` it becomes a reward model:
    it keeps the head that the adapter has, else begins with a zero one, and has no reference.
    """
    folder = adapter_folder(adapter)
    check_adapter(folder, base_id, adapter, head)
    before = base_says(base)
    if extra_r or head:
        try:
            whole = read_adapter(base, folder)
        except ValueError as error:
            raise _does_not_load(adapter, error) from error
        own_head = whole.tensors.pop(HEAD_WEIGHT, None)
        if extra_r:
            whole = concatenated(whole, fresh_beside(whole, extra_r, seed))
        if head:
            fresh_head = torch.zeros(1, head_width(base))
            whole.tensors[HEAD_WEIGHT] = fresh_head if own_head is None else own_head
        model = _on_base(base, whole, adapter, head)
    else:
        model = load_policy(base, folder)
    check_all_loaded(model, folder, adapter, POLICY, "model.adapter")
    if reference == "start" and not head:
        add_start(model, folder)
    check_untouched(model, before)
    with policy(model):
        return _checked(model)


def load_policy(base: torch.nn.Module, adapter: str | Path, head: bool = False) -> PeftModel:
    """The base with a saved adapter as its (trainable) policy, or as its reward model."""
    return _on_base(base, adapter, str(adapter), head)


def _on_base(
    base: torch.nn.Module, adapter: Adapter | str | Path, name: str, head: bool
) -> PeftModel:
    try:
        return add_saved(base, adapter, POLICY, head, trained=True)
    except (ValueError, OSError, RuntimeError) as error:
        raise _does_not_load(name, error) from error


def exchange_policy(model: PeftModel, adapter: str | Path) -> None:
    """Another saved adapter in place of the policy's, on the base that is loaded."""
    spare = "spare"  # a model of PEFT's must always have one
    for name, old in ((spare, POLICY), (POLICY, spare)):
        add_saved(model, adapter, name, head=False, trained=False)
        model.set_adapter(name)
        model.delete_adapter(old)


def _does_not_load(adapter: str | Path, error: Exception) -> UserError:
    return UserError(
        f"model.adapter: {adapter} does not load on this base: {str(error).splitlines()[0]}"
    )


def add_start(model: PeftModel, adapter: str | Path) -> None:
    """Load a frozen adapter that ``reference`` will wear."""
    add_saved(model, adapter, START, head=False, trained=False)
    model.set_adapter(POLICY)


def reward_role(number: int) -> str:
    """What the reward models beside a policy are called, from 0; the first as the only one is."""
    return f"{REWARD}{number + 1}" if number else REWARD


def add_reward(model: PeftModel, adapter: str | Path, number: int = 0) -> None:
    """Load a frozen reward model beside the policy; raises UserError where it does not fit."""
    _load_headed(model, adapter, reward_role(number), trained=False)


def add_value(model: PeftModel, section: AdapterSection, adapter: str | Path | None) -> None:
    """Add a trainable value function: a copy of a reward model, else fresh with a zero head."""
    attach_head(model)
    if adapter is not None:
        _load_headed(model, adapter, VALUE, trained=True)
    else:
        _with_fresh(model, section, VALUE, head=True)
        call_headed(model, VALUE)
        model.set_adapter(POLICY)


def _load_headed(model: PeftModel, adapter: str | Path, role: str, trained: bool) -> None:
    try:
        add_saved(model, adapter, role, head=True, trained=trained)
    except (ValueError, OSError, RuntimeError, KeyError) as error:
        raise UserError(
            f"ppo.reward: {adapter} does not load on this base: {str(error).splitlines()[0]}"
        ) from error
    check_all_loaded(model, Path(adapter), str(adapter), role, "ppo.reward")
    model.set_adapter(POLICY)


@contextmanager
def _worn(model: PeftModel, name: str, frozen: bool = False) -> Iterator[None]:
    """Wear an adapter, its parameters trainable or not, and put back the one that was on."""
    before = model.active_adapter
    model.set_adapter(name, inference_mode=frozen)
    try:
        yield
    finally:
        if before != name:
            model.set_adapter(before, inference_mode=before not in (POLICY, VALUE))


def policy(model: PeftModel) -> AbstractContextManager[None]:
    """Score or generate as the policy: its adapter on and trainable."""
    return _worn(model, POLICY)


def reward(model: PeftModel, number: int = 0) -> AbstractContextManager[None]:
    """Score as a frozen reward model that stands beside a policy."""
    return _worn(model, reward_role(number), frozen=True)


def value(model: PeftModel) -> AbstractContextManager[None]:
    """Estimate values: the value adapter on and trainable."""
    return _worn(model, VALUE)


@contextmanager
def reference(model: PeftModel) -> Iterator[None]:
    """Score or generate as the reference: the frozen start adapter where there is one, else none.

    Which of the two it is was fixed when the model was built and is visible in its adapters.
    """
    if START in model.peft_config:
        with _worn(model, START, frozen=True):
            yield
        return
    with model.disable_adapter():
        yield


def reference_name(model: PeftModel) -> str:
    return "start adapter, frozen" if START in model.peft_config else "base, adapters off"


def named_parameters(model: PeftModel, name: str) -> list[tuple[str, torch.nn.Parameter]]:
    """What an adapter trains, its head included, whether it is worn or not."""
    own = re.compile(rf"\.(lora_\w+|modules_to_save)\.{name}(\.|$)")
    return [(key, p) for key, p in model.named_parameters() if own.search(key)]


def parameters(model: PeftModel, name: str) -> list[torch.nn.Parameter]:
    """The same without the names."""
    return [parameter for _, parameter in named_parameters(model, name)]


def adapter_tensors(model: torch.nn.Module) -> list[torch.Tensor]:
    """All that its adapters hold, frozen ones, heads and starts (``own_start``) included."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return [t.detach() for key, t in named if ".lora_" in key or ".modules_to_save." in key]


def trainable_parameters(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def save_policy(model: PeftModel, folder: Path, base_id: str, revision: str | None) -> None:
    """Write the policy's adapter as plain PEFT reads it, naming the base as the recipe does."""
    config = model.peft_config[POLICY]
    config.base_model_name_or_path = base_id
    config.revision = revision
    # "auto" would ask the Hub whether the vocabulary was resized; ours never is.
    model.save_pretrained(str(folder), selected_adapters=[POLICY], save_embedding_layers=False)
    if has_start(model, POLICY):
        save_plain(model, POLICY, folder)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's placeholder card says nothing
    own = load_tensors(folder / WEIGHTS)
    named = tensors_for_plain_peft(model, own, POLICY)
    if named.keys() != own.keys():
        save_file(named, folder / WEIGHTS, metadata={"format": "pt"})


def _checked(model: PeftModel) -> PeftModel:
    trained = trainable_parameters(model)
    if not trained:
        raise UserError("The adapter has no trainable parameters; check adapter.targets.")
    wrong = {parameter.dtype for parameter in trained} - {torch.float32}
    if wrong:  # bf16 masters lose most updates at DPO's learning rates
        raise UserError(f"The adapter's parameters are {wrong}, not fp32; this is a fault.")
    return model
