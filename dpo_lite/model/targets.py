"""Which layers of a base get an adapter where a recipe says ``all-linear``.

Every linear layer of the text model's layers: attention, recurrent mixers, dense and shared-expert
layers. Not the head, embeddings and towers of other senses, which stand outside of the layers; not
routers, whose choice would change with every update; not the experts, unless the recipe asks for
them: they hold most of a mixture's weights, so an adapter of them is large, and each of them sees
only a part of the tokens.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import _check_lora_target_modules_mamba
from transformers.pytorch_utils import Conv1D

from dpo_lite.model.experts import expert_modules, expert_parameters
from dpo_lite.model.four_bits import read_elsewhere
from dpo_lite.model.layers import decoder_of, layer_lists

EXPERTS = "experts"  # the name that models give to the list, or the module, of their experts
GATES = ("gate", "wg", "shared_expert_gate", "router")  # routers that are linear layers


@dataclass(frozen=True)
class Targets:
    """Names in the transformers model."""

    modules: list[str]
    parameters: list[str] = field(default_factory=list)  # of experts, three dimensions each
    has_experts: bool = False
    by_themselves: list[str] = field(default_factory=list)  # whose weight the code itself reads
    refused: list[str] = field(default_factory=list)  # by PEFT

    @property
    def trains_experts(self) -> bool:
        return bool(self.parameters) or any(f".{EXPERTS}." in name for name in self.modules)

    def words(self) -> str | None:
        """What a user would not expect, as a sentence; None where all linear layers have one."""
        parts = []
        if self.has_experts and not self.trains_experts:
            parts.append(
                "attention, dense and shared-expert layers only (adapter.experts: true also "
                "trains the experts)"
            )
        if self.by_themselves:
            parts.append(f"not {_leaves(self.by_themselves)}, whose weight the base's code reads")
        if self.refused:
            parts.append(f"not {_leaves(self.refused)}, which PEFT refuses in this architecture")
        return "; ".join(parts) or None


def all_linear(lm: torch.nn.Module, experts: bool = False) -> Targets:
    """The layers of a transformers model that ``all-linear`` means, worn adapters looked through.

    ``experts``: those of a mixture as well.
    """
    head = lm.get_output_embeddings()
    linear = {
        plain_name(name): module
        for name, module in lm.named_modules()
        if isinstance(module, (torch.nn.Linear, Conv1D)) and module is not head
        if not _is_adapters(name)
    }
    fused = {plain_name(name): module for name, module in expert_modules(lm).items()}
    mixtures = {name.rpartition(".")[0] for name in fused}
    mixtures |= {
        plain_name(name).rpartition(".")[0]
        for name, _ in lm.named_modules()
        if plain_name(name).endswith(f".{EXPERTS}")
    }
    routers = {name for name in linear if _is_router(lm, name, mixtures)}
    inside = {name for name in linear if f".{EXPERTS}." in name}
    wanted = set(_in_layers(lm, linear)) - routers - (set() if experts else inside)
    by_themselves = wanted & {plain_name(name) for name in read_elsewhere(lm)}
    refused = {name for name in wanted - by_themselves if _is_refused(lm, name)}
    parameters = [
        f"{name}.{parameter}"
        for name, module in fused.items()
        for parameter in expert_parameters(module)
    ]
    return Targets(
        modules=[name for name in linear if name in wanted - by_themselves - refused],
        parameters=parameters if experts else [],
        has_experts=bool(mixtures),
        by_themselves=sorted(by_themselves),
        refused=sorted(refused),
    )


def _leaves(names: list[str]) -> str:
    return ", ".join(sorted({name.rpartition(".")[2] for name in names}))


def _is_refused(lm: torch.nn.Module, name: str) -> bool:
    try:
        _check_lora_target_modules_mamba(LoraConfig(), lm, name.rpartition(".")[2])
    except ValueError:
        return True
    return False


def plain_name(name: str) -> str:
    """A module's name as it is without adapters."""
    return name.replace(".base_layer", "").replace(".original_module", "")


def _is_adapters(name: str) -> bool:
    return ".lora_" in name or "modules_to_save" in name


def _in_layers(lm: torch.nn.Module, names: Iterable[str]) -> list[str]:
    """Those in the list of layers of the text model."""
    decoder = decoder_of(lm)
    prefix = next((f"{n}." if n else "" for n, m in lm.named_modules() if m is decoder), "")
    begins = tuple(f"{prefix}{name}." for name in layer_lists(lm)) or (prefix,)
    return [name for name in names if name.startswith(begins)]


def _is_router(lm: torch.nn.Module, name: str, mixtures: Collection[str]) -> bool:
    """Whether a linear layer says which experts a token goes to, or how much of them."""
    path, _, leaf = name.rpartition(".")
    if "router" in name.lower():
        return True
    kinds = [type(lm.get_submodule(part)).__name__ for part in (name, path)]
    if any("Router" in kind for kind in kinds):
        return True
    return leaf in GATES and (path in mixtures or path.rpartition(".")[0] in mixtures)


def shortest(names: Iterable[str], others: Iterable[str]) -> list[str] | str:
    """The names as PEFT matches them: the shortest ends that fit none of the ``others``.

    Where those would number layers, a pattern in their place, if one fits as exactly.
    """
    names, others = list(dict.fromkeys(names)), set(others)
    others -= set(names)
    taken = {end for other in others for end in _ends(other)}
    found = sorted({next((e for e in _ends(name) if e not in taken), name) for name in names})
    if not any(re.search(r"(^|\.)\d+\.", end) for end in found):
        return found
    forms = sorted({re.sub(r"(?<=\\\.)\d+(?=\\\.)", r"\\d+", re.escape(name)) for name in names})
    pattern = "|".join(forms)
    if any(re.fullmatch(pattern, other) for other in others):
        return found
    return pattern


def _ends(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
