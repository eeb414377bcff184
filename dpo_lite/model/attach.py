"""Put adapters on a base through PEFT, with names taken for what they are.

PEFT reads ``gate_proj``, ``up_proj``, ``down_proj`` and ``gate`` of some mixtures as the experts
and the router that older versions of transformers called so, wherever they stand. Here a name is a
layer of the model. What is saved names such layers by their weights (``target_parameters``), which
plain PEFT then takes as they are: the tensors are the same.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer, layer
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils import transformers_weight_conversion as conversion
from transformers.pytorch_utils import Conv1D

from dpo_lite.model.adapter_names import checkpoint_renamings, layers_of, renaming
from dpo_lite.model.dora import wear_dora
from dpo_lite.model.expert_adapter import ParamWrapper
from dpo_lite.model.experts import expert_modules
from dpo_lite.model.fused_lora import fuse_adapters
from dpo_lite.model.scoring import causal_lm
from dpo_lite.model.targets import plain_name, shortest
from dpo_lite.model.text_model import tower_modules

# Of an adapter's settings what says which function its tensors are. How it was made is left behind:
# its first values, its dropout, how its backward pass was approximated.
KEPT = (
    "r lora_alpha rank_pattern alpha_pattern use_rslora use_dora lora_bias fan_in_fan_out"
    " target_modules target_parameters exclude_modules layers_to_transform layers_pattern"
    " modules_to_save base_model_name_or_path revision"
).split()
# What PEFT would do to an adapter's settings and to its tensors, and what takes its place.
CONVERSIONS: dict[str, Any] = {
    "convert_peft_config_for_transformers": lambda *arguments, **options: None,
    "convert_peft_adapter_state_dict_for_transformers": lambda adapter_state_dict, **options: (
        adapter_state_dict
    ),
}
LAYERS = (torch.nn.Linear, Conv1D, torch.nn.Embedding, torch.nn.Conv1d)


class Config(LoraConfig):
    """An adapter's settings, of which some are ``saved_as`` others, for plain PEFT to read."""

    saved_as: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | (self.saved_as or {})


def attach(model: torch.nn.Module, config: Config, name: str, fresh: bool = True) -> PeftModel:
    """A base, or a model that has adapters, with one more, its names those of layers.

    ``fresh``: it stays as it is made; else a saved one's tensors take the place of what is made.
    """
    kinds = {type(module) for module in expert_modules(causal_lm(model)).values()}
    config._register_custom_module(dict.fromkeys(kinds, ParamWrapper))
    with names_as_they_are():
        found = _put(model, config, name)
    found.peft_config[name].saved_as = _for_plain_peft(found, name)
    for module in found.modules():
        if isinstance(module, LoraLayer):
            # By this PEFT refuses DoRA rows beside others, which its layers can do by now.
            module.use_dora[name] = False
    wear_dora(found, name, fresh)
    fuse_adapters(found)
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
    config = Config(
        **{key: settings[key] for key in KEPT if settings.get(key) is not None},
        inference_mode=not trained,
        task_type=settings.get("task_type"),
    )
    layers = _layers_of(lm, tensors)
    if layers is None:
        found = _put(model, config, name)
    else:
        modules = _modules(lm)
        linear = sorted(_named_linear(lm, config) | {p for p in layers if _is_layer(modules[p])})
        config.target_modules = _kept(config, linear, lm)
        config.exclude_modules = config.layers_to_transform = config.layers_pattern = None
        config.target_parameters = [
            parameter
            for parameter in config.target_parameters or []
            if not any(_names(parameter, path) for path in linear)
        ] or None
        found = attach(model, config, name, fresh=False)
    with names_as_they_are() if layers is not None else nullcontext():
        set_peft_model_state_dict(found, tensors, adapter_name=name)
    return found


