"""The processes of one launch: which one this is, and what they tell each other.

`accelerate launch` and `torchrun` start the same command once for each card and say in the
environment which process it is. Each holds the whole model and takes every step; what is dealt out
are the examples of an update, whose gradients are then summed over the processes. Nothing is
averaged by process, so an update is that of one card but for the order of its sums.

Launched for FSDP2, each holds a part of the base's weights (dpo_lite.model.sharding) and they are
put together layer by layer, which takes all processes: so what passes through the model is done by
all of them alike, or in the same number of passes, and a process that fails there ends the launch.

The libraries do not know of it. transformers' Trainer would deal out examples by their number and
average over processes; so what the launcher said is taken out of the environment, a process sees
its own card alone, and Trainer runs in each of them as if there were no other.

In a process that was not launched with others every function here does what it is given, and that
is all. What ``each``, ``of_first`` and ``first_then_others`` do is done *by itself*: in there a
process knows nothing of the others, so nobody can wait for somebody who does something else.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from dpo_lite.errors import UserError, memory_ran_out
from dpo_lite.model.divided import NO_ROOM, divided, note_divided
from dpo_lite.training import launcher
from dpo_lite.training.last_words import all_there, leave_words, left_words, portable

if TYPE_CHECKING:
    import torch

A, T = TypeVar("A"), TypeVar("T")

# The first process may wait for the device, download, or draw answers, while the others wait.
PATIENCE = timedelta(days=30)


@dataclass(frozen=True)
class Launch:
    """What a process knows of its launch."""

    rank: int  # from 0
    count: int
    devices: tuple[str, ...]  # of this machine's processes, by their names
    store: Any  # torch's, where a fault stays readable when its process is gone
    cards: Any  # the group that sums up on cards; None on CPUs
    fsdp: bool = False  # whether the base's weights are to be divided


_launch: Launch | None = None  # None: this process is alone


def alone() -> bool:
    return _launch is None


def count() -> int:
    """How many processes train together."""
    return 1 if _launch is None else _launch.count


def rank() -> int:
    """Which of them this is, from 0."""
    return 0 if _launch is None else _launch.rank


def first() -> bool:
    """Whether it is the one that writes and prints."""
    return rank() == 0


def devices() -> tuple[str, ...] | None:
    """The devices of all processes on this machine; None for a process that is alone."""
    return _launch and _launch.devices


def fsdp() -> bool:
    """Whether this launch divides the base's weights over its processes."""
    return _launch is not None and _launch.fsdp


def divide(lm: Any) -> None:
    """Divide the weights of a transformers model over the processes, where that was asked for."""
    if _launch is None or not _launch.fsdp:
        return
    import torch.distributed as dist
    from torch.distributed.device_mesh import DeviceMesh

    from dpo_lite.model import sharding

    group = _launch.cards or dist.group.WORLD
    sharding.divide(lm, DeviceMesh.from_group(group, "cuda" if _launch.cards else "cpu"))
    note_divided(True)


# --- begin and end -------------------------------------------------------------------------------


def join() -> None:
    """Find the others, where there are others, and take a card of its own.

    Raises UserError for launchers that split the model, and where there are fewer cards than
    processes.
    """
    fsdp = launcher.take_settings()
    if launcher.launched():
        _join(fsdp)
    launcher.forget()


def _join(fsdp: bool) -> None:
    global _launch
    import torch
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    store, own, all_of_them = next(rendezvous("env://"))
    store = dist.PrefixStore("dpo_lite", store)
    dist.init_process_group("gloo", store=store, rank=own, world_size=all_of_them, timeout=PATIENCE)
    _launch = Launch(own, all_of_them, (), store, None)
    device = each(launcher.own_device)
    if torch.version.cuda or torch.version.hip:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    machine, has_card = socket.gethostname(), torch.cuda.is_available()
    found = gathered((machine, device, has_card))
    cards = [(where, name) for where, name, there in found if there]
    if cards and len(set(cards)) < all_of_them:
        raise UserError(
            f"{all_of_them} processes were launched and found {len(set(cards))} cards; launch as"
            " many on a machine as it has cards."
        )
    here = tuple(name for where, name, _ in found if where == machine)
    on_cards = dist.new_group(backend="nccl") if cards and dist.is_nccl_available() else None
    _launch = replace(_launch, devices=here, cards=on_cards, fsdp=fsdp)


def leave() -> None:
    """Take leave of the others at the end."""
    global _launch
    if _launch is not None:
        import torch.distributed as dist

        dist.destroy_process_group()
        _launch = None
        note_divided(False)


def tells(words: str) -> bool:
    """Whether this process prints why the launch ends: the first one that fails does."""
    if _launch is None:
        return os.environ.get("RANK", "0") == "0"  # a fault before the others were found
    return leave_words(_launch.store, words)


