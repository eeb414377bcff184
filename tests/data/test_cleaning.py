"""Repeated and contradicting rows by sums of hashes, held to sets of the hashes themselves."""

import random
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from dpo_lite.data.cleaning import contradicting, keys_of, repeated


def pool_of(rows, kept=None):
    """``rows``: prompt's hash, hashes of the answers, label; in two chunks, one of them empty."""
    half = len(rows) // 2
    schema = pa.schema({"response_keys": pa.list_(pa.int64()), "desirable": pa.bool_()})
    parts = [
        pa.RecordBatch.from_pydict(
            {"response_keys": [r[1] for r in part], "desirable": [r[2] for r in part]}, schema
        )
        for part in (rows[:half], [], rows[half:])
    ]
    return SimpleNamespace(
        table=SimpleNamespace(data=pa.Table.from_batches(parts, schema)),
        prompt_key=np.array([r[0] for r in rows], np.int64),
        lengths=SimpleNamespace(count=np.array([len(r[1]) for r in rows])),
        kept=np.ones(len(rows), bool) if kept is None else np.array(kept),
    )


def by_sets(pool, rows):
    seen, mask = set(), []
    for kept, (prompt, answers, label) in zip(pool.kept, rows, strict=True):
        key = (prompt, *answers, label)
        mask.append(bool(kept and key in seen))
        seen |= {key} if kept else set()
    own = [row for kept, row in zip(pool.kept, rows, strict=True) if kept]
    pairs = {(p, *a) for p, a, _ in own if len(a) == 2}
    labelled = {(p, *a, label) for p, a, label in own if len(a) == 1}
    both = sum((p, a, True) in labelled for p, a, label in labelled if label is False)
    return mask, sum((p, b, a) in pairs for p, a, b in pairs) // 2 + both


@pytest.mark.parametrize("seed", range(20))
def test_as_sets_of_the_hashes_say(seed):
    draw = random.Random(seed)
    few = [draw.randrange(-(2**63), 2**63) for _ in range(3)]
    rows = [
        (draw.choice(few), draw.choices(few, k=draw.randrange(4)), draw.choice([None, True, False]))
        for _ in range(60)
    ]
    pool = pool_of(rows, [draw.random() < 0.8 for _ in rows])
    mask, count = by_sets(pool, rows)
    assert repeated(pool).tolist() == mask
    assert contradicting(pool) == count
    places = np.array([5, 2, 40])
    assert keys_of(pool, places) == [(rows[i][0], *rows[i][1]) for i in places]


def test_of_no_rows_none():
    pool = pool_of([])
    assert repeated(pool).tolist() == []
    assert contradicting(pool) == 0
