"""Memory that runs out, and memory that is given back, in one place each."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from dpo_lite.errors import UserError, memory_ran_out
from dpo_lite.model.divided import NO_ROOM, divided

T = TypeVar("T")


def release() -> None:
    """Give back what nothing refers to any more, to the card too.

    What a backward pass that broke off had still to do lies in autograd's queue, and with it the
    pass's activations, until another one begins: so a very small one does. On a card it also waits
    for autograd's thread of that card, which may not yet have let go of what it was doing.
    """
    with torch.enable_grad(), contextlib.suppress(torch.OutOfMemoryError):
        small = torch.ones(1, requires_grad=True)
        small.to("cuda" if torch.cuda.is_available() else "cpu").sum().backward()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def as_one_kind() -> Iterator[None]:
    """Inside, memory that runs out past PyTorch's allocator raises torch.OutOfMemoryError too."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or not memory_ran_out(error):
            raise
        raise torch.OutOfMemoryError(str(error)) from error


@contextmanager
def told(what: str, remedy: str) -> Iterator[None]:
    """Where memory runs out inside, and nothing can be given up: one sentence, as a UserError."""
    try:
        with as_one_kind():
            yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"There is no room in the memory of the GPU for {what}; {remedy}."
        ) from error


def until_it_fits(work: Callable[[], T], give_up: Callable[[torch.OutOfMemoryError], None]) -> T:
    """Do the work; each time memory runs out give something up and do it again, from its start.

    ``give_up`` raises where nothing is left to give up. The memory of the failed attempt is free
    only behind the ``except``: the error's traceback holds all that was in use.
    """
    while True:
        try:
            with as_one_kind():
                return work()
        except torch.OutOfMemoryError as error:
            if divided():
                raise UserError(NO_ROOM) from error
            give_up(error)
        release()


def halving(work: Callable[[int], T], at_once: int) -> tuple[T, int]:
    """``work(at_once)`` drawing so many answers together, and with how many it was done.

    Raises UserError where there is no room for a single answer.
    """

    def half(error: torch.OutOfMemoryError) -> None:
        nonlocal at_once
        if at_once == 1:
            raise UserError(
                "There is no room to draw a single answer; lower max_new_tokens or data.max_length."
            ) from error
        at_once //= 2

    result = until_it_fits(lambda: work(at_once), half)
    return result, at_once
