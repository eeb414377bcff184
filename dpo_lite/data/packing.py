"""Lay token ids out as rows: the packed forest, and the plain padded batch it must equal.

A training example is a tree: a prompt and K responses that branch off it. The *forest* puts many
trees into one row without padding, the prompt of each computed once:

    row        p p p a a b b b | q q c d d          (two examples, two responses each)
    position   0 1 2 3 4 3 4 5 | 0 1 2 2 3          restarts after the prompt
    branch     0 0 0 1 1 2 2 2 | 0 0 1 2 2          0 is the prompt

A token sees its own branch and the prompt, nothing else (dpo_lite.model.attention). The first
token of every response is predicted at the *last prompt position*, the others at the token before
them: ``source`` holds these places, ``target`` the tokens they should predict.

The same idea is in Wang & Hegde 2024 (arXiv:2410.20305) for K = 2.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import torch


class Encoded(TypedDict):
    """One example as token ids; responses best first."""

    prompt_ids: list[int]
    response_ids: list[list[int]]


@dataclass(frozen=True)
class Tree:
    """Where one example lies in the row: its first place, and the lengths of its parts."""

    start: int
    prompt: int
    responses: tuple[int, ...]

    @property
    def stop(self) -> int:
        return self.start + self.prompt + sum(self.responses)


@dataclass
class Batch:
    """Rows for one forward pass and the places where responses are scored.

    B rows of T tokens, N scored tokens, R responses, E examples.
    """

    input_ids: torch.Tensor  # (B, T)
    position_ids: torch.Tensor | None  # (1, T) for a forest, None for padded rows
    attention_mask: torch.Tensor | None  # (B, T) for padded rows, None for a forest
    source: torch.Tensor  # (N,) index into B*T of the hidden state that predicts the target
    target: torch.Tensor  # (N,) token ids
    response: torch.Tensor  # (N,) which of the R responses the token belongs to
    ends: torch.Tensor  # (R,) index into B*T of each response's last token
    group_sizes: list[int]  # K of each of the E examples, sum R
    trees: list[Tree] = field(default_factory=list)

    @property
    def response_lengths(self) -> torch.Tensor:
        """Tokens per response, shape (R,)."""
        return torch.bincount(self.response, minlength=sum(self.group_sizes))

    def to(self, device: torch.device) -> Batch:
        def move(tensor):
            return None if tensor is None else tensor.to(device, non_blocking=True)

        return Batch(
            move(self.input_ids),
            move(self.position_ids),
            move(self.attention_mask),
            move(self.source),
            move(self.target),
            move(self.response),
            move(self.ends),
            self.group_sizes,
            self.trees,
        )


def tree_tokens(example: Encoded) -> int:
    """Tokens that an example takes in a forest: the prompt once, each response once."""
    return len(example["prompt_ids"]) + sum(map(len, example["response_ids"]))


def pack(examples: Sequence[Encoded]) -> Batch:
    """Lay the examples out as one forest row, in the order given."""
    ids: list[int] = []
    positions: list[int] = []
    source: list[int] = []
    target: list[int] = []
    response: list[int] = []
    ends: list[int] = []
    trees: list[Tree] = []
    count = 0
    for example in examples:
        prompt, responses = example["prompt_ids"], example["response_ids"]
        trees.append(Tree(len(ids), len(prompt), tuple(map(len, responses))))
        ids += prompt
        positions += range(len(prompt))
        last_of_prompt = len(ids) - 1
        for answer in responses:
            first = len(ids)
            source += [last_of_prompt, *range(first, first + len(answer) - 1)]
            target += answer
            response += [count] * len(answer)
            count += 1
            ids += answer
            ends.append(len(ids) - 1)
            positions += range(len(prompt), len(prompt) + len(answer))
    return Batch(
        input_ids=torch.tensor([ids]),
        position_ids=torch.tensor([positions]),
        attention_mask=None,
        source=torch.tensor(source),
        target=torch.tensor(target),
        response=torch.tensor(response),
        ends=torch.tensor(ends),
        group_sizes=[len(example["response_ids"]) for example in examples],
        trees=trees,
    )


def pad(examples: Sequence[Encoded], pad_id: int = 0) -> Batch:
    """Lay out every prompt + response as a row of its own, padded on the right.

    The plain layout: right for any causal model, whatever its layers do, and what the forest is
    checked against. Padding stands behind all real tokens, so no causal layer can see it.
    """
    rows = [
        (example["prompt_ids"], answer)
        for example in examples
        for answer in example["response_ids"]
    ]
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    input_ids = torch.full((len(rows), width), pad_id)
    attention_mask = torch.zeros(len(rows), width, dtype=torch.long)
    source: list[int] = []
    target: list[int] = []
    response: list[int] = []
    ends: list[int] = []
    for number, (prompt, answer) in enumerate(rows):
        length = len(prompt) + len(answer)
        input_ids[number, :length] = torch.tensor(prompt + answer)
        attention_mask[number, :length] = 1
        first = number * width + len(prompt) - 1
        source += range(first, first + len(answer))
        target += answer
        response += [number] * len(answer)
        ends.append(number * width + length - 1)
    return Batch(
        input_ids=input_ids,
        position_ids=None,
        attention_mask=attention_mask,
        source=torch.tensor(source),
        target=torch.tensor(target),
        response=torch.tensor(response),
        ends=torch.tensor(ends),
        group_sizes=[len(example["response_ids"]) for example in examples],
    )


def padded_shape(examples: Sequence[Encoded]) -> tuple[int, int]:
    """Rows and width of the padded batch of these examples."""
    rows = sum(len(example["response_ids"]) for example in examples)
    width = max(
        len(example["prompt_ids"]) + max(map(len, example["response_ids"])) for example in examples
    )
    return rows, width


def split_by_tokens(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Split an update into micro-batches of at most ``budget`` tokens; returns lists of indices.

    First-fit decreasing: the longest first, each into the first bin with room. An example that is
    longer than the budget gets a bin of its own.
    """
    bins: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        for number, free in enumerate(room):
            if sizes[index] <= free:
                bins[number].append(index)
                room[number] -= sizes[index]
                break
        else:
            bins.append([index])
            room.append(budget - sizes[index])
    return bins


