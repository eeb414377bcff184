"""A short causal convolution over a forest: every token sees the tokens before it in its own tree.

With a kernel of width K a token's output depends on K - 1 ancestors, which for the first tokens of
a response are the last of its prompt. So every prompt is laid out behind K - 1 zeros and every
response behind a copy of its K - 1 ancestors, in one longer row, over which the architecture's own
function runs; the copies' outputs are left out.

    row    p p p a a b b b            K = 3
    wider  0 0 p p p | p p a a | p p b b b

No neighbour is seen, and the function may be any kernel: it needs no boundaries and no padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from dpo_lite.data.packing import Tree
from dpo_lite.model.tree_places import sequences


@dataclass(frozen=True)
class WiderRow:
    """The longer row of a kernel's width."""

    gather: torch.Tensor  # (W,) places in the row, T where there is a zero
    keep: torch.Tensor  # (T,) where each token of the row stands in the longer one


def wider_row(trees: Sequence[Tree], width: int, device: torch.device) -> WiderRow:
    """Work it out for a kernel of ``width`` taps."""
    prompts, responses, owners = sequences(trees)
    before = width - 1
    nothing = sum(map(len, (*prompts, *responses)))
    gather: list[int] = []
    keep = [0] * nothing

    def append(ancestors: list[int], part: range) -> None:
        gather.extend(ancestors)
        for place in part:
            keep[place] = len(gather)
            gather.append(place)

    for part in prompts:
        append([nothing] * before, part)
    for part, owner in zip(responses, owners, strict=True):
        seen = [*[nothing] * before, *prompts[owner]]
        append(seen[len(seen) - before :], part)
    return WiderRow(torch.tensor(gather).to(device), torch.tensor(keep).to(device))


def convolve(original: Callable, row: WiderRow, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
    """What ``original`` gives for x (1, C, T) where it sees each token's own tree: (1, C, T)."""
    tokens = torch.nn.functional.pad(x[0].T, (0, 0, 0, 1))  # a token's channels lie together
    output = original(tokens.index_select(0, row.gather).T[None], *args, **kwargs)
    return output[0].T.index_select(0, row.keep).T[None]
