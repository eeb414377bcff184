"""Rows that say what another row says, or its opposite: by hashes, without reading an id."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dpo_lite.data.pool import Pool


def repeated(pool: Pool) -> np.ndarray:
    """Rows whose prompt, responses and label stand in an earlier row that is kept: a mask (N,)."""
    seen: set[tuple] = set()
    mask = np.zeros(len(pool.kept), bool)
    labels = pool.labels
    for place, key in _kept_keys(pool):
        mask[place] = (key, labels[place]) in seen
        seen.add((key, labels[place]))
    return mask


def contradicting(pool: Pool) -> int:
    """Pairs that stand in the data the other way round too; answers that are good and bad."""
    labels = pool.labels
    labelled = {(key, labels[place]) for place, key in _kept_keys(pool) if len(key) == 2}
    both = sum((key, True) in labelled for key, label in labelled if label is False)
    pairs = {key for _, key in _kept_keys(pool) if len(key) == 3}
    return sum((prompt, worse, better) in pairs for prompt, better, worse in pairs) // 2 + both


def keys_of(pool: Pool, places: np.ndarray) -> list[tuple[int, ...]]:
    """Hashes of the prompt and the responses of the rows at some places, (N,)."""
    answers = pool.table.data.column("response_keys").to_pylist()
    return [(int(pool.prompt_key[place]), *answers[place]) for place in places.tolist()]


def _kept_keys(pool: Pool) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Place and hashes of every kept row."""
    places = np.flatnonzero(pool.kept)
    return zip(places.tolist(), keys_of(pool, places), strict=True)
