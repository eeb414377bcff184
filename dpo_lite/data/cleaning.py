"""Rows that say what another row says, or its opposite: by hashes, without reading an id.

A row's hash is a sum over those of its prompt and its responses, each times an odd number of its
place; they are spread evenly over 64 bits, so of a million rows two that differ fall together once
in thirty million data sets.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpo_lite.data.pool import Pool

UNLABELLED = 2


def repeated(pool: Pool) -> np.ndarray:
    """Rows whose prompt, responses and label stand in an earlier row that is kept: a mask (N,)."""
    mask = np.zeros(len(pool.kept), bool)
    places = np.flatnonzero(pool.kept)
    with np.errstate(over="ignore"):
        keys = _keys(pool)[places] + _factors(1, seed=1) * _labels(pool)[places].astype(np.uint64)
    mask[places] = True
    mask[places[np.unique(keys, return_index=True)[1]]] = False  # the first of each
    return mask


def contradicting(pool: Pool) -> int:
    """Pairs that stand in the data the other way round too; answers that are good and bad."""
    labels, counts, keys = _labels(pool), pool.lengths.count, _keys(pool)
    alone = pool.kept & (counts == 1)
    good, bad = (np.unique(keys[alone & (labels == label)]) for label in (1, 0))
    pairs = pool.kept & (counts == 2)
    one_way, first = np.unique(keys[pairs], return_index=True)
    other_way = _keys(pool, turned=True)[pairs][first]
    return int(np.isin(other_way, one_way).sum()) // 2 + int(np.isin(bad, good).sum())


def keys_of(pool: Pool, places: np.ndarray) -> list[tuple[int, ...]]:
    """Hashes of the prompt and the responses of the rows at some places, (N,)."""
    answers = pool.table.data.column("response_keys").take(pa.array(places)).to_pylist()
    keys = zip(pool.prompt_key[places].tolist(), answers, strict=True)
    return [(prompt, *own) for prompt, own in keys]


def _keys(pool: Pool, turned: bool = False) -> np.ndarray:
    """A hash of every row's prompt and responses, (N,); ``turned``: the last response first."""
    parts = [_of_chunk(chunk, turned) for chunk in pool.table.data.column("response_keys").chunks]
    answers = np.concatenate(parts) if parts else np.zeros(0, np.uint64)
    return pool.prompt_key.view(np.uint64) + answers


def _of_chunk(answers: pa.ListArray, turned: bool) -> np.ndarray:
    count = pc.list_value_length(answers).to_numpy().astype(np.int64)
    start = np.cumsum(count) - count
    place = np.arange(count.sum()) - np.repeat(start, count)
    if turned:
        place = np.repeat(count, count) - 1 - place
    factors = _factors(int(count.max(initial=0)))
    with np.errstate(over="ignore"):
        weighed = answers.flatten().to_numpy().view(np.uint64) * factors[place]
        # A 0 behind all of them, so that rows at the end without responses have a place too.
        sums = np.add.reduceat(np.append(weighed, np.uint64(0)), start) if len(start) else weighed
        return np.where(count > 0, sums, np.uint64(0)) + count.astype(np.uint64)


def _factors(count: int, seed: int = 0) -> np.ndarray:
    """An odd number for each place among the responses, always the same ones."""
    drawn = np.random.default_rng(seed).integers(0, 2**63, size=count, dtype=np.uint64)
    return 2 * drawn + np.uint64(1)


def _labels(pool: Pool) -> np.ndarray:
    """Whether each row's answer is good by itself, 1 or 0; 2 of pairs and demonstrations, (N,)."""
    column = pool.table.data.column("desirable")
    return pc.fill_null(pc.cast(column, pa.int8()), UNLABELLED).to_numpy()
