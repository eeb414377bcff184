"""A rollout of processes that train together: each draws and judges its share of the prompts.

What they learn from is the whole of it, the same in all of them. Which answers are drawn depends on
how many processes there are, as it does on how many answers are drawn at once: each draws from
random numbers of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from dpo_lite.training import ranks
from dpo_lite.training.ppo import Rollout

SEEDS = 1_000_000_007  # between the random numbers of two processes


def own_prompts(prompts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """This process' share: they are dealt in turn."""
    return [prompts[place] for place in range(ranks.rank(), len(prompts), ranks.count())]


def own_seed(seed: int) -> int:
    """Of what this process draws; the first one has that of a process alone."""
    return seed + SEEDS * ranks.rank()


def rolled_together(prompts: Sequence[dict[str, Any]], roll: Callable[[], Rollout]) -> Rollout:
    """The rollout of all ``prompts``; ``roll()`` draws and judges this process' share of them."""
    if ranks.alone():
        return roll()
    some = bool(own_prompts(prompts))
    parts = ranks.gathered(ranks.each(lambda: roll() if some else None))
    return joined_rollouts([part for part in parts if part is not None])


def joined_rollouts(parts: Sequence[Rollout]) -> Rollout:
    """Rollouts of prompts that were dealt in turn as one, in the order of the prompts."""
    each = len(parts[0].rewards) // len(parts[0].examples)
    dealt = [(place, n) for n, part in enumerate(parts) for place in range(len(part.examples))]
    first = [sum(len(part.examples) for part in parts[:n]) for n in range(len(parts))]
    order = [first[n] + place for place, n in sorted(dealt)]
    rows = [place * each + number for place in order for number in range(each)]
    examples = [example for part in parts for example in part.examples]
    tensors = {}
    names = [field.name for field in fields(Rollout) if field.name != "examples"]
    for name in [name for name in names if getattr(parts[0], name) is not None]:
        answers = [row for part in parts for row in getattr(part, name)]
        stacked = (
            pad_sequence(answers, batch_first=True) if answers[0].ndim else torch.stack(answers)
        )
        tensors[name] = stacked[rows]
    return Rollout(examples=[examples[place] for place in order], **tensors)