# --- what they do together -----------------------------------------------------------------------


@contextmanager
def by_itself() -> Iterator[None]:
    """In here the process knows nothing of the others."""
    global _launch
    before, _launch = _launch, None
    try:
        yield
    finally:
        _launch = before


def gathered(value: T) -> list[T]:
    """The value of every process, in their order. What stands on a card does not belong in it."""
    if _launch is None:
        return [value]
    import torch.distributed as dist

    found: list[Any] = [None] * _launch.count
    with all_there(_launch.store):
        dist.all_gather_object(found, value)
    return found


def each(work: Callable[[], T]) -> T:
    """Every process does the work by itself. Where one fails, all of them raise its error.

    So whoever gives something up (memory) gives it up everywhere. What no process can go on from
    comes before a memory that ran out. Where weights are divided the others may wait for this one
    in the middle of the work: its error ends the launch, and is theirs as well.
    """
    if _launch is None:
        return work()
    return _through_the_model(_launch, work) if divided() else _told(_launch, work)


def _through_the_model(launch: Launch, work: Callable[[], T]) -> T:
    try:
        with by_itself():
            return work()
    except RuntimeError as error:
        if memory_ran_out(error):
            raise UserError(NO_ROOM) from error
        words = left_words(launch.store)  # perhaps another one is gone
        if words is None:
            raise
        raise UserError(words) from error


def _told(launch: Launch, work: Callable[[], T]) -> T:
    """Do the work and tell the others how it ended."""
    own: Exception | None = None
    result: Any = None
    try:
        with by_itself():
            result = work()
    except Exception as error:
        own = error
    try:
        faults = {rank: f for rank, f in enumerate(gathered(portable(own))) if f is not None}
        if faults:
            worst = min(faults, key=lambda rank: memory_ran_out(faults[rank]))
            raise own if own is not None and worst == launch.rank else faults[worst]
    finally:
        del own  # whose traceback holds all that was in use
    return result


def of_first(work: Callable[[], T]) -> T:
    """What the first process finds, for all of them; the others do not do the work."""
    if _launch is None:
        return work()
    return gathered(_told(_launch, work if first() else _nothing))[0]


def _nothing() -> Any:
    """What there is to do while others work."""


def anywhere(found: bool) -> bool:
    """With divided weights, whether any process found it, also where each works by itself: for
    they do so alike, and what one of them has to ask the model all have to."""
    if not divided():
        return found
    import torch
    import torch.distributed as dist

    one = torch.tensor(float(found))
    dist.all_reduce(one)
    return bool(one)


def as_first(value: T) -> T:
    """What the first process found, of what all have done alike."""
    return gathered(value)[0]


def first_then_others(work: Callable[[], T]) -> T:
    """Work that leaves something behind for whoever comes next (a cache, a download): the first
    process does it, then all others at once."""
    if _launch is None:
        return work()
    own, others = (work, _nothing) if first() else (_nothing, work)
    before, behind = _told(_launch, own), _told(_launch, others)
    return before if first() else behind


def dealt(
    items: Sequence[A],
    work: Callable[[list[A], Callable[[int], None]], list[T]],
    progress: Callable[[int], None] = lambda count: None,
) -> list[T]:
    """``work(items, progress)`` gives one result for each item: every process does its share of
    them, and has all results, in the order of the items. With divided weights all do all of them,
    since none gets through the model without the others, and have the first one's results."""
    if divided():
        return as_first(each(lambda: work(list(items), progress)))
    places = range(rank(), len(items), count())
    own = each(lambda: work([items[i] for i in places], progress) if places else [])
    parts = [iter(part) for part in gathered(own)]
    progress(len(items) - len(places))
    return [next(parts[i % len(parts)]) for i in range(len(items))]


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace every gradient by its sum over the processes.

    One that no process has stays away; who lacks one that others have takes theirs.
    """
    if _launch is None:
        return
    import torch
    import torch.distributed as dist

    parameters = list(parameters)
    there = torch.tensor([float(p.grad is not None) for p in parameters])
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [p.grad for p in parameters]
    flat = torch.cat([*(g.flatten() for g in gradients), there.to(gradients[0].device)])
    with all_there(_launch.store):
        dist.all_reduce(flat, group=_launch.cards)
    *sums, there = flat.split([*(g.numel() for g in gradients), len(parameters)])
    torch._foreach_copy_(gradients, [s.view_as(g) for s, g in zip(sums, gradients, strict=True)])
    for parameter, holders in zip(parameters, there.tolist(), strict=True):
        if not holders:
            parameter.grad = None


def copy_from_first(tensors: Sequence[torch.Tensor]) -> None:
    """Give every process what the first one has, in place."""
    if _launch is not None:
        import torch.distributed as dist

        with all_there(_launch.store):
            for tensor in tensors:
                dist.broadcast(tensor, 0, group=_launch.cards)
