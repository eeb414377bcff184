"""Pairs whose label is doubted: a small model of other prompts is sure that it is the other way.

The model knows the words of the two answers and the order of two words, and the trivial features.
It is fitted on the other folds, so a pair never votes for itself, and one number scales its margins
so that its probabilities are those that come true. A label is doubted where the other one is at
least as probable as labels are on average, 1 - p >= mean p (confident learning, Northcutt et al.
2021, arXiv:1911.00068, Eq. 1), and at least SURE.

A list for eyes: the small model has its own mistakes, and ``Doubts.agreed`` says how much it is to
be trusted. Where it cannot tell chosen from rejected there is no list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from zlib import crc32

import numpy as np

from dpo_lite.data.linear import Sparse, folds_of, out_of_fold, sigmoid
from dpo_lite.data.shortcuts import FEATURES, TextPair, share_right, tokens
from dpo_lite.rates import Rate

COLUMNS = 2**18  # for words and pairs of words, by their hash
PENALTY = 1.0
SURE = 0.8
SCALES = np.geomspace(0.1, 100, 61)


@dataclass(frozen=True)
class Doubts:
    """``right``: P(label is right) of every pair by a model of other prompts, (P,); ``doubtful``:
    places of the doubted ones, the most doubted first; ``accuracy``: pairs that the model orders as
    the labels do; ``threshold``: how sure it must be; ``sure``: pairs it is as sure of, either way.
    """

    right: np.ndarray
    accuracy: Rate | None
    threshold: float
    sure: int
    doubtful: list[int] = field(default_factory=list)

    @property
    def told(self) -> bool:
        """Whether the model can tell chosen from rejected at all."""
        return self.accuracy is not None and self.accuracy.above(0.5)

    @property
    def agreed(self) -> Rate | None:
        """Of the pairs that the model is sure of, those whose label says the same."""
        return Rate(1 - len(self.doubtful) / self.sure, self.sure) if self.sure else None

    def to_json(self) -> dict[str, Any]:
        return {
            "accuracy": self.accuracy and self.accuracy.to_json(),
            "threshold": self.threshold,
            "sure": self.sure,
            "doubtful": len(self.doubtful),
        }


def doubts(pairs: Sequence[TextPair]) -> Doubts:
    """Cross-fitted doubts of P pairs."""
    groups = [pair.group if pair.group is not None else pair.prompt for pair in pairs]
    margins = out_of_fold(word_gaps(pairs), folds_of(groups), PENALTY)
    right, accuracy = sigmoid(_scaled(margins)), share_right(margins, groups)
    threshold = max(float(right.mean()), SURE)
    found = Doubts(right, accuracy, threshold, 0)
    if not found.told:
        return found
    sure = int((np.maximum(right, 1 - right) >= threshold).sum())
    order = np.argsort(right, kind="stable")
    doubtful = [int(place) for place in order if 1 - right[place] >= threshold]
    return Doubts(right, accuracy, threshold, sure, doubtful)


def _scaled(margins: np.ndarray) -> np.ndarray:
    """Margins (P,) times the scale under which the labels are likeliest (Platt's, no shift)."""
    losses = [np.logaddexp(0, -scale * margins).mean() for scale in SCALES]
    return margins * SCALES[int(np.argmin(losses))]


def word_gaps(pairs: Sequence[TextPair]) -> Sparse:
    """What the chosen answer has more of than the rejected one, (P, those met).

    Each row of length 1: log(1 + count) of words and of two in a row, by their hash; the features.
    """
    rows, columns, values = [], [], []
    for place, pair in enumerate(pairs):
        gaps = _counts(pair.chosen)
        gaps.subtract(_counts(pair.rejected))
        own = {column: gap for column, gap in gaps.items() if gap}
        for number, (feature, _, _) in enumerate(FEATURES.values()):
            gap = feature(pair.prompt, pair.chosen) - feature(pair.prompt, pair.rejected)
            own[COLUMNS + number] = gap
        length = np.sqrt(sum(gap * gap for gap in own.values())) or 1.0
        rows += [place] * len(own)
        columns += own
        values += [gap / length for gap in own.values()]
    met, place = np.unique(np.array(columns, int), return_inverse=True)
    return Sparse(len(pairs), len(met), np.array(rows, int), place, np.array(values, float))


def _counts(answer: str) -> Counter[int]:
    words = tokens(answer)
    grams = Counter([*words, *(f"{a} {b}" for a, b in pairwise(words))])
    counts: Counter[int] = Counter()
    for gram, count in grams.items():
        counts[crc32(gram.encode()) % COLUMNS] += float(np.log1p(count))  # type: ignore[assignment]
    return counts
