"""Put adapters on a base through PEFT, with names taken for what they are.

PEFT reads ``gate_proj``, ``up_proj``, ``down_proj`` and ``gate`` of some mixtures as the experts
and the router that older versions of transformers called so, wherever they stand. Here a name is a
layer of the model. What is saved names such layers by their weights (``target_parameters``), which
plain PEFT then takes as they are: the tensors are the same.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.utils import transformers_weight_conversion as conversion

from dpo_lite.model.adapter_names import layers_of, renaming
from dpo_lite.model.expert_adapter import ParamWrapper
from dpo_lite.model.experts import expert_modules
from dpo_lite.model.scoring import causal_lm
from dpo_lite.model.targets import plain_name, shortest
from dpo_lite.model.text_model import tower_modules


class Config(LoraConfig):
    """An adapter's settings, of which some are ``saved_as`` others, for plain PEFT to read."""

    saved_as: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | (self.saved_as or {})


def attach(model: torch.nn.Module, config: Config, name: str) -> PeftModel:
    """A base, or a model that has adapters, with one more: fresh, its names those of layers."""
    kinds = {type(module) for module in expert_modules(causal_lm(model)).values()}
    config._register_custom_module(dict.fromkeys(kinds, ParamWrapper))
    with _names_as_they_are():
        found = _put(model, config, name)
    found.peft_config[name].saved_as = _for_plain_peft(found, name)
    return found


def _put(model: torch.nn.Module, config: LoraConfig, name: str) -> PeftModel:
    if not isinstance(model, PeftModel):
        return get_peft_model(model, config, adapter_name=name)
    model.add_adapter(name, config)
    return model


def attach_saved(
    model: torch.nn.Module,
    settings: dict[str, Any],
    tensors: dict[str, torch.Tensor],
    name: str,
    trained: bool,
) -> PeftModel:
    """The same with the settings and tensors of adapter files.

    Which layers it has its tensors say; where they name none of the model's (they may come from an
    older transformers), PEFT finds them.
    """
    lm = causal_lm(model)
    renamed = renaming(lm, tensors)
    settings = renamed.settings(settings)
    tensors = {renamed.tensor(name): tensor for name, tensor in tensors.items()}
    known = {key: settings[key] for key in LoraConfig.__dataclass_fields__ if key in settings}
    config = Config(**known | {"inference_mode": not trained, "lora_dropout": 0.0})
    layers = _layers_of(lm, tensors)
    if layers is None:
        found = _put(model, config, name)
    else:
        experts = {plain_name(path) for path in expert_modules(lm)}
        linear = [path for path in layers if path not in experts]
        config.target_modules = _set(shortest(linear, _modules(lm))) if linear else None
        config.target_parameters = [
            parameter
            for parameter in config.target_parameters or []
            if not any(f"{path}.weight".endswith(parameter) for path in linear)
        ] or None
        found = attach(model, config, name)
    set_peft_model_state_dict(found, tensors, adapter_name=name)
    return found


def _for_plain_peft(model: PeftModel, name: str) -> dict[str, Any]:
    """What of an adapter's settings must be saved in another form for PEFT to find its layers."""
    lm, config = causal_lm(model), model.peft_config[name]
    linear = [
        plain_name(path)
        for path, module in lm.named_modules()
        if isinstance(module, LoraLayer) and not isinstance(module, ParamWrapper)
        if name in module.lora_A
    ]
    trial = copy.copy(config)
    trial.target_modules = {path.rpartition(".")[2] for path in linear}
    trial.target_parameters, trial.rank_pattern, trial.alpha_pattern = None, {}, {}
    before = set(trial.target_modules)
    conversion.convert_peft_config_for_transformers(trial, model=lm, conversions=None)
    lost = before - set(trial.target_modules)
    if not lost:
        # The published model has towers, whose layers may be called as those of the text model.
        return {"target_modules": shortest(linear, _modules(lm))} if tower_modules(lm) else {}
    by_name = [path for path in linear if path.rpartition(".")[2] not in lost]
    by_weight = [f"{path}.weight" for path in linear if path.rpartition(".")[2] in lost]
    weights = [plain_name(path) for path, _ in lm.named_parameters() if ".lora_" not in path]
    ends = shortest(by_weight, weights)
    return {
        "target_modules": shortest(by_name, _modules(lm)) if by_name else None,
        "target_parameters": sorted(
            {*(config.target_parameters or []), *(by_weight if isinstance(ends, str) else ends)}
        ),
    }


def names_of(lm: torch.nn.Module, modules: list[str]) -> set[str] | str:
    """Names of layers as short as PEFT can still tell them from all others."""
    return _set(shortest(modules, _modules(lm)))


def _modules(lm: torch.nn.Module) -> list[str]:
    """Names of all modules of the published model, without those of adapters."""
    names = [plain_name(path) for path, _ in lm.named_modules()] + tower_modules(lm)
    return list(dict.fromkeys(n for n in names if n and ".lora_" not in n))


def _set(names: list[str] | str) -> set[str] | str:
    return names if isinstance(names, str) else set(names)


def _layers_of(lm: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> list[str] | None:
    """The layers that an adapter's tensors belong to; None where the model does not have them."""
    paths = layers_of(tensors)
    return sorted(paths) if paths and paths <= set(_modules(lm)) else None


@contextmanager
def _names_as_they_are() -> Iterator[None]:
    """Inside, PEFT does not take names for those of an older transformers."""
    before = conversion.convert_peft_config_for_transformers
    conversion.convert_peft_config_for_transformers = lambda *arguments, **options: None
    try:
        yield
    finally:
        conversion.convert_peft_config_for_transformers = before
