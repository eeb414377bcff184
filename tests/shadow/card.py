"""A CUDA card that computes nothing: the product's code runs on it, and what it does is counted.

Tensors on the card are PyTorch's fake ones, so shapes, dtypes and devices are true and there are no
numbers. What is read from the card by the host is ``number``, or true; whole numbers that the host
had put there are remembered. Import this before torch, with the library of backend.cpp named by
SHADOW_BACKEND (tests/shadow/test_shadow.py builds it).
"""

from __future__ import annotations

import ctypes
import os
import sys
import traceback
import types
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from unittest.mock import Mock, patch

assert "torch" not in sys.modules, "the shadow's backend must be there before torch is"
ctypes.CDLL(os.environ["SHADOW_BACKEND"], mode=ctypes.RTLD_GLOBAL)

import torch  # noqa: E402
import torch.cuda.amp.common  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes  # noqa: E402
from torch.utils._pytree import tree_leaves, tree_map_only  # noqa: E402

GIB = 2**30
CONTEXT = int(0.6 * GIB)  # what CUDA itself takes
CELL = 512  # bytes that the allocator rounds up to

# Operations that launch no kernel: other views of what is there, and memory alone.
FREE = set(
    "view t transpose unsqueeze squeeze slice select expand permute detach alias _unsafe_view "
    "_reshape_alias split split_with_sizes unbind as_strided lift_fresh empty empty_like "
    "empty_strided new_empty new_empty_strided diagonal unfold".split()
)
MAYBE_VIEWS = {"reshape", "to", "contiguous"}
WAITS = {"_local_scalar_dense", "nonzero", "equal", "bincount", "_unique2", "masked_select"}
# A card's tensor may be taken apart by indices that lie on the host, and copied from and to it.
MAY_MIX = {"_to_copy", "copy_", "index", "index_put", "index_put_", "lift_fresh"}


