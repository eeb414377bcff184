"""From the recipe's data section to what is trained on; no row is lost uncounted.

Each source is encoded once into a memory-mapped table (dpo_lite.data.encoding). All that follows
(mixing, duplicates, held-out prompts, lengths) are masks over small arrays of that table's rows, so
160,000 pairs take little more memory than ten.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, concatenate_datasets

from dpo_lite.data.encoding import EncodedSource, Options, encode_source
from dpo_lite.data.examples import Reason
from dpo_lite.data.files import file_kind, split_name
from dpo_lite.data.formats import FORMATS
from dpo_lite.data.lengths import Lengths, lengths_of
from dpo_lite.data.report import DataReport, Ledger, chosen_longer, describe_lengths, shared_saving
from dpo_lite.data.sources import Source, read_source
from dpo_lite.data.tokens import Encoder, encoder_of
from dpo_lite.errors import UserError
from dpo_lite.recipe import DataSection, OneSource
from dpo_lite.recipe.sections import PROMPTS

HELD_OUT_SHARE = 0.05
FEW = 3
LEAST_WORDS = 16  # tokens of a cut prompt that must be left before the answer is opened
OWN = "held_out"  # the name of the set that is taken from the training data itself
HELPERS = ["prompt_key", "response_keys", "ids_key", "melted", "folded"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class PreparedData:
    """Ready to train: columns prompt_ids, response_ids, row, prompt (its last turn), markers,
    margin.

    ``lengths`` are those of ``train``, in its order. With data.pairs ``prompts`` every prompt
    stands there once and response_ids is empty.
    """

    train: Dataset
    evals: dict[str, Dataset]
    lengths: Lengths
    report: DataReport
    max_length: int | None
    fingerprint: str

    @property
    def few(self) -> list[dict[str, Any]]:
        """The first training examples, for checks and plans that need no more."""
        return list(self.train.select(range(min(FEW, len(self.train)))))


class Pool:
    """The encoded rows of some sources, and a mask of those that are still in."""

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

    def note(self, mask: np.ndarray, reason: Reason) -> None:
        """Write the rows of a mask into the ledger, the first of them with their prompts."""
        for place in map(int, np.flatnonzero(mask)):
            text = self.table[place]["prompt"] if self.ledger.wants_details(reason) else ""
            self.ledger.add(reason, int(self.source[place]), int(self.row[place]), text)

    def drop(self, mask: np.ndarray, reason: Reason) -> None:
        self.note(mask & self.kept, reason)
        self.kept &= ~mask

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


def prepare(
    section: DataSection,
    tokenizer: Any | None,
    *,
    model_limit: int | None = None,
    room: int = 0,
    seed: int = 0,
    shown: int = FEW,
    say: Say = lambda text: None,
) -> PreparedData:
    """Read, clean and encode the training data and the held-out sets.

    ``model_limit``: the base's positions, of which ``room`` stay free for an answer yet to be
    drawn. Without a tokenizer lengths are in characters and nothing is too long. ``shown``:
    rendered examples in the report. ``say`` is told how far it is. Raises UserError where nothing
    is left, or where the data cannot be understood.
    """
    encoder = encoder_of(tokenizer, section)
    parts = section.sources
    sources = [read_source(part.source, section.revision) for part in parts]
    encoded = [
        encode_source(source, _options(section, part), encoder, say)
        for source, part in zip(sources, parts, strict=True)
    ]
    say("cleaning")
    pool = Pool(encoded, encoder, Ledger([source.name for source in sources]))
    pool.drop(_repeated(pool), Reason.DUPLICATE)
    _mix(pool, [part.weight for part in parts], seed)
    held_out = _held_out(pool, section, sources[0], say)
    rows = sum(source.rows for source in encoded)
    if not pool.kept.any():
        raise UserError(_nothing_left(rows, pool.ledger))
    most = None
    if tokenizer is not None:
        whole = pool.lengths.whole[pool.kept]
        most = _max_length(whole, section.max_length, model_limit, room)
        _limit(pool, most, section.on_long)
        for other in held_out.values():
            _limit(other, most, "drop" if section.on_long == "error" else section.on_long)
    ledgers = [other.ledger for other in held_out.values()]
    held_out = {n: other for n, other in held_out.items() if n != OWN or other.kept.any()}
    if not pool.kept.any():
        raise UserError(_nothing_left(rows, pool.ledger))
    for name, other in held_out.items():
        if not other.kept.any():
            raise UserError(
                f"data.eval: no row of {name} is left to evaluate on ({_reasons(other.ledger)})."
            )

    chosen = pool.select(most)
    evals = {name: other.select(most) for name, other in held_out.items()}
    digest = hashlib.sha256(chosen.digest())
    for name, other in sorted(evals.items()):
        digest.update(name.encode() + other.digest())
    train, lengths = chosen.dataset(), chosen.lengths()
    formats = list(dict.fromkeys(source.format for source in encoded))
    report = DataReport(
        source=" + ".join(source.name for source in sources),
        format=" + ".join(formats) + (" (raw)" if section.raw else ""),
        format_why="; ".join(f.why for f in FORMATS if f.name in formats),
        unit=encoder.unit,
        rows=rows,
        kept=len(train),
        dropped=pool.ledger.merged(ledgers),
        evals={name: len(other.places) for name, other in evals.items()},
        max_length=most,
        responses={"fewest": int(lengths.count.min()), "most": int(lengths.count.max())},
        lengths=describe_lengths(lengths),
        chosen_longer=chosen_longer(lengths),
        shared_saving=shared_saving(lengths),
        melted=int(pool.column("melted")[pool.kept].sum()),
        folded=int(pool.column("folded")[pool.kept].sum()),
        contradicting=_contradicting(pool),
        examples=_rendered(encoder, train, shown),
        fingerprint=digest.hexdigest()[:16],
    )
    sets = {name: other.dataset() for name, other in evals.items()}
    return PreparedData(train, sets, lengths, report, most, report.fingerprint)


def _options(section: DataSection, part: OneSource) -> Options:
    return Options(part.format, part.columns, section.where, section.pairs, section.limit)


def _mix(pool: Pool, weights: list[float | None], seed: int) -> None:
    """As many rows of each source as the weights allow without repeating any; else all."""
    counts = [int((pool.kept & (pool.source == n)).sum()) for n in range(len(weights))]
    for source, count in zip(pool.sources, counts, strict=True):
        if not count and len(counts) > 1:
            raise UserError(
                f"data.train: nothing of {source.name} can be trained on; `dpo-lite data "
                f"{source.name}` says why."
            )
    if all(weight is None for weight in weights):
        return
    shares = [1.0 if weight is None else weight for weight in weights]
    unit = min(count / share for count, share in zip(counts, shares, strict=True))
    left_out = np.zeros(len(pool.kept), bool)
    for number, share in enumerate(shares):
        places = np.flatnonzero(pool.kept & (pool.source == number))
        order = np.random.default_rng([seed, number]).permutation(places)
        left_out[order[round(unit * share) :]] = True
    pool.drop(left_out, Reason.WEIGHT)


def _repeated(pool: Pool) -> np.ndarray:
    """Rows whose prompt and responses stand in an earlier row that is kept."""
    seen: set[tuple] = set()
    repeated = np.zeros(len(pool.kept), bool)
    for place, key in _keys(pool):
        repeated[place] = key in seen
        seen.add(key)
    return repeated


def _contradicting(pool: Pool) -> int:
    """Pairs that stand in the data the other way round too."""
    pairs = {key for _, key in _keys(pool) if len(key) == 3}
    return sum((prompt, worse, better) in pairs for prompt, better, worse in pairs) // 2


def _keys(pool: Pool) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Place, and hashes of the prompt and the responses, of every kept row."""
    answers = pool.table.data.column("response_keys").to_pylist()
    for place in np.flatnonzero(pool.kept).tolist():
        yield place, (int(pool.prompt_key[place]), *answers[place])


