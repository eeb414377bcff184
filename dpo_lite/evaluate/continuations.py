"""Log-probabilities of texts behind contexts, where many texts share one: a question's choices.

Continuations of one context are a tree, so the context is computed once for all of them
(dpo_lite.data.packing), and as many trees go into a row as memory takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from dpo_lite.data.packing import Encoded, tree_tokens
from dpo_lite.errors import UserError
from dpo_lite.model.choosing import choose_way
from dpo_lite.model.device_memory import until_it_fits
from dpo_lite.model.precision import dtype_of
from dpo_lite.model.scoring import Way, lay_out, likeliest, micro_batches, scoring_context

Ids = Sequence[int]
Pair = tuple[Ids, Ids]  # a context of at least one token, and what stands behind it
Scored = tuple[float, bool]  # log p in nats, and whether each of its tokens is the likeliest one

BUDGET = 8192  # tokens of a row at first
FEW = 3  # trees by which the way of scoring is chosen


@dataclass
class Scorer:
    """``model`` in eval mode, wearing whatever role the caller put on.

    ``way`` and ``budget`` are found out when first needed, and kept.
    """

    model: torch.nn.Module
    way: Way | None = None
    budget: int = BUDGET

    def __call__(
        self, pairs: Sequence[Pair], progress: Callable[[int], None] = lambda count: None
    ) -> list[Scored]:
        """The score of each pair, in their order. ``progress`` is told how many more are done.

        Raises UserError where a single context with its continuation does not fit into memory.
        """
        unlike: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
        first = [
            unlike.setdefault((tuple(context), tuple(text)), place)
            for place, (context, text) in enumerate(pairs)
        ]
        wanted = list(unlike.values())
        found: dict[int, Scored] = {}

        def work() -> None:
            self._score(pairs, [place for place in wanted if place not in found], found, progress)

        until_it_fits(work, self._halve)
        progress(len(pairs) - len(wanted))  # those that stand there twice
        return [found[place] for place in first]

    def _halve(self, error: torch.OutOfMemoryError) -> None:
        if self.budget <= 64:
            raise UserError(
                "There is no room to score one text of this task; take one with shorter texts, or"
                " free the card of other programs."
            ) from error
        self.budget //= 2

    @torch.no_grad()
    def _score(
        self,
        pairs: Sequence[Pair],
        places: Sequence[int],
        found: dict[int, Scored],
        progress: Callable[[int], None],
    ) -> None:
        groups = grouped(pairs, places, self.budget)
        trees = [_tree(pairs, group) for group in groups]
        if trees and self.way is None:
            self.way = choose_way(self.model, sorted(trees, key=tree_tokens)[-FEW:]).way
        for some in micro_batches(trees, self.way or "plain", self.budget):
            batch = lay_out([trees[number] for number in some], self.way).to(self.model.device)
            with scoring_context(self.model, batch, dtype_of(self.model)):
                logps, best = likeliest(self.model, batch, self.way)
            count = sum(batch.group_sizes)
            sums = torch.zeros(count, dtype=torch.float64, device=logps.device)
            sums = sums.index_add(0, batch.response, logps.double())
            missed = torch.zeros(count, dtype=torch.long, device=logps.device)
            missed = missed.index_add(0, batch.response, (~best).long())
            done = [place for number in some for place in groups[number]]
            for place, value, wrong in zip(done, sums.tolist(), missed.tolist(), strict=True):
                found[place] = (value, wrong == 0)
            progress(len(done))


def grouped(pairs: Sequence[Pair], places: Sequence[int], most: int) -> list[list[int]]:
    """Places by their context, in as many groups as keep each tree within ``most`` tokens.

    A tree that is longer by one continuation alone is a group of its own.
    """
    groups: list[list[int]] = []
    last: dict[tuple[int, ...], tuple[int, int]] = {}  # of a context: its group, tokens in it
    for place in places:
        context, text = tuple(pairs[place][0]), pairs[place][1]
        number, tokens = last.get(context, (-1, most))
        if tokens + len(text) > most:
            number, tokens = len(groups), len(context)
            groups.append([])
        groups[number].append(place)
        last[context] = (number, tokens + len(text))
    return groups


def _tree(pairs: Sequence[Pair], group: Sequence[int]) -> Encoded:
    return {
        "prompt_ids": list(pairs[group[0]][0]),
        "response_ids": [list(pairs[place][1]) for place in group],
    }
