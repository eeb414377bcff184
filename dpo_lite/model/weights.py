"""The frozen weights of a base: which are held in 4 bits, which are not, and what they take.

Read from a loaded model, or foretold from one on meta by what the loader would pack (four_bits).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import torch
from transformers.pytorch_utils import Conv1D

from dpo_lite.model.brought import MXFP4
from dpo_lite.model.experts import UNPACKED, expert_modules, expert_parameters, shape_of
from dpo_lite.model.sharding import here

MXFP4_BITS = 4 + 8 / 32  # a weight and its share of a scale
NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)  # a weight, its share of a scale, and of a scale's scale


class Multiplied(NamedTuple):
    """A frozen weight that tokens are multiplied with."""

    weight: torch.Tensor
    used: float  # share of it that one token is multiplied with: of experts those that are chosen
    at_once: int  # numbers of it that are unpacked at a time


@dataclass(frozen=True)
class Held:
    """How a base's weights lie in memory, in numbers of weights."""

    packed: int  # in 4 bits
    whole: dict[str, int]  # the others, by what they are
    bits: int  # of the others

    @property
    def total(self) -> int:
        return self.packed + sum(self.whole.values())

    @property
    def share(self) -> float:
        return self.packed / self.total

    def words(self) -> str:
        """A clause such as ``97 % of the weights in 4 bits; 16 bits: embedding, router, norms``."""
        if not self.packed:
            return f"no weights in 4 bits, all in {self.bits}"
        rest = ", ".join(sorted(self.whole, key=lambda label: -self.whole[label]))
        share = min(round(self.share * 100), 99 if rest else 100)
        return f"{share} % of the weights in 4 bits" + (
            f"; {self.bits} bits: {rest}" if rest else ""
        )


def held(lm: torch.nn.Module, packed: Collection[int] | None = None) -> Held:
    """How the weights of a transformers model lie in memory, adapters and scalar heads left out.

    ``packed``: ids of the parameters that will be in 4 bits, for a model that is not loaded.
    """
    whole: Counter[str] = Counter()
    count, seen, bits = 0, set(), 16
    for name, parameter in lm.named_parameters():
        if ".lora_" in name or "modules_to_save" in name or id(parameter) in seen:
            continue
        seen.add(id(parameter))
        state = getattr(parameter, "quant_state", None)
        if state is not None or id(parameter) in (packed or ()):
            count += shape_of(parameter).numel()
            continue
        whole[_label(lm, name)] += parameter.numel()
        if parameter.is_floating_point():
            bits = max(bits, torch.finfo(parameter.dtype).bits)
    return Held(count, dict(whole), bits)


def _label(lm: torch.nn.Module, name: str) -> str:
    """What a weight in 16 bits is, in a word or two."""
    path, _, own = name.rpartition(".")
    parent = lm.get_submodule(path)
    path = path.replace(".base_layer", "").replace(".original_module", "")
    both = (parent, lm.get_submodule(path))  # the layer itself, and what PEFT has put around it
    if lm.get_input_embeddings() in both or isinstance(parent, torch.nn.Embedding):
        return "embedding"
    if lm.get_output_embeddings() in both:
        return "head"
    kind = type(parent).__name__
    if "router" in (kind + name).lower() or kind.endswith("Gate") or name.endswith(".gate.weight"):
        return "router"
    if "norm" in (kind + name).lower() or own == "bias" or own.endswith("_bias"):
        return "norms and biases"
    if "expert" in path.rpartition(".")[2] or "Expert" in kind:
        return "experts"
    if "Conv" in kind and not isinstance(parent, Conv1D):
        return "convolutions"
    if isinstance(parent, (torch.nn.Linear, Conv1D)):
        return next(part for part in reversed(path.split(".")) if not part.isdigit())
    return "other parameters"


def multiplied(lm: torch.nn.Module) -> list[Multiplied]:
    """The frozen weights that tokens are multiplied with, the head's left out."""
    head = lm.get_output_embeddings()
    found = [
        Multiplied(m.weight, 1.0, shape_of(m.weight).numel())
        for m in lm.modules()
        if isinstance(m, (torch.nn.Linear, Conv1D)) and m is not head
        if not m.weight.requires_grad
    ]
    chosen = getattr(lm.config.get_text_config(), "num_experts_per_tok", None) or 1
    chosen = max(chosen) if isinstance(chosen, list) else chosen  # Hunyuan's, one a layer
    for module in expert_modules(lm).values():
        for name in expert_parameters(module):
            weight = getattr(module, name)
            shape = shape_of(weight)
            at_once = min(shape.numel(), max(UNPACKED, shape[1:].numel()))
            found.append(Multiplied(weight, min(1.0, chosen / shape[0]), at_once))
    return found


def foretold_bytes(
    lm: torch.nn.Module, packed: Collection[int], element: int, files: str | None = None
) -> int:
    """Bytes of the frozen weights of a model on meta, once loaded; ``files``: brought.method."""
    parameters = {id(p): p for p in lm.parameters() if not p.requires_grad}.values()
    each = {True: (MXFP4_BITS if files == MXFP4 else NF4_BITS) / 8, False: element}
    return int(sum(p.numel() * each[id(p) in packed] for p in parameters))


def nbytes(weight: torch.Tensor) -> int:
    """Bytes of a weight in this process, with the scales of a packed one; its tables of values are
    left out."""
    state = getattr(weight, "quant_state", None)
    total = here(weight).nbytes
    while state is not None:
        total += sum(t.nbytes for t in (state.absmax, state.offset) if t is not None)
        state = state.state2
    return total
