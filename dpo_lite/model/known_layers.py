"""Layers of a class of their own that do what a known one does are made to be that one.

bitsandbytes' loader packs ``nn.Linear`` and no subclass of it, so Falcon's, which only writes the
product in another way, would leave the whole model in 16 bits. Which subclasses these are is found
by trying. Llama 4 multiplies its experts in a module that cannot be told how; here it is given one
that multiplies as all others do (dpo_lite.model.experts).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from transformers.models.llama4.modeling_llama4 import Llama4TextExperts

from dpo_lite.model.experts import product


def make_known(model: torch.nn.Module) -> None:
    """Change the classes of such layers in place; weights and names stay. Safe to call again."""
    for module in model.modules():
        kind = module.__class__
        if issubclass(kind, torch.nn.Linear) and kind.__module__.startswith("transformers."):
            if multiplies_as_linear(kind):
                module.__class__ = torch.nn.Linear
        elif kind is Llama4TextExperts:
            module.__class__ = EqualShares


@cache
def multiplies_as_linear(kind: Callable) -> bool:
    """Whether a subclass is built as ``nn.Linear`` is and gives the same products."""
    if kind.__init__ is not torch.nn.Linear.__init__:  # type: ignore[misc]
        return False
    tokens = torch.linspace(-1, 1, 12, device="cpu").view(2, 2, 3)
    layer = kind(3, 5, device="cpu")  # also where a model is being built on meta, without numbers
    layer.weight.data = torch.linspace(-2, 1, 15, device="cpu").view(5, 3)
    layer.bias.data = torch.arange(5.0, device="cpu")
    try:
        found = layer(tokens)
    except Exception:  # whatever else it wants to be given
        return False
    expected = F.linear(tokens, layer.weight, layer.bias)
    return isinstance(found, torch.Tensor) and torch.allclose(found, expected, atol=1e-5)


class EqualShares(Llama4TextExperts):
    """Llama 4's experts, each of which is handed all tokens, scaled by how much it is chosen."""

    _is_expert_parallel = False  # what transformers' other modules of experts have
    has_gate, has_bias, has_post_expert_norm = True, False, False
    is_transposed, is_concatenated = True, True

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(experts · N, H), sorted by expert -> the same shape."""
        each = hidden_states.shape[0] // self.num_experts
        numbers = torch.arange(self.num_experts, device=hidden_states.device)
        counts, expert = torch.full_like(numbers, each), numbers.repeat_interleave(each)
        gate, up = product(self, "gate_up_proj", hidden_states, counts, expert).chunk(2, dim=-1)
        inner = up * self.act_fn(gate)
        return product(self, "down_proj", inner, counts, expert).to(hidden_states.dtype)
