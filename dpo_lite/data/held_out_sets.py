"""What the training data are held up to: named sets, splits beside the source, or a share of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np

from dpo_lite.data.cleaning import keys_of, repeated
from dpo_lite.data.encoding import EncodedSource, encode_source, options_of, reading_of
from dpo_lite.data.examples import Reason
from dpo_lite.data.files import file_kind, split_name
from dpo_lite.data.pool import Pool, Selection
from dpo_lite.data.report import OWN, Ledger
from dpo_lite.data.sources import Source, read_source
from dpo_lite.data.tokens import Encoder
from dpo_lite.errors import UserError
from dpo_lite.recipe import DataSection, HeldOutSource, OneSource
from dpo_lite.tasks.spec import PROMPTS

HELD_OUT_SHARE = 0.05  # of the prompts, where there is no other held-out data


def held_out_sets(
    section: DataSection, first: Source, pool: Pool, say: Callable[[str], None]
) -> dict[str, Pool]:
    """The sets to evaluate on, by name; their prompts leave the training data ``pool``.

    They are the named ones, else the splits that stand beside the ``first`` source; and a share of
    the training prompts, where there are none or where data.eval_share asks for it. Raises
    UserError where one of them cannot be read.
    """
    sets = _named_sets(section, first, pool.encoder, say)
    for held_out in sets.values():
        prompts = held_out.prompt_key[held_out.kept]
        pool.drop(np.isin(pool.prompt_key, prompts), Reason.IN_EVAL)
    share = section.eval_share or (0.0 if sets else HELD_OUT_SHARE)
    if share and (own := _own_share(pool, share)).any():
        sets[OWN] = pool.take(own, OWN)
    return sets


def drawn(rows: Selection, limit: int | None, seed: int) -> Selection:
    """So many rows of a held-out set, or all where it has no more, in their order.

    Which ones follows from the seed and the words of each row alone: a larger limit takes the same
    rows and some more, and what else stands in the set changes nothing.
    """
    if limit is None or len(rows.places) <= limit:
        return rows
    keys = keys_of(rows.pool, rows.places)
    ranks = [blake2b(f"{seed} {key}".encode(), digest_size=8).digest() for key in keys]
    first = sorted(range(len(ranks)), key=ranks.__getitem__)[:limit]
    chosen = np.sort(first)
    return replace(rows, places=rows.places[chosen], cut=rows.cut[chosen])


def _named_sets(
    section: DataSection, first: Source, encoder: Encoder, say: Callable[[str], None]
) -> dict[str, Pool]:
    """Those of data.eval, else the splits beside the ``first`` source of data.train."""
    parts = section.held_out
    if parts is None:
        own = section.sources[0].model_dump(include={"format", "columns"})
        parts = [HeldOutSource(source=name, **own) for name in first.held_out_splits]
    sets: dict[str, Pool] = {}
    for part in parts:
        spec, short = part.source, _short_name(part.source)
        if spec in first.splits:
            spec, short = first.sibling(part.source), part.source
        name = part.source if short in sets or short == OWN else short
        encoded = _encoded(spec, section, part, encoder, say)
        rows = Pool([encoded], encoder, Ledger([name], prefix=f"held out, {name}: "))
        if part.share:  # as of a source that is trained on
            rows.drop(repeated(rows), Reason.DUPLICATE)
            share = _own_share(rows, part.share)
            if not share.any():
                continue
            rows = rows.take(share, f"held out, {name}")
        elif section.pairs == PROMPTS:
            rows.drop(repeated(rows), Reason.DUPLICATE)
        sets[name] = rows
    return sets


def _own_share(pool: Pool, wanted: float) -> np.ndarray:
    """About that share of the prompts, by their hashes: the same in every run, a larger share with
    the prompts of a smaller one. At least one of two, and never all.

    A mask (N,), of no row where there are no two prompts.
    """
    share = pool.prompt_key.astype(np.uint64) / 2**64
    present = share[pool.kept]
    if len(np.unique(present)) < 2:
        return np.zeros(len(pool.kept), bool)
    taken = ((share < wanted) | (share == present.min())) & (share < present.max())
    return pool.kept & taken


def _encoded(
    spec: str,
    section: DataSection,
    part: OneSource,
    encoder: Encoder,
    say: Callable[[str], None],
) -> EncodedSource:
    try:
        source = read_source(spec, section.revision, reading_of(section))
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
