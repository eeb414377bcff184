"""The learning rate of every update, as a share of its peak.

transformers' schedules warm up from 0, so the first update learns nothing, and it is the only one
of a run on a few rows. Here the first of w warm-up updates has 1/w of the peak and the last of them
all of it; from there the rate falls as transformers' does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.optim.lr_scheduler import LambdaLR


def share_of_peak(step: int, scheduler: str, warmup: float, steps: int) -> float:
    """The share at ``step``, counted from 0, of ``steps``; ``warmup``: share of them warming up.

    Above 0 at every step but those beyond the last.
    """
    warming = math.ceil(warmup * steps)
    if step < warming:
        return (step + 1) / warming
    done = (step - warming) / max(1, steps - warming)
    if scheduler == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return max(0.0, 1.0 - done) if scheduler == "linear" else 1.0


def schedule(
    optimizer: torch.optim.Optimizer, scheduler: str, warmup: float, steps: int
) -> LambdaLR:
    """As a scheduler of PyTorch; each group of parameters has the share of its own peak."""
    return LambdaLR(optimizer, lambda step: share_of_peak(step, scheduler, warmup, steps))


@contextmanager
def rates_as_asked(optimizer: torch.optim.Optimizer, scheduler: LambdaLR) -> Iterator[None]:
    """Around the loading of both from a checkpoint: peaks, schedule and weight decay are the
    recipe's, which differ from the checkpoint's only where a run goes on with others."""
    peaks = list(scheduler.base_lrs)
    decays = [group["weight_decay"] for group in optimizer.param_groups]
    yield
    scheduler.base_lrs = peaks
    for group, peak, decay, share in zip(
        optimizer.param_groups, peaks, decays, scheduler.lr_lambdas, strict=True
    ):
        rate = peak * share(scheduler.last_epoch)
        group |= {"initial_lr": peak, "lr": rate, "weight_decay": decay}
