"""Recurrent layers and short convolutions over a forest.

An attention mask cannot keep the branches apart where a layer carries a state along the row. But in
transformers every hybrid architecture calls one of few functions by their names in its own module:
a short convolution, a delta rule, Mamba 2's scan. While a forest is open these names stand for
functions that do the same over its trees, by the architecture's own; when it is closed, also by an
exception, they stand for what they did before. Whether an architecture is whole with that is found
out by trying it (dpo_lite.model.forest_verdict).

It must stay open until the backward pass is over: recomputed layers run again in there. Generation
with a cache uses other functions.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType

import torch

from dpo_lite.data.packing import Tree
from dpo_lite.model.tree_convolution import WiderRow, convolve, wider_row
from dpo_lite.model.tree_places import Places, places
from dpo_lite.model.tree_recurrence import (
    Unpadded,
    delta_rule,
    delta_rule_unpadded,
    may_go_unpadded,
    scan,
)

CONVOLUTION = "causal_conv1d_fn"
DELTA_RULES = ("torch_chunk_gated_delta_rule", "chunk_kimi_delta_attention")
SCAN = "mamba2_chunk_scan"
# Convolution and scan in one kernel for training, which takes no boundaries.
FUSED = "mamba2_split_conv1d_scan_combined"

# The packages whose kernels transformers takes for these functions where they are installed.
FASTER = {
    CONVOLUTION: ("causal_conv1d", "causal-conv1d"),
    **dict.fromkeys(DELTA_RULES, ("fla", "flash-linear-attention")),
    SCAN: ("mamba_ssm", "mamba-ssm"),
}


class _Trees:
    """The trees of the batch at hand, worked out once per device and kernel width when asked."""

    def __init__(self, trees: Sequence[Tree]):
        self.trees = trees
        self.length = trees[-1].stop
        self._made: dict[tuple, object] = {}

    def _once(self, key: tuple, make: Callable):
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def places(self, device: torch.device) -> Places:
        return self._once(("places", device), lambda: places(self.trees, device))

    def unpadded(self, device: torch.device) -> Unpadded:
        return self._once(("unpadded", device), lambda: Unpadded(self.trees, device))

    def wider_row(self, width: int, device: torch.device) -> WiderRow:
        return self._once((width, device), lambda: wider_row(self.trees, width, device))

    def check(self, shape: Sequence[int]) -> None:
        if tuple(shape) != (1, self.length):
            raise RuntimeError(f"a forest of {self.length} tokens is open, but {shape} came")


@contextmanager
def hybrid_forest(model: torch.nn.Module, trees: Sequence[Tree]) -> Iterator[None]:
    """Let the model's recurrent layers and convolutions go by the trees until the block ends."""
    forest = _Trees(trees)
    with _swapped(model, lambda name, original: _over_trees(name, original, forest)):
        yield


@contextmanager
def torch_functions(model: torch.nn.Module) -> Iterator[None]:
    """Let them be PyTorch's own, also where faster ones are installed: those need a card, and
    round to less than fp32."""
    with _swapped(model, lambda name, original: inspect.unwrap(original)):
        yield


def missing_packages(model: torch.nn.Module) -> list[str]:
    """What to install so that these layers run on kernels instead of PyTorch's own operations."""
    names = {name for module in _modules(model) for name in FASTER if hasattr(module, name)}
    packages = {FASTER[name] for name in names}
    return sorted(name for module, name in packages if find_spec(module) is None)


def _over_trees(name: str, original: Callable, forest: _Trees) -> Callable:
    def convolution(hidden_states, weight, *args, **kwargs):
        forest.check((hidden_states.shape[0], hidden_states.shape[2]))
        row = forest.wider_row(weight.shape[-1], hidden_states.device)
        return convolve(original, row, hidden_states, weight, *args, **kwargs)

    def rule(query, key, value, **kwargs):
        forest.check(query.shape[:2])
        kwargs = {k: v for k, v in kwargs.items() if k not in ("initial_state", "cu_seqlens")}
        if may_go_unpadded(original, query, value, **kwargs):
            where = forest.unpadded(query.device)
            return delta_rule_unpadded(original, where, query, key, value, **kwargs)
        return delta_rule(original, forest.places(query.device), query, key, value, **kwargs)

    def mamba2(hidden_states, *args, **kwargs):
        forest.check(hidden_states.shape[:2])
        where = forest.places(hidden_states.device)
        return scan(original, where, hidden_states, *args, **kwargs)

    def none(*args, **kwargs):
        return None

    if name == CONVOLUTION:
        return convolution
    if name == SCAN:
        return mamba2
    return none if name == FUSED else rule


@contextmanager
def _swapped(
    model: torch.nn.Module, replacement: Callable[[str, Callable], Callable]
) -> Iterator[None]:
    before = [
        (module, name, getattr(module, name))
        for module in _modules(model)
        for name in (CONVOLUTION, *DELTA_RULES, SCAN, FUSED)
        if hasattr(module, name)
    ]
    try:
        for module, name, original in before:
            setattr(module, name, replacement(name, original))
        yield
    finally:
        for module, name, original in before:
            setattr(module, name, original)


def _modules(model: torch.nn.Module) -> list[ModuleType]:
    """The files that the classes of the model's layers, and their parents, are written in."""
    classes = {c for module in model.modules() for c in type(module).__mro__}
    names = {c.__module__ for c in classes if not c.__module__.startswith(("torch", "builtins"))}
    return [sys.modules[name] for name in sorted(names) if name in sys.modules]