class Card(TorchDispatchMode):
    """``live`` and ``peak`` in bytes; ``kernels`` and ``waits`` (of the host, by line) counted."""

    def __init__(self, gib: float, capability: tuple[int, int] = (8, 9)):
        super().__init__()
        self.total, self.capability = int(gib * GIB), capability
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.sizes: dict[int, int] = {}
        self.live = self.peak = 0
        self.kernels: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.limit: int | None = None  # live bytes beyond which memory runs out
        self.strict = False  # whether the host may not wait, nor copy in a way that waits
        self.number = 1e-6

    # --- memory ----------------------------------------------------------------------------------

    def track(self, tensor: torch.Tensor) -> None:
        """Count a storage from its first sight to its end."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, -(-storage.nbytes() // CELL) * CELL
        if tensor.device.type != "cuda" or key in self.sizes or not size:
            return
        if self.limit is not None and self.live + size > self.limit:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes.")
        self.sizes[key] = size
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.live -= self.sizes.pop(key, 0)

    def room(self) -> int:
        return (self.total if self.limit is None else self.limit) - CONTEXT - self.live

    def reset_peak(self, *device) -> None:
        self.peak = self.live

    def wait(self) -> None:
        """The host waits for the card."""
        if self.strict:
            raise RuntimeError(f"called a synchronizing CUDA operation: {line()}")
        self.waits[line()] += 1

    # --- operations ------------------------------------------------------------------------------

    def __torch_dispatch__(self, op, kinds, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        target = kwargs.get("device")
        target = None if target is None else torch.device(target).type
        if target != "cuda" and not any(isinstance(x, FakeTensor) for x in tensors):
            return op(*args, **kwargs)
        space, _, name = op.name().partition(".")[0].partition("::")
        if space == "prim":  # which asks a tensor something about itself
            return op(*args, **kwargs)
        back = target == "cpu" if name == "_to_copy" else not isinstance(args[0], FakeTensor)
        if name in ("_to_copy", "copy_") and back and target != "cuda":
            return self._read(name, args, kwargs)
        for x in tensors:
            if not isinstance(x, FakeTensor) and x.dim() and name not in MAY_MIX:
                raise AssertionError(
                    f"{name} takes a tensor of the host {tuple(x.shape)}: {line()}"
                )
        if self.strict and any(not isinstance(x, FakeTensor) and x.dim() for x in tensors):
            self.wait()  # until it is copied
        if name == "_local_scalar_dense":
            return self._number(args[0])
        known = args[0] if name == "_to_copy" and not isinstance(args[0], FakeTensor) else None
        if known is None and name == "bincount" and (old := remembered(args[0])) is not None:
            with _disable_current_modes():
                known = torch.bincount(old, *args[1:], **kwargs)
        args, kwargs = tree_map_only(torch.Tensor, self._faked, (args, kwargs))
        with self.fake:
            result = self._run(op, name, args, kwargs)
        if known is not None and not known.is_floating_point():
            result.known = known
        return result

    def _faked(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor if isinstance(tensor, FakeTensor) else self.fake.from_tensor(tensor)

    def _run(self, op, name: str, args: tuple, kwargs: dict):
        if name == "gemm_4bit":
            with self:
                return unpacked_product(*args, **kwargs)
        if name == "lora_product":  # several kernels in one operation
            from dpo_lite.model.fused_lora import lora_product

            with self:
                return lora_product(*args, **kwargs)
        if name in WAITS:
            self.wait()
        if name == "bincount":  # of a size that is not to be known
            size = kwargs.get("minlength") or args[2]
            result = torch.empty(size, dtype=torch.int64, device=args[0].device)
        else:
            if name in ("index", "index_put", "index_put_"):
                args = (args[0], [half_of(index) for index in args[1]], *args[2:])
            result = op(*args, **kwargs)
        for made in tree_leaves(result):
            if isinstance(made, torch.Tensor):
                self.track(made)
        if name not in FREE and not (name in MAYBE_VIEWS and shares(result, args[0])):
            self.kernels[name] += 1
        return result

    def _read(self, name: str, args: tuple, kwargs: dict) -> torch.Tensor:
        """A copy to the host, which waits for it unless it is told not to."""
        source = args[0] if name == "_to_copy" else args[1]
        quick = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
        if not quick:
            self.wait()
        known = remembered(source)
        with _disable_current_modes():
            if name == "copy_":
                return args[0].zero_()
            dtype = kwargs.get("dtype") or source.dtype
            if known is not None:
                return known.to(dtype, copy=True)
            return torch.full(
                source.shape, self.number if dtype.is_floating_point else 1, dtype=dtype
            )

    def _number(self, tensor: torch.Tensor) -> float | int | bool:
        self.wait()
        if (known := remembered(tensor)) is not None:
            return known.item()
        if tensor.dtype == torch.bool:
            return True
        return self.number if tensor.is_floating_point() else 1


class Graph:
    """A CUDA graph: what is recorded launches nothing, and one launch plays all of it."""

    def __init__(self, card: Card):
        self.card, self.kernels = card, Counter[str]()

    @contextmanager
    def recorded(self) -> Iterator[None]:
        before, strict = self.card.kernels.copy(), self.card.strict
        self.card.strict = True
        try:
            yield
        finally:
            self.kernels = self.card.kernels - before
            self.card.kernels, self.card.strict = before, strict

    def replay(self) -> None:
        self.card.kernels["graph"] += 1

    def reset(self) -> None:
        self.kernels.clear()


def remembered(tensor: torch.Tensor) -> torch.Tensor | None:
    """What the host had put there, of whole numbers."""
    return getattr(tensor, "known", None)


def shares(result: torch.Tensor, given: torch.Tensor) -> bool:
    return result.untyped_storage()._cdata == given.untyped_storage()._cdata


def half_of(index: torch.Tensor | None) -> torch.Tensor | None:
    """In place of a mask, whose true places nobody can count: indices of half of its places."""
    if index is None or index.dtype != torch.bool:
        return index
    return torch.empty(index.numel() // 2, dtype=torch.int64, device=index.device)


def unpacked_product(
    a, b, shape, absmax, size, kind, bias=None, scales=None, table=None, offset=None
):
    """bitsandbytes' product for more than some rows on a card: unpack the weight, then multiply."""
    if scales is not None:
        scales.float() + offset
    weight = torch.empty(tuple(shape), dtype=a.dtype, device=a.device)
    product = torch.mm(a.reshape(-1, a.shape[-1]), weight.t()).view(*a.shape[:-1], shape[0])
    return product if bias is None else product + bias


