"""The encoded rows of some sources, and a mask of those that are still in.

The steps between reading and training (dpo_lite.data.cleaning, mixing, held_out_sets, limits) are
functions from a pool to a mask; a pool changes by ``drop`` and ``take`` alone.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from datasets import Dataset, concatenate_datasets

from dpo_lite.data.encoding import EncodedSource
from dpo_lite.data.examples import Reason
from dpo_lite.data.lengths import Lengths, lengths_of
from dpo_lite.data.report import Ledger
from dpo_lite.data.tokens import Encoder

HELPERS = ["prompt_key", "response_keys", "ids_key", "melted", "folded", "echo", "thought"]


class Pool:
    """N rows in the order of their sources.

    ``source``: which source each is of, (N,); ``row``: its number there, (N,); ``kept``: whether
    it is still in, (N,). What leaves is written into the ledger.
    """

    def __init__(self, sources: list[EncodedSource], encoder: Encoder, ledger: Ledger):
        self.sources = sources
        self.encoder = encoder
        self.ledger = ledger
        self.table = concatenate_datasets([source.table for source in sources])
        self.source = np.repeat(np.arange(len(sources)), [len(s.table) for s in sources])
        self.row = self.column("row")
        self.prompt_key = self.column("prompt_key")
        self.lengths = lengths_of(self.table.data)
        self.kept = np.ones(len(self.row), bool)
        for number, source in enumerate(sources):
            for drop in source.dropped:
                ledger.add(drop.reason, number, drop.row, drop.detail)

    def column(self, name: str) -> np.ndarray:
        return self.table.data.column(name).to_numpy()

    @property
    def labels(self) -> list[bool | None]:
        """Whether each row's answer is good by itself, (N,); None of pairs and demonstrations."""
        return self.table.data.column("desirable").to_pylist()

    def note(self, mask: np.ndarray, reason: Reason) -> None:
        """Write the rows of a mask into the ledger, the first of them with their prompts."""
        for place in map(int, np.flatnonzero(mask)):
            text = self.table[place]["prompt"] if self.ledger.wants_details(reason) else ""
            self.ledger.add(reason, int(self.source[place]), int(self.row[place]), text)

    def drop(self, mask: np.ndarray, reason: Reason) -> None:
        self.note(mask & self.kept, reason)
        self.kept = self.kept & ~mask

    def take(self, mask: np.ndarray, name: str) -> Pool:
        """Move the rows of a mask into a pool of their own, which has a ledger of its own."""
        taken = copy(self)
        taken.ledger = Ledger(self.ledger.names, prefix=f"{name}: ")
        taken.kept = mask
        self.kept = self.kept & ~mask
        return taken

    def select(self, most: int | None) -> Selection:
        """What is still in, with prompts cut at their start where they are over ``most``."""
        places = np.flatnonzero(self.kept)
        over = self.lengths.whole[places] - (most or np.iinfo(np.int64).max)
        return Selection(self, places, np.maximum(over, 0))


@dataclass(frozen=True)
class Selection:
    """Rows of a pool in their order; ``cut`` tokens are missing at the start of each prompt."""

    pool: Pool
    places: np.ndarray
    cut: np.ndarray

    def lengths(self) -> Lengths:
        lengths = self.pool.lengths.select(self.places)
        return replace(lengths, prompt=lengths.prompt - self.cut)

    def dataset(self) -> Dataset:
        """Memory-mapped rows; only those that are cut are written anew."""
        table = self.pool.table.remove_columns(HELPERS)
        cut = np.flatnonzero(self.cut)
        if not len(cut):
            return table.select(self.places)
        rows = table.select(self.places[cut]).with_format("arrow")[:]
        prompts = [
            self.pool.encoder.shortened(ids.values.to_numpy(), missing)
            for ids, missing in zip(rows.column("prompt_ids"), self.cut[cut], strict=True)
        ]
        place = rows.column_names.index("prompt_ids")
        column = pa.array(prompts, rows.schema.field(place).type)
        shorter = Dataset(rows.set_column(place, "prompt_ids", column))
        whole = np.flatnonzero(self.cut == 0)
        joined = concatenate_datasets([table.select(self.places[whole]), shorter])
        return joined.select(np.argsort(np.concatenate([whole, cut])))

    def digest(self) -> bytes:
        """Changes with any token id and with the order."""
        return self.pool.column("ids_key")[self.places].tobytes() + self.cut.tobytes()
