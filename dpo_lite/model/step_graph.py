"""On a card one token after another is the same work: it is recorded once and then played again.

A step of an 8B model with an adapter launches some 3,000 small kernels, and telling a card each of
them takes longer than the kernels themselves. A CUDA graph tells it all of them in one go. For that
nothing may move from step to step: keys and values lie in a cache of fixed size, layers with a
window keep all of theirs too (their mask leaves out what is too old), and what a step is given is
copied to where the recorded one reads it.

``generate`` stays transformers' own; only what its model does behind the prompt is exchanged.
Nothing is taken on trust. The first step is done as always, in a mode in which PyTorch refuses
whatever waits for the card, for that cannot be recorded. It is recorded, played and compared; so is
the next one. Where one of these fails the model answers as it did without, and says so once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, wraps
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import StaticCache, cache_utils
from transformers.cache_utils import StaticLayer, StaticSlidingWindowLayer

from dpo_lite.errors import memory_ran_out

FEWEST = 16  # tokens: of fewer, recording and trying take as long as they save
TRIED = 2  # steps that are done both ways
NEAR = 0.02  # of the logits' spread: rounding; a step that reads another token's place is far off
# What a cache may consist of: layers of fixed size, and since transformers 5.23 of none at all.
FIXED = {StaticLayer, getattr(cache_utils, "DummyLayer", StaticLayer)}

Step = Callable[..., Any]
_refused: WeakKeyDictionary[torch.nn.Module, str] = WeakKeyDictionary()
_broken: list[Any] = []  # graphs that PyTorch's allocators may still ask whether they record
_log = logging.getLogger(__name__)


def fixed_cache(lm: torch.nn.Module, tokens: int) -> StaticCache | None:
    """A cache of a transformers model for so many tokens, prompt and padding included; None where
    a layer keeps anything but keys and values (a recurrent state), or the model makes its own."""
    if not lm._supports_default_dynamic_cache():
        return None
    try:
        cache = StaticCache(config=lm.config, max_cache_len=tokens)
    except (KeyError, ValueError):  # a kind of layer that has no cache of fixed size
        return None
    whole = StaticLayer, StaticSlidingWindowLayer
    cache.layers = [StaticLayer(tokens) if type(at) in whole else at for at in cache.layers]
    return cache if {type(at) for at in cache.layers} <= FIXED else None


@contextmanager
def steps_recorded(lm: torch.nn.Module, prompt: int, new: int) -> Iterator[dict[str, Any]]:
    """Inside, one call of ``lm.generate`` with what this yields goes by a graph, if it can.

    ``prompt``: its tokens with padding; ``new``: how many are drawn at most.
    """
    cache = fixed_cache(lm, _rounded(prompt + new)) if _may(lm, new) else None
    if cache is None:
        yield {}
        return
    own = vars(lm).get("forward")  # of a model that somebody has hooked already
    steps = Steps(lm, cache)
    lm.forward = wraps(lm.forward)(steps)
    try:
        yield {"past_key_values": cache, "disable_compile": True}
    finally:
        del lm.forward
        if own is not None:
            lm.forward = own
        steps.close()


def _may(lm: torch.nn.Module, new: int) -> bool:
    """On one card alone, and not where it has failed before."""
    if new < FEWEST or lm in _refused or not torch.cuda.is_available():
        return False
    card = torch.device("cuda", torch.cuda.current_device())
    # Autocast would keep casts of weights from step to step.
    alone = all(parameter.device == card for parameter in lm.parameters())
    return alone and not torch.is_autocast_enabled("cuda")


def _rounded(tokens: int) -> int:
    """To eights, as attention's kernels want the rows of a mask."""
    return -(-tokens // 8) * 8


class Steps:
    """``lm.forward`` of one generation: the prompt as always, then the recorded step."""

    def __init__(self, lm: torch.nn.Module, cache: StaticCache):
        self.lm, self.plain, self.cache = lm, lm.forward, cache
        self.calls = 0
        self.on = True
        self.graph: Any = None
        self.given: dict[str, Any] = {}  # what the recorded step reads
        self.made: Any = None  # what it writes

    def __call__(self, *positions, **inputs):
        self.calls += 1
        if self.calls == 1 or not self.on:
            return self.plain(*positions, **inputs)
        if positions or (self.graph is not None and _form(inputs) != _form(self.given)):
            self._stop("a step is not like the one before")
            return self.plain(*positions, **inputs)
        return self._try(inputs) if self.calls <= 1 + TRIED else self._play(inputs)

    def _try(self, inputs: dict[str, Any]):
        """One step both ways. What is given back is plain, and so is what the cache holds."""
        counts = [at.cumulative_length for at in self.cache.layers if isinstance(at, StaticLayer)]
        before = [count.clone() for count in counts]

        def rewind() -> None:
            for count, value in zip(counts, before, strict=True):
                count.copy_(value)

        try:
            if self.graph is None:
                without_waiting(lambda: self.plain(**inputs))
                rewind()
                self.given = _mapped(torch.clone, inputs)
                self.graph, self.made = record(lambda: self.plain(**self.given))
            found = self._play(inputs).logits.clone()
            rewind()
            expected = self.plain(**inputs)
            if _near(found, expected.logits):
                return expected
            self._stop("its numbers came out otherwise")
        except Exception as error:  # whatever a card, a driver or a library cannot do
            if memory_ran_out(error):
                self.on = False  # it may fit another time
            else:
                self._stop(str(error).partition("\n")[0])
        rewind()
        return self.plain(**inputs)

    def _play(self, inputs: dict[str, Any]):
        for held, new in zip(_tensors(self.given), _tensors(inputs), strict=True):
            held.copy_(new)
        self.graph.replay()
        return self.made

    def _stop(self, why: str) -> None:
        self.on = False
        _refused[self.lm] = why
        _log.warning("Answers are not drawn by a CUDA graph here, which is slower: %s", why)

    def close(self) -> None:
        """Give the memory of the recorded step back."""
        graph, self.graph, self.made, self.given = self.graph, None, None, {}
        if graph is not None:
            give_back(graph)


# --- what a step is given -------------------------------------------------------------------------


def _mapped(change: Callable[[torch.Tensor], Any], inputs: dict[str, Any]) -> dict[str, Any]:
    """The same with its tensors changed, also those of a mask per kind of layer."""
    return {
        name: _mapped(change, value)
        if isinstance(value, dict)
        else change(value)
        if isinstance(value, torch.Tensor)
        else value
        for name, value in inputs.items()
    }


def _form(inputs: dict[str, Any]) -> dict[str, Any]:
    return _mapped(lambda tensor: (tensor.shape, tensor.dtype, tensor.device), inputs)


def _tensors(inputs: dict[str, Any]) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    _mapped(found.append, inputs)
    return found


def _near(found: torch.Tensor, expected: torch.Tensor) -> bool:
    off = (found.float() - expected.float()).abs().max()
    return bool(off <= NEAR * expected.float().std())


# --- a card ---------------------------------------------------------------------------------------


@lru_cache
def _beside(device: int) -> torch.cuda.Stream:
    """The stream that steps are recorded on; one, as each keeps a workspace of cuBLAS."""
    return torch.cuda.Stream(device)


def without_waiting(step: Step) -> Any:
    """A step on that stream, so that all is there that kernels make at their first call; raises
    RuntimeError where the host waits for the card or copies to it."""
    stream, before = _beside(torch.cuda.current_device()), torch.cuda.get_sync_debug_mode()
    stream.wait_stream(torch.cuda.current_stream())
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.cuda.stream(stream):
            return step()
    finally:
        torch.cuda.set_sync_debug_mode(before)
        torch.cuda.current_stream().wait_stream(stream)


def record(step: Step) -> tuple[torch.cuda.CUDAGraph, Any]:
    """A step as a graph, which is not done yet, and what it will have made once it is played."""
    device, stream = torch.cuda.current_device(), torch.cuda.current_stream()
    graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
    try:
        with torch.cuda.graph(
            graph, pool=pool, stream=_beside(device), capture_error_mode="thread_local"
        ):
            return graph, step()
    except BaseException:
        torch.cuda.set_stream(stream)  # PyTorch may have stayed on the other one
        _broken_off(graph, device, pool)
        raise


def _broken_off(graph: torch.cuda.CUDAGraph, device: int, pool: Any) -> None:
    """Take back what PyTorch leaves behind where CUDA has ended a recording before its end."""
    with suppress(RuntimeError):
        graph.pool()  # it has one where the recording came to an end after all
        return
    # It thinks that it still records, and would not give the memory back.
    for end in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
        with suppress(RuntimeError, AttributeError):
            getattr(torch._C, end)(device, pool)
    # With torch 2.11 the card's generator goes on as in a recording, and draws nothing outside of
    # one ("Offset increment outside graph capture"). The same state anew is in none.
    with suppress(RuntimeError, AttributeError):
        drawing = torch.cuda.default_generators[device]
        drawing.graphsafe_set_state(drawing.clone_state())
    _broken.append(graph)


def give_back(graph: torch.cuda.CUDAGraph) -> None:
    """The memory of a graph that is not played any more, to the card."""
    torch.cuda.synchronize()
    graph.reset()
    torch.cuda.empty_cache()