def _held_out(pool: Pool, section: DataSection, first: Source, say: Say) -> dict[str, Pool]:
    """The named sets, else the splits beside the source, else a share of the training prompts.

    Their prompts leave the training data.
    """
    parts = section.held_out
    if parts is None:
        beside = section.sources[0]
        parts = [beside.model_copy(update={"source": n}) for n in first.held_out_splits]
    if not parts:
        return _own_share(pool)
    sets: dict[str, Pool] = {}
    for part in parts:
        spec, short = part.source, _short_name(part.source)
        if spec in first.splits:
            spec, short = first.sibling(part.source), part.source
        name = part.source if short in sets or short == OWN else short
        try:
            source = read_source(spec, section.revision)
            found = encode_source(source, _options(section, part), pool.encoder, say)
        except UserError as error:
            text = "data.eval: " + str(error).removeprefix("data: ")
            if section.eval is None:
                text += " It stands beside the training data; data.eval names other held-out data."
            raise UserError(text) from error
        sets[name] = Pool([found], pool.encoder, Ledger([name], prefix=f"held out, {name}: "))
        if section.pairs == PROMPTS:
            sets[name].drop(_repeated(sets[name]), Reason.DUPLICATE)
        pool.drop(np.isin(pool.prompt_key, sets[name].prompt_key), Reason.IN_EVAL)
    return sets