def split_by_rows(shapes: Sequence[tuple[int, int]], budget: int) -> list[list[int]]:
    """Split an update into padded micro-batches of at most ``budget`` tokens; lists of indices.

    ``shapes``: rows and width of each example. A batch is as wide as its widest row, so examples go
    in by falling width: neighbours are alike and little is padded. An example that is over the
    budget gets a batch of its own.
    """
    batches: list[list[int]] = []
    rows = widest = 0
    for index in sorted(range(len(shapes)), key=lambda i: -shapes[i][1]):
        count, width = shapes[index]
        if batches and (rows + count) * widest <= budget:
            batches[-1].append(index)
            rows += count
        else:
            batches.append([index])
            rows, widest = count, width
    return batches


def split_alike(sizes: Sequence[int], kin: Sequence[Hashable], count: int) -> list[list[int]]:
    """Deal examples out to ``count`` processes, to each about as many tokens; lists of indices.

    Longest first, each to whom has least so far. Examples of the same ``kin`` stay together. With
    fewer kin than processes some get nothing.
    """
    families: dict[Hashable, list[int]] = {}
    for index, name in enumerate(kin):
        families.setdefault(name, []).append(index)
    shares: list[list[int]] = [[] for _ in range(count)]
    tokens = [0] * count
    sized = [(sum(sizes[i] for i in family), family) for family in families.values()]
    for size, family in sorted(sized, key=lambda pair: -pair[0]):
        least = tokens.index(min(tokens))
        shares[least] += family
        tokens[least] += size
    return [sorted(share) for share in shares]
