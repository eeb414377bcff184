"""From the recipe's data section to what is trained on; no row is lost uncounted.

Each source is encoded once into a memory-mapped table (dpo_lite.data.encoding). All that follows
(mixing, duplicates, held-out prompts, lengths) are masks over small arrays of that table's rows, so
160,000 pairs take little more memory than ten.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from datasets import Dataset

from dpo_lite.data.cleaning import repeated
from dpo_lite.data.encoding import encode_source, options_of, reading_of
from dpo_lite.data.examples import Reason
from dpo_lite.data.findings import rendered, report_of
from dpo_lite.data.held_out_sets import drawn, held_out_sets
from dpo_lite.data.lengths import Lengths
from dpo_lite.data.limits import apply_limit, max_length
from dpo_lite.data.mismatched import with_mismatched
from dpo_lite.data.mixing import beyond_weights
from dpo_lite.data.pool import Pool
from dpo_lite.data.report import OWN, DataReport, Ledger
from dpo_lite.data.sources import Source, read_source
from dpo_lite.data.tokens import encoder_of
from dpo_lite.errors import UserError
from dpo_lite.recipe import DataSection
from dpo_lite.tasks.spec import UNPAIRED

FEW = 3

Say = Callable[[str], None]


@dataclass(frozen=True)
class PreparedData:
    """Ready to train: columns prompt_ids, response_ids, row, prompt (its last turn), markers,
    margin, desirable; with data.pairs ``unpaired`` also mismatched_ids.

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


def prepare(
    section: DataSection,
    tokenizer: Any | None,
    *,
    model_limit: int | None = None,
    room: int = 0,
    vocabulary: int | None = None,
    seed: int = 0,
    eval_limit: int | None = None,
    shown: int = FEW,
    say: Say = lambda text: None,
) -> PreparedData:
    """Read, clean and encode the training data and the held-out sets.

    ``model_limit``: the base's positions, of which ``room`` stay free for an answer yet to be
    drawn; ``vocabulary``: rows of its embedding. Without a tokenizer lengths are in characters and
    nothing is too long. ``eval_limit``: rows of a held-out set, drawn by the ``seed`` where it has
    more. ``shown``: rendered examples in
    the report. ``say`` is told how far it is. Raises UserError where nothing is left, or where the
    data cannot be understood.
    """
    encoder = encoder_of(tokenizer, section, vocabulary)
    sources = [
        read_source(part.source, section.revision, reading_of(section)) for part in section.sources
    ]
    _check_left_out(section, sources)
    encoded = [
        encode_source(source, options_of(section, part), encoder, say)
        for source, part in zip(sources, section.sources, strict=True)
    ]
    say("cleaning")
    pool = Pool(encoded, encoder, Ledger([source.name for source in sources]))
    pool.drop(repeated(pool), Reason.DUPLICATE)
    weights = [part.weight for part in section.sources]
    pool.drop(beyond_weights(pool, weights, seed), Reason.WEIGHT)
    held_out = held_out_sets(section, sources[0], pool, say)
    _check_something_is_left(pool)

    most = None
    if tokenizer is not None:
        lengths = pool.lengths.whole[pool.kept]
        most = max_length(lengths, section.max_length, model_limit, room)
        _limit_all(pool, held_out, most, section.on_long)
        _check_something_is_left(pool)
    dropped = pool.ledger.merged(other.ledger for other in held_out.values())
    train = pool.select(most)
    whole = {name: other.select(most) for name, other in _not_empty(held_out).items()}
    evals = {name: drawn(rows, eval_limit, seed) for name, rows in whole.items()}
    if section.pairs == UNPAIRED:
        evals = {name: with_mismatched(some, train, most, seed) for name, some in evals.items()}
        train = with_mismatched(train, train, most, seed)
    rows = train.dataset()
    some = rendered(encoder, rows, shown)
    report = report_of(train, whole, evals, dropped, most, some, section.raw)
    sets = {name: chosen.dataset() for name, chosen in evals.items()}
    return PreparedData(rows, sets, train.lengths(), report, most, report.fingerprint)


def _check_left_out(section: DataSection, sources: list[Source]) -> None:
    """Raises UserError where data.leave_out names a line of a file that no source has."""
    reading, files = reading_of(section), [file for source in sources for file in source.files]
    parts = [part.source for part in section.held_out or [] if part.source not in sources[0].splits]
    while reading.unknown(files) and parts:
        files += read_source(parts.pop(), section.revision, reading).files
    if unknown := reading.unknown(files):
        close = get_close_matches(unknown[0].rpartition(":")[0], [f.name for f in files], n=1)
        hint = f"did you mean {close[0]}?" if close else "put its name right, or take it out."
        raise UserError(f"data.leave_out: no source has the file of {unknown[0]}; {hint}")


def _limit_all(pool: Pool, held_out: dict[str, Pool], most: int, on_long: str) -> None:
    """Held-out rows that are too long are never an error: nothing is learned from them."""
    apply_limit(pool, most, on_long)
    for other in held_out.values():
        apply_limit(other, most, "drop" if on_long == "error" else on_long)


def _check_something_is_left(pool: Pool) -> None:
    if not pool.kept.any():
        rows = sum(source.rows for source in pool.sources)
        raise UserError(
            f"data.train: no row of {rows:,} is left to train on ({_reasons(pool.ledger)})."
        )


def _not_empty(held_out: dict[str, Pool]) -> dict[str, Pool]:
    """The sets to evaluate on; raises UserError where one that was asked for is empty."""
    for name, other in held_out.items():
        if name != OWN and not other.kept.any():
            raise UserError(
                f"data.eval: no row of {name} is left to evaluate on ({_reasons(other.ledger)})."
            )
    return {name: other for name, other in held_out.items() if other.kept.any()}


def _reasons(ledger: Ledger) -> str:
    """What is lost by reason, each with one row to look at."""
    reasons = []
    for reason, drop in ledger.entries.items():
        example = drop.examples[0] if drop.examples else {"row": drop.rows[0], "detail": ""}
        detail = example["detail"].replace("\n", " ")[:80]
        shown = f"row {example['row']}: {detail}" if detail else f"row {example['row']}"
        reasons.append(f"{drop.count:,} {reason}, such as {shown}")
    return "; ".join(reasons) or "all are held out"
