"""How long examples are, as arrays: counted from the table's offsets without reading an id."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Lengths:
    """Tokens of E examples, each of shape (E,); responses stand best first.

    Without responses (K = 0) all but ``prompt`` are 0.
    """

    prompt: np.ndarray
    first: np.ndarray  # the best response: chosen
    last: np.ndarray  # the worst one: rejected
    longest: np.ndarray
    responses: np.ndarray  # of all responses together
    count: np.ndarray  # K

    @property
    def whole(self) -> np.ndarray:
        """The prompt with its longest response: what max_length limits."""
        return self.prompt + self.longest

    def of_batch(self, shared: bool) -> np.ndarray:
        """Tokens that an example takes in a batch: in a forest, which shares its prompt, or in K
        padded rows as wide as the longest of them.

        Without responses it is the prompt either way.
        """
        if shared:
            return self.prompt + self.responses
        return np.maximum(self.count, 1) * self.whole

    def select(self, places: np.ndarray) -> Lengths:
        return Lengths(*(getattr(self, field.name)[places] for field in fields(self)))


def lengths_of(table: pa.Table) -> Lengths:
    """Lengths from the columns ``prompt_ids`` and ``response_ids``."""
    # One chunk after the other: joined, the ids of all responses would be copied into memory.
    ids = table.select(["prompt_ids", "response_ids"])
    batches = ids.to_batches() or [pa.RecordBatch.from_pylist([], ids.schema)]
    parts = [_of_batch(batch) for batch in batches]
    names = [field.name for field in fields(Lengths)]
    return Lengths(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _of_batch(table: pa.RecordBatch) -> Lengths:
    responses = table.column("response_ids")
    count = _counts(responses)
    # A 0 behind all of them, so that examples at the end without responses have a place too.
    each = np.append(_counts(responses.flatten()), 0)
    start = np.cumsum(count) - count

    def where_any(values: np.ndarray) -> np.ndarray:
        """reduceat and indexing give an example without responses a number of the next one."""
        return np.where(count > 0, values, 0)

    return Lengths(
        prompt=_counts(table.column("prompt_ids")),
        first=where_any(each[start]),
        last=where_any(each[start + count - 1]),
        longest=where_any(np.maximum.reduceat(each, start)),
        responses=where_any(np.add.reduceat(each, start)),
        count=count,
    )


def _counts(lists: pa.ChunkedArray | pa.Array) -> np.ndarray:
    return pc.list_value_length(lists).to_numpy().astype(np.int64)
