"""Where the prompts and responses of a forest lie in its row, for layers that walk along sequences.

A recurrent layer reads a tree in two goes: the prompts first, then every response from the state in
which its prompt left off. Each go takes sequences of very different length, so they are put into
groups of like length, each a small padded batch: at most half of a group is padding, most often a
quarter.

    row      p p p p a a b b b | q q c d d
    prompts  [p p p p] [. . q q]            padded on the left: they end together, with their state
    responses [a a .] [b b b] [c . .] [d d .]   padded on the right: they begin together

Padding is zeros, which add nothing to a state. Only integers are indexed with, so that the code
also runs on tensors without data.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dpo_lite.data.packing import Tree

SHORTEST = 16  # sequences up to this length are one group


@dataclass(frozen=True)
class Group:
    """Sequences of like length as a padded batch; n tokens in all."""

    rows: int
    width: int
    tokens: torch.Tensor  # (n,) their places in the row
    slots: torch.Tensor  # (n,) their places in the padded batch, flat
    parents: torch.Tensor  # (rows,) of responses: the place of its prompt among all groups' rows

    @property
    def chunk(self) -> int:
        """The power of two that a whole sequence of the group fits in."""
        return _power(self.width)

    def spread(self, x: torch.Tensor) -> torch.Tensor:
        """(1, T, …) -> (rows, width, …), zero where there is no token."""
        picked = x[0].index_select(0, self.tokens)
        empty = x.new_zeros(self.rows * self.width, *x.shape[2:])
        spread = empty.index_copy(0, self.slots, picked)
        return spread.reshape(self.rows, self.width, *x.shape[2:])

    def collect(self, x: torch.Tensor) -> torch.Tensor:
        """(rows, width, …) -> (n, …), the tokens one after the other."""
        return x.flatten(0, 1).index_select(0, self.slots)


@dataclass(frozen=True)
class Places:
    """Both goes of a forest, and the way back to the row."""

    prompts: list[Group]
    responses: list[Group]
    back: torch.Tensor  # (T,) where each place of the row stands in what all groups collected

    def joined(self, collected: Sequence[torch.Tensor]) -> torch.Tensor:
        """What the groups collected, prompts first, as a row: (1, T, …)."""
        return torch.cat(list(collected)).index_select(0, self.back)[None]


def sequences(trees: Sequence[Tree]) -> tuple[list[range], list[range], list[int]]:
    """Prompts and responses as places in the row, and which prompt each response belongs to."""
    prompts, responses, owners = [], [], []
    for number, tree in enumerate(trees):
        start = tree.start + tree.prompt
        prompts.append(range(tree.start, start))
        for length in tree.responses:
            responses.append(range(start, start + length))
            owners.append(number)
            start += length
    return prompts, responses, owners


def places(trees: Sequence[Tree], device: torch.device) -> Places:
    """Work them out and put them on the device."""
    prompts, responses, owners = sequences(trees)
    first = _groups(prompts)
    found_at = {n: place for place, n in enumerate(n for numbers in first for n in numbers)}
    heads = [_group(prompts, numbers, [], True, device) for numbers in first]
    tails = [
        _group(responses, numbers, [found_at[owners[n]] for n in numbers], False, device)
        for numbers in _groups(responses)
    ]
    order = torch.cat([group.tokens for group in (*heads, *tails)])
    back = torch.empty_like(order).index_copy(0, order, torch.arange(len(order), device=device))
    return Places(heads, tails, back)


def _groups(parts: Sequence[range]) -> list[list[int]]:
    """Numbers of the sequences, by like length."""
    groups = defaultdict(list)
    for number, part in enumerate(parts):
        groups[_power(len(part))].append(number)
    return [groups[size] for size in sorted(groups)]


def _power(length: int) -> int:
    return max(SHORTEST, 1 << (length - 1).bit_length())


def _group(
    parts: Sequence[range],
    numbers: Sequence[int],
    parents: Sequence[int],
    left: bool,
    device: torch.device,
) -> Group:
    width = max(1, *(len(parts[number]) for number in numbers))
    tokens: list[int] = []
    slots: list[int] = []
    for row, number in enumerate(numbers):
        part = parts[number]
        tokens += part
        start = row * width + (width - len(part) if left else 0)
        slots += range(start, start + len(part))

    def on_device(values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long).to(device, non_blocking=True)

    return Group(len(numbers), width, on_device(tokens), on_device(slots), on_device(parents))
