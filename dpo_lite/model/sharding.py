"""A base whose weights are divided over the processes of a launch: PyTorch's FSDP2.

Each process holds one part in N of every frozen weight. Before a layer runs, ``fully_shard`` has
all processes put its weights together, and lets go of them behind it; so all must run the same
layers in the same order. Nothing is reduced: the base is frozen, and the adapters are left whole
in every process. A packed weight is bytes that are put together as they are, so a product is bit by
bit that of the undivided base. The scales of packed weights, an eighth of a bit for each, stay
whole.

Outside of a pass the model's weights are DTensors; whoever reads one in a pass of its own making
does so inside ``in_one_pass`` or ``whole_head``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import bitsandbytes as bnb
import torch

from dpo_lite.model import mxfp4
from dpo_lite.model.layers import layer_lists

T = TypeVar("T")
Scales = dict[tuple[torch.nn.Module, str], Any]  # bitsandbytes' QuantState of a parameter

ADAPTERS = (".lora_", ".modules_to_save.", ".original_module.")


def divide(lm: torch.nn.Module, mesh: Any) -> None:
    """Divide the frozen weights of a transformers model, adapters on it or not, over a mesh.

    What lies on another device comes to the mesh's, a layer at a time.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    device = torch.device(mesh.device_type, 0) if mesh.device_type != "cpu" else torch.device("cpu")
    scales = _keep_scales(lm)
    own = _left_whole(lm)
    for parameter in own:
        parameter.data = parameter.data.to(device)
    for parameter in lm.parameters():
        if not parameter.is_contiguous():
            parameter.data = parameter.data.contiguous()
    layers, outside = _units(lm)
    for unit in [*layers, *outside, lm]:
        fully_shard(unit, mesh=mesh, reshard_after_forward=True, ignored_params=own)
    for (module, name), state in scales.items():  # what is asked of a weight is asked of its parts
        getattr(module, name).quant_state = state
        if isinstance(state, mxfp4.State):
            state.absmax = state.absmax.to(device)
        else:
            state.to(device)
    lm.in_one_pass = _run
    register_fsdp_forward_method(lm, "in_one_pass")
    if hasattr(lm, "hf_device_map"):
        lm.hf_device_map = {"": device}


def _run(work: Callable[[], T]) -> T:
    return work()


def _units(lm: torch.nn.Module) -> tuple[list[torch.nn.Module], list[torch.nn.Module]]:
    """The modules that are gathered one at a time: layers, and embedding and head where these are
    two. All else is gathered for a whole pass."""
    embedding, head = lm.get_input_embeddings(), lm.get_output_embeddings()
    apart = head is not None and head.weight is not embedding.weight
    return [one for ones in layer_lists(lm).values() for one in ones], (
        [embedding, head] if apart else []
    )


def _left_whole(lm: torch.nn.Module) -> set[torch.nn.Parameter]:
    """Adapters with their heads, and single numbers."""
    return {
        p
        for name, p in lm.named_parameters()
        if p.ndim == 0 or any(part in name for part in ADAPTERS)
    }


def _keep_scales(lm: torch.nn.Module) -> Scales:
    """The scales of packed weights, by where these stand; a weight that is put together has none.

    Linear layers keep theirs, and bitsandbytes and ``fused_lora`` find it there. Weights of experts
    get it back when these run.
    """
    scales: Scales = {}
    for module in lm.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if (state := getattr(parameter, "quant_state", None)) is not None:
                scales[module, name] = state
                if isinstance(module, bnb.nn.Linear4bit):
                    module.quant_state = state
                else:
                    module.register_forward_pre_hook(partial(_give_back, name, state))
    return scales


def _give_back(name: str, state: Any, module: torch.nn.Module, inputs: Any) -> None:
    getattr(module, name).quant_state = state


def is_divided(module: torch.nn.Module) -> bool:
    """Whether a module's weights, or those of a transformers model, are divided."""
    return bool(getattr(module, "_is_fsdp_managed_module", False))


def own_class(module: torch.nn.Module) -> Any:
    """The class of a module before ``fully_shard`` gave it one of its own."""
    kind = type(module)
    return kind.__mro__[2] if hasattr(module, "unshard") and is_divided(module) else kind


def in_one_pass(lm: torch.nn.Module, work: Callable[[], T]) -> T:
    """What ``work`` makes of a transformers model's parts, as one forward pass of it: a tensor."""
    return lm.in_one_pass(work) if is_divided(lm) else work()


@contextmanager
def whole_head(lm: torch.nn.Module) -> Iterator[None]:
    """In here, inside of a pass, the weight of the head is whole."""
    head = lm.get_output_embeddings()
    divided = own_class(head) is not type(head)
    if divided:
        head.unshard()
    try:
        yield
    finally:
        if divided:
            head.reshard()


def here(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a divided weight that lies in this process; of any other all of it."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def gathered_bytes(lm: torch.nn.Module) -> int:
    """The most bytes of divided weights that lie here whole for a moment: what is gathered for a
    pass, and a layer with what comes before or behind it."""
    return at_once(lm, _bytes) if is_divided(lm) else 0


def at_once(lm: torch.nn.Module, size: Callable[[torch.nn.Module], int]) -> int:
    """The same by what ``size`` says of a module's weights."""
    layers, outside = ([size(one) for one in units] for units in _units(lm))
    layer = max(layers, default=0)
    return size(lm) - sum(layers) - sum(outside) + layer + max(layer, *outside, 0)


def _bytes(module: torch.nn.Module) -> int:
    """Bytes of the divided weights of a module, were they whole."""
    return sum(p.numel() * p.element_size() for p in module.parameters() if hasattr(p, "to_local"))
