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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from dpo_lite.data.linear import Sparse, folds_of, margins_by, models_without, sigmoid
from dpo_lite.data.shortcuts import FEATURES, TextPair, share_right, tokens
from dpo_lite.rates import Rate

COLUMNS = 2**18  # for words and pairs of words, by their hash
PENALTY = 1.0
SURE = 0.8
SCALES = np.geomspace(0.1, 100, 61)
MOST_REASONS = 5


class Reason(NamedTuple):
    """What speaks for the other label: a word, or two, or a trivial feature that an answer has more
    of; elsewhere the answers with it are preferred where the rejected one has it, and are not where
    the chosen one does."""

    what: str
    of_rejected: bool


@dataclass(frozen=True)
class Doubts:
    """``right``: P(label is right) of every pair by a model of other prompts, (P,); ``doubtful``:
    places of the doubted ones, the most doubted first; ``accuracy``: pairs that the model orders as
    the labels do; ``threshold``: how sure it must be; ``sure``: pairs it is as sure of, either way;
    ``reasons``: of each doubted pair, the weightiest first.
    """

    right: np.ndarray
    accuracy: Rate | None
    threshold: float
    sure: int
    doubtful: list[int] = field(default_factory=list)
    reasons: list[list[Reason]] = field(default_factory=list)

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
    fold, (gaps, met) = folds_of(groups), word_gaps(pairs)
    models = models_without(gaps, fold, PENALTY)
    margins = margins_by(gaps, fold, models)
    right, accuracy = sigmoid(_scaled(margins)), share_right(margins, groups)
    threshold = max(float(right.mean()), SURE)
    found = Doubts(right, accuracy, threshold, 0)
    if not found.told:
        return found
    sure = int((np.maximum(right, 1 - right) >= threshold).sum())
    order = np.argsort(right, kind="stable")
    doubtful = [int(place) for place in order if 1 - right[place] >= threshold]
    reasons = [_reasons(pairs[place], models[int(fold[place])], met) for place in doubtful]
    return Doubts(right, accuracy, threshold, sure, doubtful, reasons)


def _scaled(margins: np.ndarray) -> np.ndarray:
    """Margins (P,) times the scale under which the labels are likeliest (Platt's, no shift)."""
    losses = [np.logaddexp(0, -scale * margins).mean() for scale in SCALES]
    return margins * SCALES[int(np.argmin(losses))]


def word_gaps(pairs: Sequence[TextPair]) -> tuple[Sparse, np.ndarray]:
    """What the chosen answer has more of than the rejected one, (P, those met), and which columns
    were met.

    Each row of length 1: log(1 + count) of words and of two in a row, by their hash; the features.
    """
    rows, columns, values = [], [], []
    for place, pair in enumerate(pairs):
        own: dict[int, float] = {}
        for column, _, gap in _gaps(pair):
            own[column] = own.get(column, 0.0) + gap
        own = {column: gap for column, gap in own.items() if gap or column >= COLUMNS}
        length = np.sqrt(sum(gap * gap for gap in own.values())) or 1.0
        rows += [place] * len(own)
        columns += own
        values += [gap / length for gap in own.values()]
    met, place = np.unique(np.array(columns, int), return_inverse=True)
    return Sparse(len(pairs), len(met), np.array(rows, int), place, np.array(values, float)), met


def _gaps(pair: TextPair) -> Iterator[tuple[int, str, float]]:
    """Column, name and by how much the chosen answer has more of it, of all that a pair has."""
    chosen, rejected = _grams(pair.chosen), _grams(pair.rejected)
    for gram in chosen | rejected:
        gap = float(np.log1p(chosen[gram]) - np.log1p(rejected[gram]))
        if gap:
            yield crc32(gram.encode()) % COLUMNS, gram, gap
    for number, (name, (feature, more, _)) in enumerate(FEATURES.items()):
        gap = feature(pair.prompt, pair.chosen) - feature(pair.prompt, pair.rejected)
        yield COLUMNS + number, f"{name} ({more})", gap


def _grams(answer: str) -> Counter[str]:
    words = tokens(answer)
    return Counter([*words, *(f"{a} {b}" for a, b in pairwise(words))])


def _reasons(pair: TextPair, weights: np.ndarray, met: np.ndarray) -> list[Reason]:
    """What moves the pair's margin most towards the other label; words that overlap are told
    once."""
    found = []
    for column, name, gap in _gaps(pair):
        moved = gap * weights[np.searchsorted(met, column)]
        if moved < 0:
            shown = name if column >= COLUMNS else f"“{name}”"
            found.append((moved, Reason(shown, gap < 0), set(name.split())))
    told: list[Reason] = []
    known: set[str] = set()
    for _, reason, words in sorted(found, key=lambda one: one[0]):
        if len(told) < MOST_REASONS and known.isdisjoint(words):
            told.append(reason)
            known |= words
    return told