def _short_name(spec: str) -> str:
    """What a held-out source is called: its file without endings, or its split."""
    last = spec.rpartition(":")[2].rpartition("/")[2]
    return split_name(Path(last)) if file_kind(Path(last)) else last


def _own_share(pool: Pool) -> dict[str, Pool]:
    """A twentieth of the prompts, by their hashes: the same in every run, at least one of two."""
    share = pool.prompt_key.astype(np.uint64) / 2**64
    known = share[pool.kept]
    if len(np.unique(known)) < 2:
        return {}
    mine = pool.kept & ((share < HELD_OUT_SHARE) | (share == known.min()))
    other = copy(pool)
    other.ledger = Ledger(pool.ledger.names, prefix=f"{OWN}: ")
    other.kept = mine
    pool.kept = pool.kept & ~mine
    return {OWN: other}


def _max_length(lengths: np.ndarray, wanted: int | str, model_limit: int | None, room: int) -> int:
    """The limit of an example's tokens; ``room`` of the model's are none of it."""
    limit, free = model_limit, f", of which {room} stay free for the answer" if room else ""
    if limit is not None:
        limit -= room
        if limit < 1:
            raise UserError(f"The base's limit is {model_limit} tokens{free}: no prompt fits.")
    if wanted == "auto":
        wanted = int(np.sort(lengths)[min(len(lengths) - 1, int(0.99 * len(lengths)))])
    elif limit is not None and wanted > limit:
        raise UserError(
            f"data.max_length: {wanted} is over the base's limit of {model_limit} tokens{free}."
        )
    return min(wanted, limit or wanted)


def _limit(pool: Pool, most: int, on_long: str) -> None:
    """Deal with what is over the limit as the recipe says; a response is never cut."""
    over = pool.kept & (pool.lengths.whole > most)
    if on_long == "error" and over.any():
        place = int(np.flatnonzero(over)[0])
        raise UserError(
            f"data: row {pool.row[place]} of {pool.sources[pool.source[place]].name} has "
            f"{pool.lengths.whole[place]:,} tokens, over max_length {most:,} ({over.sum():,} rows "
            "are); data.on_long=drop leaves such rows out."
        )
    if on_long == "truncate_prompt_start":
        # What opens the answer must stay, and some of the user's words before it.
        least = pool.encoder.opening + LEAST_WORDS
        cut = over & (pool.lengths.longest + least <= most)
        pool.note(cut, Reason.CUT)
        over &= ~cut
    pool.drop(over, Reason.TOO_LONG)


def _rendered(encoder: Encoder, train: Dataset, shown: int) -> list[dict[str, Any]]:
    """So many examples as the model reads them, from all over the data."""
    places = np.unique(np.linspace(0, len(train) - 1, min(shown, len(train))).astype(int))
    return [
        {
            "row": row["row"],
            "prompt": encoder.decode(row["prompt_ids"]),
            "responses": [encoder.decode(ids) for ids in row["response_ids"]],
        }
        for row in train.select(places.tolist())
    ]


def _nothing_left(rows: int, ledger: Ledger) -> str:
    return f"data.train: no row of {rows:,} is left to train on ({_reasons(ledger)})."


def _reasons(ledger: Ledger) -> str:
    """What is lost by reason, each with one row to look at."""
    said = []
    for reason, drop in ledger.entries.items():
        example = drop.examples[0] if drop.examples else {"row": drop.rows[0], "detail": ""}
        detail = example["detail"].replace("\n", " ")[:80]
        shown = f"row {example['row']}: {detail}" if detail else f"row {example['row']}"
        said.append(f"{drop.count:,} {reason}, such as {shown}")
    return "; ".join(said) or "all are held out"
