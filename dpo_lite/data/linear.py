"""A small logistic model of differences between two answers, fitted out of fold.

Each row of X is what the preferred answer has more of than the other one, so a label that is right
is a positive margin x·w and there is no intercept: the model is Bradley-Terry with a linear reward,
P(the label is right) = sigma(x·w). numpy is enough for it, so no further library is asked for.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

FOLDS = 5
ITERATIONS = 100


@dataclass(frozen=True)
class Sparse:
    """A matrix of (n, columns) by its entries: row, column and value of each, (entries,)."""

    n: int
    columns: int
    row: np.ndarray
    column: np.ndarray
    value: np.ndarray

    def times(self, weights: np.ndarray) -> np.ndarray:
        """X w: (columns,) -> (n,)."""
        return np.bincount(self.row, self.value * weights[self.column], self.n)

    def transposed_times(self, values: np.ndarray) -> np.ndarray:
        """X^T v: (n,) -> (columns,)."""
        return np.bincount(self.column, self.value * values[self.row], self.columns)

    def rows(self, mask: np.ndarray) -> Sparse:
        """The rows of a mask (n,) -> (mask.sum(), columns)."""
        place = np.cumsum(mask) - 1
        kept = mask[self.row]
        row = place[self.row[kept]]
        return Sparse(int(mask.sum()), self.columns, row, self.column[kept], self.value[kept])


def dense(values: np.ndarray) -> Sparse:
    """(n, columns), all of whose entries are kept."""
    row, column = np.indices(values.shape)
    return Sparse(*values.shape, row.ravel(), column.ravel(), values.ravel())


def folds_of(groups: Sequence[Hashable], folds: int = FOLDS) -> np.ndarray:
    """A fold from 0 for every row (n,): equal groups share one, and it hangs on nothing else.

    Groups are dealt out by their hash, so the order of the rows does not matter.
    """
    keys = {group: blake2b(repr(group).encode(), digest_size=8).digest() for group in set(groups)}
    order = sorted(keys, key=keys.__getitem__)
    fold = {group: place % folds for place, group in enumerate(order)}
    return np.array([fold[group] for group in groups], dtype=int)


def fit(x: Sparse, penalty: float) -> np.ndarray:
    """Weights (columns,) that minimise mean log(1 + exp(-x·w)) + penalty / (2 n) |w|^2.

    By Nesterov's accelerated gradient (2004, Introductory Lectures on Convex Optimization, scheme
    2.2.11) with a fixed number of steps, so the same data give the same weights.
    """
    curvature = penalty / x.n
    steepest = 0.25 * float(np.sum(x.value**2)) / x.n + curvature
    root = np.sqrt(curvature / steepest)
    momentum = (1 - root) / (1 + root)
    weights = ahead = np.zeros(x.columns)
    for _ in range(ITERATIONS):
        wrong = sigmoid(-x.times(ahead))
        gradient = -x.transposed_times(wrong) / x.n + curvature * ahead
        last, weights = weights, ahead - gradient / steepest
        ahead = weights + momentum * (weights - last)
    return weights


def out_of_fold(x: Sparse, fold: np.ndarray, penalty: float) -> np.ndarray:
    """Each row's margin by a model of the other folds: (n, columns), (n,) -> (n,)."""
    return margins_by(x, fold, models_without(x, fold, penalty))


def models_without(x: Sparse, fold: np.ndarray, penalty: float) -> dict[int, np.ndarray]:
    """For every fold the weights (columns,) that the other folds teach."""
    return {int(number): fit(x.rows(fold != number), penalty) for number in np.unique(fold)}


def margins_by(x: Sparse, fold: np.ndarray, models: dict[int, np.ndarray]) -> np.ndarray:
    """Each row's margin by the model that has not seen its fold: (n,)."""
    margins = np.zeros(x.n)
    for number, weights in models.items():
        own = fold == number
        margins[own] = x.rows(own).times(weights)
    return margins


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * values))