def _kept(config: Config, linear: list[str], lm: torch.nn.Module) -> set[str] | str | None:
    """The layers as PEFT is told them: by the pattern they came with, where it says the same."""
    if not linear:
        return None
    names, pattern = _published_names(lm), config.target_modules
    if isinstance(pattern, str) and {n for n in names if re.fullmatch(pattern, n)} == set(linear):
        return pattern
    return _set(shortest(linear, names))


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
        return (
            {"target_modules": shortest(linear, _published_names(lm))} if tower_modules(lm) else {}
        )
    by_name = [path for path in linear if path.rpartition(".")[2] not in lost]
    by_weight = [f"{path}.weight" for path in linear if path.rpartition(".")[2] in lost]
    weights = [plain_name(path) for path, _ in lm.named_parameters() if ".lora_" not in path]
    weights += [f"{tower}.weight" for tower in tower_modules(lm)]
    ends = shortest(by_weight, weights)
    return {
        "target_modules": shortest(by_name, _published_names(lm)) if by_name else None,
        "target_parameters": sorted(
            {*(config.target_parameters or []), *(by_weight if isinstance(ends, str) else ends)}
        ),
    }


def tensors_for_plain_peft(
    model: PeftModel, tensors: dict[str, torch.Tensor], name: str
) -> dict[str, torch.Tensor]:
    """An adapter's tensors by names that PEFT takes for this model's layers when it loads them.

    These are the model's own, but for those that PEFT would rename (see ``names_as_they_are``):
    they are called as in the published checkpoint, which PEFT reads.
    """

    def read(named: dict[str, torch.Tensor]) -> set[str]:
        return set(
            conversion.convert_peft_adapter_state_dict_for_transformers(
                model=model,
                peft_config=model.peft_config[name],
                adapter_state_dict=named,
                adapter_name=name,
            )
        )

    lost = tensors.keys() - read(tensors)
    for there, here in checkpoint_renamings(causal_lm(model)) if lost else ():
        forms = {each: each.replace(here, there) for each in lost}
        if lost <= read({forms[each]: tensors[each] for each in lost}):
            return {forms.get(each, each): tensor for each, tensor in tensors.items()}
    return tensors


def names_of(lm: torch.nn.Module, modules: list[str]) -> set[str] | str:
    """Names of layers as short as PEFT can still tell them from all others."""
    return _set(shortest(modules, _published_names(lm)))


def _published_names(lm: torch.nn.Module) -> list[str]:
    """Names of all modules of the published model, those of its towers among them."""
    return list(dict.fromkeys([*_modules(lm), *tower_modules(lm)]))


def _modules(lm: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """All modules by their names, without adapters' own; what wears one comes as its wrapper."""
    found: dict[str, torch.nn.Module] = {}
    for path, module in lm.named_modules():
        if path and ".lora_" not in path:
            found.setdefault(plain_name(path), module)
    return found


def _set(names: list[str] | str) -> set[str] | str:
    return names if isinstance(names, str) else set(names)


def _is_layer(module: torch.nn.Module) -> bool:
    """Whether PEFT adapts a module itself, not a parameter of it as of experts and routers."""
    return isinstance(module, (LoraLayer, *LAYERS)) and not isinstance(module, layer.ParamWrapper)


def _named_linear(lm: torch.nn.Module, config: LoraConfig) -> set[str]:
    """The layers that settings name: where tensors of some are missing, it must be found out."""
    parameters = config.target_parameters or []

    def named(path: str) -> bool:
        if config.target_modules is not None:
            found = check_target_module_exists(config, path)
            if found is True or isinstance(found, re.Match):
                return True
        return any(_names(parameter, path) for parameter in parameters)

    return {path for path, module in _modules(lm).items() if _is_layer(module) and named(path)}


def _names(parameter: str, path: str) -> bool:
    """Whether an end of a parameter's name means the weight of a layer."""
    return f".{path}.weight".endswith(f".{parameter}")


def _layers_of(lm: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> list[str] | None:
    """The layers that an adapter's tensors belong to; None where the model does not have them."""
    paths = layers_of(tensors)
    return sorted(paths) if paths and paths <= set(_modules(lm)) else None


@contextmanager
def names_as_they_are() -> Iterator[None]:
    """Inside, PEFT does not take names of layers or tensors for those of an older transformers.

    A rule for checkpoints may also fit the name that it makes (``mlp.shared_expert.`` of Laguna,
    read as a pattern): such tensors would be lost without a word.
    """
    before = {name: getattr(conversion, name) for name in CONVERSIONS}
    for name, as_it_is in CONVERSIONS.items():
        setattr(conversion, name, as_it_is)
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(conversion, name, function)
