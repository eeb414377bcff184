"""For every example an answer to another prompt, which KTO's reference point is measured on.

The reference point z0 of KTO (arXiv:2402.01306, Section 4) is a mean of log pi/pi_ref over
mismatched pairs: a prompt with the answer to another one. Who gets whose answer is settled here,
once, by the seed: every answer is taken once, and no prompt meets an answer that was given to it.
So the pairs of an update follow from its examples, however few they are and however they are split.
They lie in memory, unlike the table: one more copy of the responses' ids.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np
import pyarrow as pa
from datasets import Dataset, concatenate_datasets

from dpo_lite.data.pool import Selection
from dpo_lite.errors import UserError

COLUMN = "mismatched_ids"


def with_mismatched(rows: Selection, others: Selection, most: int | None, seed: int) -> Selection:
    """The rows, one response each, with a column ``mismatched_ids``.

    The answers are those of the rows themselves, of ``others`` where all rows have one prompt. One
    is cut where it would be over ``most`` tokens with its prompt. Raises UserError where there is
    no other prompt.
    """
    keys = rows.pool.prompt_key[rows.places]
    theirs = others.pool.prompt_key[others.places]
    if len(np.unique(keys)) > 1:
        answering, taken = rows, partners(keys, seed)
    elif not np.isin(theirs, keys).any():
        drawn = np.random.default_rng(seed).integers(len(theirs), size=len(keys))
        answering, taken = others, drawn
    else:
        raise UserError(
            "data.train holds a single prompt, and task: kto needs answers to two at least: its "
            "reference point is measured on answers to other prompts."
        )
    ids, starts, lengths = _answers(answering)
    lengths = lengths[taken]
    if most is not None:
        lengths = np.minimum(lengths, most - rows.lengths().prompt)
    column = _lists(ids, starts[taken], lengths, rows.places, len(rows.pool.kept))
    pool = copy(rows.pool)
    pool.table = concatenate_datasets([pool.table, Dataset(pa.table({COLUMN: column}))], axis=1)
    return replace(rows, pool=pool)


def partners(keys: np.ndarray, seed: int) -> np.ndarray:
    """For each of N examples by the key of its prompt, (N,), another one with another prompt.

    The prompts lie in a random order, the examples of one beside each other, and all move on by as
    many places as the most frequent prompt has: so each is taken once. Where one prompt has over
    half of the examples, some of the others are taken again. At least two prompts.
    """
    draw = np.random.default_rng(seed)
    prompts, prompt, counts = np.unique(keys, return_inverse=True, return_counts=True)
    order = np.lexsort((draw.random(len(keys)), draw.permutation(len(prompts))[prompt]))
    taken = np.empty(len(keys), np.int64)
    taken[order] = np.roll(order, -int(counts.max()))
    alike = np.flatnonzero(keys[taken] == keys)  # all of the one prompt that has over half
    if len(alike):
        rest = order[keys[order] != keys[alike[0]]]
        taken[alike] = np.resize(rest, len(alike))
    return taken


def _answers(rows: Selection) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All ids one after the other, and where each row's response starts and how long it is."""
    column = rows.pool.table.data.column("response_ids").combine_chunks()
    flat = column.flatten()  # one response a row
    offsets = flat.offsets.to_numpy()
    places = rows.places
    return flat.values.to_numpy(), offsets[places], offsets[places + 1] - offsets[places]


def _lists(
    ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray, places: np.ndarray, rows: int
) -> pa.ListArray:
    """Lists of ids for some places of so many rows; the others' are empty."""
    sizes = np.zeros(rows, np.int64)
    sizes[places] = lengths
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    begins = np.zeros(rows, np.int64)
    begins[places] = starts
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], sizes)
    values = ids[np.repeat(begins, sizes) + within]
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values, pa.int32()))
