"""Long rows in tiles: what a layer does to each token alone is done to some tokens at a time.

An MLP is as wide as its intermediate size, three to four times the hidden state, and a norm works
in fp32. For a row of 40,000 tokens that is more memory than all else in a layer that is run again.
But no token looks at another one there, so

    mlp(x) = cat(mlp(x_1), mlp(x_2), …)

holds to rounding for any cut of the row. Of such a part only its input is kept; the backward pass
runs a tile again, takes its gradient, and lets go of it before the next one. Where the part is the
last of a layer that is itself run again, the checkpoint stops before it, so it runs as often as
without tiles. Which parts act on single tokens is tried on a small copy of the base
(dpo_lite.model.forest_verdict), not listed.

After the tiled MLP of Arctic long sequence training (Bekman et al. 2025, arXiv 2506.13996, §3.1.2).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import torch

from dpo_lite.model.layers import layer_lists
from dpo_lite.model.scoring import causal_lm

TILE = 4096  # tokens: a card is busy with so many, so tiles cost it no time
NEAR = 1e-4  # of the outputs' norm; rounding in fp32 costs 1e-6


def in_tiles(model: torch.nn.Module, tokens: int, kinds: Collection[str]) -> None:
    """Let parts of these classes, directly in a layer, do ``tokens`` at a time; 0: all at once."""
    lm = causal_lm(model)
    for part in _parts(lm):
        _untile(part)
    for part in parts_of(lm, kinds) if tokens else ():
        own = vars(part).get("forward")  # of a fused part; else it is the class's
        part.forward = _tiled(part, part.forward, tokens)
        part.forward.untiled = own


@contextmanager
def tiles_for_a_while(
    model: torch.nn.Module, tokens: int, kinds: Collection[str]
) -> Iterator[None]:
    """``in_tiles`` until the block ends, in a model that has none."""
    in_tiles(model, tokens, kinds)
    try:
        yield
    finally:
        in_tiles(model, 0, kinds)


def per_token_kinds(lm: torch.nn.Module) -> set[str]:
    """Classes of those parts of the layers that map every token alone, and to the same width.

    Tried by their outputs for a few tokens together and in two halves, on the model as it stands,
    which should be small and in fp32.
    """
    alone: set[str] = set()
    mixing: set[str] = set()
    for part in _parts(lm):
        (alone if _maps_tokens(part, lm) else mixing).add(type(part).__name__)
    return alone - mixing


def parts_of(lm: torch.nn.Module, kinds: Collection[str]) -> list[torch.nn.Module]:
    """The parts of the layers that are of these classes."""
    return [part for part in _parts(lm) if type(part).__name__ in kinds]


def _parts(lm: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """What stands directly in a layer and is of the architecture's own making, with weights."""
    for layers in layer_lists(lm).values():
        for layer in layers:
            for part in layer.children():
                own = not type(part).__module__.startswith(("torch.", "peft.", "bitsandbytes."))
                if own and next(part.parameters(), None) is not None:
                    yield part


def _untile(part: torch.nn.Module) -> None:
    """Give a part the forward function back that it had before."""
    forward = vars(part).get("forward")
    if hasattr(forward, "untiled"):
        del part.forward
        if forward.untiled is not None:
            part.forward = forward.untiled


@torch.no_grad()
def _maps_tokens(part: torch.nn.Module, lm: torch.nn.Module) -> bool:
    width = lm.config.get_text_config().hidden_size
    some = torch.randn(1, 12, width, generator=torch.Generator().manual_seed(0))
    try:
        whole, first, second = part(some), part(some[:, :5]), part(some[:, 5:])
        halves = torch.cat([first, second], dim=1)
        return whole.shape == some.shape and bool((whole - halves).norm() < NEAR * whole.norm())
    except Exception:  # attention wants more than a hidden state, and what else may come
        return False


def _tiled(part: torch.nn.Module, whole: Callable, tokens: int) -> Callable:
    """The part's forward function; it takes hidden states (rows, tokens, width) alone."""

    def forward(hidden: torch.Tensor, *others, **named):
        step = max(1, tokens // hidden.shape[0])
        if others or named or hidden.ndim != 3 or hidden.shape[1] <= step:
            return whole(hidden, *others, **named)
        trained = [p for p in part.parameters() if p.requires_grad]
        if not torch.is_grad_enabled() or not (trained or hidden.requires_grad):
            return _joined(whole, hidden, step)
        keeper = _Keep.apply(torch.empty(0, requires_grad=True), hidden)
        return _Tiles.apply(whole, step, keeper.grad_fn, hidden, *trained)

    return forward


def _joined(run: Callable, hidden: torch.Tensor, step: int) -> torch.Tensor:
    """What ``run`` says of all tiles, in one tensor."""
    joined = None
    for start in range(0, hidden.shape[1], step):
        output = run(_cut(hidden, start, step))
        if joined is None:
            joined = output.new_empty((*hidden.shape[:2], output.shape[-1]))
        joined[:, start : start + step] = output
    assert joined is not None
    return joined


def _cut(hidden: torch.Tensor, start: int, step: int) -> torch.Tensor:
    """A tile, laid out as a whole row would be: mixtures view it as a list of tokens."""
    return hidden[:, start : start + step].contiguous()


class _Keep(torch.autograd.Function):
    """Keeps the input before a tile is run: a checkpoint that runs the layer again has then all it
    wants, and leaves the tiles to the backward pass."""

    @staticmethod
    def forward(ctx, anchor, hidden):
        ctx.save_for_backward(hidden)
        return torch.empty(0)

    @staticmethod
    def backward(ctx, upstream):
        raise AssertionError("no gradient goes through what only keeps")


class _Tiles(torch.autograd.Function):
    """The tiles' gradient with respect to the input and to the trained parameters."""

    @staticmethod
    def forward(ctx, run, step, keeper, hidden, *trained):
        ctx.run, ctx.step, ctx.keeper, ctx.trained = run, step, keeper, trained
        kind = hidden.device.type
        ctx.autocast = {
            "device_type": kind,
            "dtype": torch.get_autocast_dtype(kind),
            "enabled": torch.is_autocast_enabled(kind),
        }
        return _joined(run, hidden, step)

    @staticmethod
    def backward(ctx, upstream):
        (hidden,) = ctx.keeper.saved_tensors
        ctx.keeper = None
        wants = ctx.needs_input_grad[3]
        found = torch.empty_like(hidden) if wants else None
        sums: list[torch.Tensor | None] = [None] * len(ctx.trained)
        for start in range(0, hidden.shape[1], ctx.step):
            place = slice(start, start + ctx.step)
            tile = _cut(hidden, start, ctx.step).detach().requires_grad_(wants)
            with torch.enable_grad(), torch.autocast(**ctx.autocast):
                output = ctx.run(tile)
            inputs = [tile, *ctx.trained] if wants else list(ctx.trained)
            gradients = torch.autograd.grad(output, inputs, upstream[:, place], allow_unused=True)
            del output
            if found is not None:
                found[:, place] = gradients[0]
            for number, gradient in enumerate(gradients[len(inputs) - len(sums) :]):
                so_far = sums[number]
                sums[number] = gradient if so_far is None else so_far + gradient
        return None, None, None, found, *sums
