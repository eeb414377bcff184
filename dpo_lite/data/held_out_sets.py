"""What the training data are held up to: named sets, splits beside the source, or a share of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from dpo_lite.data.cleaning import repeated
from dpo_lite.data.encoding import EncodedSource, encode_source, options_of
from dpo_lite.data.examples import Reason
from dpo_lite.data.files import file_kind, split_name
from dpo_lite.data.pool import Pool
from dpo_lite.data.report import Ledger
from dpo_lite.data.sources import Source, read_source
from dpo_lite.data.tokens import Encoder
from dpo_lite.errors import UserError
from dpo_lite.recipe import DataSection, OneSource
from dpo_lite.tasks.spec import PROMPTS

HELD_OUT_SHARE = 0.05
OWN = "held_out"  # the name of the set that is taken from the training data itself


def held_out_sets(
    section: DataSection, first: Source, pool: Pool, say: Callable[[str], None]
) -> dict[str, Pool]:
    """The sets to evaluate on, by name; their prompts leave the training data ``pool``.

    They are the named ones, else the splits that stand beside the ``first`` source, else a share of
    the training prompts. Raises UserError where one of them cannot be read.
    """
    sets = _named_sets(section, first, pool.encoder, say)
    for held_out in sets.values():
        pool.drop(np.isin(pool.prompt_key, held_out.prompt_key), Reason.IN_EVAL)
    if not sets:
        share = _own_share(pool)
        return {OWN: pool.take(share, OWN)} if share.any() else {}
    return sets


def _named_sets(
    section: DataSection, first: Source, encoder: Encoder, say: Callable[[str], None]
) -> dict[str, Pool]:
    """Those of data.eval, else the splits beside the ``first`` source of data.train."""
    parts = section.held_out
    if parts is None:
        beside = section.sources[0]
        parts = [beside.model_copy(update={"source": n}) for n in first.held_out_splits]
    sets: dict[str, Pool] = {}
    for part in parts:
        spec, short = part.source, _short_name(part.source)
        if spec in first.splits:
            spec, short = first.sibling(part.source), part.source
        name = part.source if short in sets or short == OWN else short
        encoded = _encoded(spec, section, part, encoder, say)
        sets[name] = Pool([encoded], encoder, Ledger([name], prefix=f"held out, {name}: "))
        if section.pairs == PROMPTS:
            sets[name].drop(repeated(sets[name]), Reason.DUPLICATE)
    return sets


def _own_share(pool: Pool) -> np.ndarray:
    """A twentieth of the prompts, by their hashes: the same in every run, at least one of two.

    A mask (N,), of no row where there are no two prompts.
    """
    share = pool.prompt_key.astype(np.uint64) / 2**64
    present = share[pool.kept]
    if len(np.unique(present)) < 2:
        return np.zeros(len(pool.kept), bool)
    return pool.kept & ((share < HELD_OUT_SHARE) | (share == present.min()))


def _encoded(
    spec: str,
    section: DataSection,
    part: OneSource,
    encoder: Encoder,
    say: Callable[[str], None],
) -> EncodedSource:
    try:
        source = read_source(spec, section.revision)
        return encode_source(source, options_of(section, part), encoder, say)
    except UserError as error:
        text = "data.eval: " + str(error).removeprefix("data: ")
        if section.eval is None:
            text += " It stands beside the training data; data.eval names other held-out data."
        raise UserError(text) from error


def _short_name(spec: str) -> str:
    """What a held-out source is called: its file without endings, or its split."""
    last = spec.rpartition(":")[2].rpartition("/")[2]
    return split_name(Path(last)) if file_kind(Path(last)) else last
