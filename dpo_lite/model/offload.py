"""Inputs of layers that are run again wait in the host's memory, copied while the card computes.

On a card the copies have a stream of their own: an input leaves while its layer runs, and comes
back while the layer behind it is run again. A layer of an 8B model takes ten times as long as the
copy of its input over the bus. At most two inputs are on the card at a time.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

# Bytes of a piece on the host: page-locked memory comes in powers of two, and twice an input of
# 655 MB for every layer (an 8B model at 80,000 tokens) would be 10 GB for nothing.
PIECE = 2**25


class Lane:
    """The way between card and host of one model's layers."""

    def __init__(self) -> None:
        self.last: Callable[[], _Parked | None] = lambda: None
        self.stream: Any = None  # of the copies; made when there is a card to ask

    def __call__(self, run: Callable, hidden: torch.Tensor, *others: Any):
        """Run a layer as its checkpoint does, its first input parked until the backward pass.

        What else a layer is given (masks, positions, keys that layers share) is there once for many
        layers and stays.
        """
        if not torch.is_grad_enabled():
            return run(hidden, *others)
        place, shape = hidden.data_ptr(), hidden.shape  # not itself: hooks outlive their pass

        def park(tensor: torch.Tensor) -> torch.Tensor | _Parked:
            is_input = tensor.data_ptr() == place and tensor.shape == shape
            return _Parked(tensor, self) if is_input else tensor

        def fetch(kept: torch.Tensor | _Parked) -> torch.Tensor:
            return kept.fetch() if isinstance(kept, _Parked) else kept

        # Only the layer's inputs are saved under these hooks: inside it the checkpoint has its own.
        with torch.autograd.graph.saved_tensors_hooks(park, fetch):
            return checkpoint(run, hidden, *others, use_reentrant=False, preserve_rng_state=False)


class _Parked:
    """A copy of a tensor on the host, and what is on its way to there or back."""

    def __init__(self, tensor: torch.Tensor, lane: Lane):
        self.lane, self.before = lane, lane.last
        self.device, self.shape = tensor.device, tensor.shape
        self.source: torch.Tensor | None = None
        self.back: torch.Tensor | None = None
        self.done: Any = None  # the event behind the last copy
        if before := self.before():
            before.left()
        lane.last = weakref.ref(self)
        if tensor.device.type != "cuda":
            self.pieces = [tensor.detach().clone()]
            return
        self.source = tensor.detach().contiguous()  # what is read, until the copy is made
        parts = self.source.view(-1).split(PIECE // tensor.element_size())
        self.pieces = [torch.empty(p.shape, dtype=p.dtype, pin_memory=True) for p in parts]
        self._copy(self.pieces, parts)

    def left(self) -> None:
        """Let go of the tensor on the card, once its copy is made.

        The computation waits for that, as its next tensors may lie where this one did; a layer ran
        since the copy began, so it has mostly ended.
        """
        if self.source is not None:
            torch.cuda.current_stream(self.device).wait_event(self.done)
            self.source = None

    def begin(self) -> None:
        """Start the way back."""
        if self.back is not None or self.device.type != "cuda":
            return
        self.left()
        self.back = torch.empty(self.shape, dtype=self.pieces[0].dtype, device=self.device)
        self._copy(self.back.view(-1).split([len(p) for p in self.pieces]), self.pieces)
        # Where the backward pass breaks off it is freed with the copy still on its way.
        self.back.record_stream(self.lane.stream)

    def fetch(self) -> torch.Tensor:
        """The tensor, on its device; the one that will be asked for next sets off."""
        if self.device.type != "cuda":
            return self.pieces[0]
        self.begin()
        torch.cuda.current_stream(self.device).wait_event(self.done)
        if before := self.before():
            before.begin()
        found, self.back = self.back, None
        assert found is not None
        return found

    def _copy(self, targets, sources) -> None:
        """Copy on the stream of copies, behind all that the computation was asked for so far."""
        if self.lane.stream is None:
            self.lane.stream = torch.cuda.Stream(self.device)
        self.lane.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.lane.stream):
            for target, source in zip(targets, sources, strict=True):
                target.copy_(source, non_blocking=True)
            self.done = self.lane.stream.record_event()