def line() -> str:
    """The innermost line of the product that is being done."""
    for frame in reversed(traceback.extract_stack()):
        if "/dpo_lite/" in frame.filename:
            return f"{frame.filename.rpartition('/dpo_lite/')[2]}: {frame.line}"
    return "elsewhere"


# --- what a build for CPUs lacks -----------------------------------------------------------------

_NEVER = torch.library.Library("aten", "IMPL")
for _op in ("silu_backward", "gelu_backward"):  # else they are taken apart into small ones
    _NEVER.impl(_op, lambda *given, **options: None, "CUDA")


@torch.library.custom_op("shadow::attention", mutates_args=())
def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    raise AssertionError("it never runs")


@torch.library.custom_op("shadow::attention_backward", mutates_args=())
def attention_backward(
    gradient: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    raise AssertionError("it never runs")


attention.register_fake(lambda q, k, v: q.new_empty((*q.shape[:-1], v.shape[-1])))
attention_backward.register_fake(
    lambda gradient, q, k, v: tuple(torch.empty_like(x) for x in (q, k, v))
)
attention.register_autograd(
    lambda ctx, gradient: attention_backward(gradient, *ctx.saved_tensors),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


HOSTS_SDPA = F.scaled_dot_product_attention


def sdpa(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **options):
    """One kernel, as PyTorch's on a card; a mask becomes numbers first."""
    if not isinstance(query, FakeTensor):
        return HOSTS_SDPA(query, key, value, attn_mask, dropout_p, is_causal, **options)
    if torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
        query, key, value = (x.to(dtype) for x in (query, key, value))
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        torch.where(attn_mask, 0.0, -torch.inf)
    return attention(query, key, value)


@contextmanager
def at_hand(card: Card) -> Iterator[Card]:
    """Inside, torch says that there is this card, and what goes to it is counted."""
    properties = types.SimpleNamespace(
        major=card.capability[0],
        minor=card.capability[1],
        multi_processor_count=100,
        total_memory=card.total,
        name="shadow",
        gcnArchName="",
    )
    says = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_lazy_init": lambda: None,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_properties": lambda *device: properties,
        "get_device_capability": lambda *device: card.capability,
        "get_device_name": lambda *device: "shadow",
        "mem_get_info": lambda *device: (card.room(), card.total),
        "memory_allocated": lambda *device: card.live,
        "memory_reserved": lambda *device: card.live,
        "max_memory_allocated": lambda *device: card.peak,
        "reset_peak_memory_stats": card.reset_peak,
        "empty_cache": lambda: None,
        "synchronize": lambda *device: None,
        "manual_seed_all": lambda seed: None,
        "is_current_stream_capturing": lambda: False,
        "get_sync_debug_mode": lambda: 2 * card.strict,
        "set_sync_debug_mode": lambda mode: setattr(card, "strict", mode in ("error", 2)),
        "CUDAGraph": lambda: Graph(card),
        "graph_pool_handle": lambda: (0, 0),
        "graph": lambda graph, **options: graph.recorded(),
        "set_stream": lambda stream: None,
        # Streams: one after the other, as if each waited for the others.
        "Stream": lambda *device: Mock(),
        "current_stream": lambda *device: Mock(),
        "stream": lambda stream: nullcontext(),
    }

    def tolist(tensor):
        card.wait()
        known = remembered(tensor)
        return (torch.ones(tensor.shape, dtype=torch.int64) if known is None else known).tolist()

    with ExitStack() as stack:
        for name, answer in says.items():
            stack.enter_context(patch.object(torch.cuda, name, answer))
        stack.enter_context(patch.object(FakeTensor, "tolist", tolist))
        stack.enter_context(patch.object(torch.Tensor, "record_stream", lambda *given: None))
        stack.enter_context(patch.object(F, "scaled_dot_product_attention", sdpa))
        common = torch.cuda.amp.common
        stack.enter_context(patch.object(common, "amp_definitely_not_available", lambda: False))
        torch._C._set_only_lift_cpu_tensors(True)
        stack.callback(torch._C._set_only_lift_cpu_tensors, False)
        stack.enter_context(card)
        yield card
