"""How long an example may be, and what is done with one that is longer."""

from __future__ import annotations

import numpy as np

from dpo_lite.data.examples import Reason
from dpo_lite.data.pool import Pool
from dpo_lite.errors import UserError

FLOOR = 512  # tokens: `auto` drops nothing shorter, for that would save no memory worth a row
LEAST_WORDS = 16  # tokens of a cut prompt that must be left before the answer is opened


def max_length(lengths: np.ndarray, wanted: int | str, model_limit: int | None, room: int) -> int:
    """The limit of an example's tokens; ``room`` of the model's are none of it.

    ``lengths`` are those of the training examples, (E,), at least one. Raises UserError where the
    model cannot read as much as is wanted.
    """
    limit, free = model_limit, f", of which {room} stay free for the answer" if room else ""
    if limit is not None:
        limit -= room
        if limit < 1:
            raise UserError(f"The base's limit is {model_limit} tokens{free}: no prompt fits.")
    if wanted == "auto":
        most = int(np.sort(lengths)[min(len(lengths) - 1, int(0.99 * len(lengths)))])
        wanted = max(most, FLOOR)
    elif limit is not None and wanted > limit:
        raise UserError(
            f"data.max_length: {wanted} is over the base's limit of {model_limit} tokens{free}."
        )
    return min(wanted, limit or wanted)


def apply_limit(pool: Pool, most: int, on_long: str) -> None:
    """Deal with what is over the limit as the recipe says; a response is never cut.

    Raises UserError for the first such row where ``on_long`` is ``error``.
    """
    over = pool.kept & (pool.lengths.whole > most)
    if on_long == "error" and over.any():
        raise UserError(_first_over(pool, over, most))
    if on_long == "truncate_prompt_start":
        cut = over & _can_be_cut(pool, most)
        pool.note(cut, Reason.CUT)
        over &= ~cut
    pool.drop(over, Reason.TOO_LONG)


def _can_be_cut(pool: Pool, most: int) -> np.ndarray:
    """Rows of which, with the prompt cut, what opens the answer and some of the user's words before
    it are left: a mask (N,)."""
    return pool.lengths.longest + pool.encoder.opening + LEAST_WORDS <= most


def _first_over(pool: Pool, over: np.ndarray, most: int) -> str:
    place = int(np.flatnonzero(over)[0])
    return (
        f"data: row {pool.row[place]} of {pool.sources[pool.source[place]].name} has "
        f"{pool.lengths.whole[place]:,} tokens, over max_length {most:,} ({over.sum():,} rows "
        "are); data.on_long=drop leaves such rows out."
    )
