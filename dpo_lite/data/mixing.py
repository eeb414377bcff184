"""Several sources in the shares that the recipe asks for."""

from __future__ import annotations

import numpy as np

from dpo_lite.data.pool import Pool
from dpo_lite.errors import UserError


def beyond_weights(pool: Pool, weights: list[float | None], seed: int) -> np.ndarray:
    """Rows to leave out for the shares to be right: a mask (N,).

    As many rows of each source stay as the weights allow without repeating any; all, where no
    source has a weight. Raises UserError where one of several sources gives nothing.
    """
    counts = [int((pool.kept & (pool.source == n)).sum()) for n in range(len(weights))]
    _check_each_gives_some(pool, counts)
    left_out = np.zeros(len(pool.kept), bool)
    if all(weight is None for weight in weights):
        return left_out
    shares = [1.0 if weight is None else weight for weight in weights]
    unit = min(count / share for count, share in zip(counts, shares, strict=True))
    for number, share in enumerate(shares):
        places = np.flatnonzero(pool.kept & (pool.source == number))
        order = np.random.default_rng([seed, number]).permutation(places)
        left_out[order[round(unit * share) :]] = True
    return left_out


def _check_each_gives_some(pool: Pool, counts: list[int]) -> None:
    """Of one source alone the general message says more."""
    for source, count in zip(pool.sources, counts, strict=True):
        if not count and len(counts) > 1:
            raise UserError(
                f"data.train: nothing of {source.name} can be trained on; `dpo-lite data "
                f"{source.name}` says why."
            )
