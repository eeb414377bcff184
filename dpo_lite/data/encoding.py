"""A whole source as token ids in a memory-mapped table, made once and kept by its content.

The table is kept under a hash of all that it depends on: the rows, the options, the tokenizer and
its template, and the version of how one becomes the other (``cache_versions.ENCODING``).
"""

from __future__ import annotations

import difflib
import hashlib
import json
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset

from dpo_lite.data.cache import cached_folder
from dpo_lite.data.cache_versions import ENCODING
from dpo_lite.data.echoes import repeats_prompt, without_echo
from dpo_lite.data.examples import BadRow, DataRow, Dropped, Example, Reason
from dpo_lite.data.file_text import LeftOut
from dpo_lite.data.files import Reading
from dpo_lite.data.format_rules import Format
from dpo_lite.data.pairs import examples_of, pair_labelled, prompt_text
from dpo_lite.data.recognition import recognise
from dpo_lite.data.renaming import renamed, same_but_spelling
from dpo_lite.data.senses import refuse_other_senses
from dpo_lite.data.sources import Source
from dpo_lite.data.texts import told_apart
from dpo_lite.data.tokens import EncodedExample, Encoder, Rendered
from dpo_lite.data.where import row_filter
from dpo_lite.errors import UserError
from dpo_lite.recipe import DataSection, OneSource
from dpo_lite.tasks.spec import PROMPTS, UNPAIRED

SAMPLE = 256  # rows that a format is recognised by
GLANCE = 200  # characters of a dropped row that are shown
AT_ONCE = 512  # examples tokenised together
ROWS, FACTS = "rows.arrow", "facts.json"

SCHEMA = pa.schema(
    {
        "prompt_ids": pa.list_(pa.int32()),
        "response_ids": pa.list_(pa.list_(pa.int32())),
        "row": pa.int64(),
        "prompt": pa.string(),  # its last turn
        "before": pa.string(),  # earlier turns as JSON; none where the row names tools
        "chosen_markers": pa.list_(pa.string()),
        "rejected_markers": pa.list_(pa.string()),
        "margin": pa.float64(),  # of a pair whose row has one
        "desirable": pa.bool_(),  # of an answer that is good or bad by itself
        # For cleaning without reading the ids again: hashes of texts and ids.
        "prompt_key": pa.int64(),
        "response_keys": pa.list_(pa.int64()),
        "ids_key": pa.int64(),
        "melted": pa.bool_(),
        "folded": pa.bool_(),
        "echo": pa.bool_(),  # every answer begins with its prompt
        "thought": pa.int8(),  # as in dpo_lite.data.thoughts
    }
)


@dataclass(frozen=True)
class Options:
    """How the rows of a source become examples; part of the table's key."""

    format: str = "auto"
    columns: dict[str, str] | None = None
    where: dict[str, str | float | bool] | None = None
    pairs: str = "best_worst"
    limit: int | None = None
    strip_prompt: bool = False


def reading_of(section: DataSection) -> Reading:
    return Reading(section.encoding, tuple(section.leave_out))


def options_of(section: DataSection, part: OneSource) -> Options:
    return Options(
        part.format,
        part.columns,
        section.where,
        section.pairs,
        section.limit,
        section.strip_prompt,
    )


@dataclass(frozen=True)
class EncodedSource:
    """``table`` has the columns of SCHEMA; ``rows`` counts what was read; ``remade`` says of a kept
    table that it was damaged."""

    name: str
    format: str
    rows: int
    table: Dataset
    dropped: list[Dropped]
    remade: str = ""


def encode_source(
    source: Source,
    options: Options,
    encoder: Encoder,
    say: Callable[[str], None] = lambda text: None,
) -> EncodedSource:
    """Recognise, clean, render and tokenise a source, or take the table that is there.

    Raises UserError where no format fits, a file is broken or the cache cannot be written.
    """

    def write(folder: Path) -> None:
        facts = _write(folder / ROWS, source, options, encoder, say)
        (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")

    remade: list[str] = []
    key = _table_key(source.key, options, encoder.key)
    folder = cached_folder(key, (ROWS, FACTS), write, say=remade.append)
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    dropped = [Dropped(row, Reason(reason), detail) for row, reason, detail in facts["dropped"]]
    table = Dataset.from_file(str(folder / ROWS))
    words = "".join(remade)
    return EncodedSource(source.name, facts["format"], facts["rows"], table, dropped, words)


def _table_key(source_key: str, options: Options, encoder_key: str) -> str:
    facts = [ENCODING.key, source_key, asdict(options), encoder_key]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _write(
    path: Path, source: Source, options: Options, encoder: Encoder, say: Callable[[str], None]
) -> dict:
    """Write the table; returns the facts beside it. Rendering and tokenising overlap."""
    rows = islice(source.rows(), options.limit)
    first = list(islice(rows, SAMPLE))
    if not first:
        raise UserError(f"data: {source.name} holds no rows.")
    _check_columns("data.columns", (options.columns or {}).values(), first, source.name)
    columns = options.columns or same_but_spelling(first)
    sample = [renamed(row, columns) for row in first]
    _check_columns("data.where", options.where or {}, sample, source.name)
    sample_read = [row for row in sample if not isinstance(row, LeftOut)]
    matched = recognise(sample_read, options.format, source.name, options.pairs == PROMPTS)
    dropped: list[Dropped] = []
    later = (renamed(row, columns) for row in rows)
    counter = _Counter(chain(sample, later), source.name, say)
    examples = _examples(matched, counter, options, dropped)
    with (
        pa.OSFile(str(path), "wb") as file,
        pa.ipc.new_stream(file, SCHEMA) as writer,
        ThreadPoolExecutor(1) as pool,
    ):
        pending: deque[tuple[list[Example], list[Rendered], Future]] = deque()
        while batch := list(islice(examples, AT_ONCE)):
            rendered = [encoder.render(example) for example in batch]
            pairs = list(zip(batch, rendered, strict=True))
            for example, text in pairs:
                dropped += _with_partner(example, text) if isinstance(text, Dropped) else []
            fine = [pair for pair in pairs if isinstance(pair[1], Rendered)]
            texts = [text for _, text in fine]
            pending.append(([e for e, _ in fine], texts, pool.submit(encoder.tokenise, texts)))
            if len(pending) > 1:  # one batch ahead, so that memory stays small
                writer.write_batch(_table(*pending.popleft(), dropped))
        for batch in pending:
            writer.write_batch(_table(*batch, dropped))
    dropped.sort(key=lambda drop: drop.row)
    return {
        "format": matched.name,
        "rows": counter.count,
        "dropped": [(drop.row, drop.reason.value, drop.detail) for drop in dropped],
    }


def _examples(
    matched: Format, rows: Iterable[tuple[int, DataRow]], options: Options, dropped: list[Dropped]
) -> Iterator[Example]:
    """Convert and clean row by row; what is lost goes to ``dropped``."""
    keeps = row_filter(options.where)
    asked = options.pairs == PROMPTS
    grouped = matched.grouped and options.pairs not in (PROMPTS, UNPAIRED)
    labelled = []
    for number, row in rows:
        try:
            if isinstance(row, LeftOut):
                raise BadRow(Reason.LEFT_OUT, row.line)
            if not keeps(row):
                raise BadRow(Reason.WHERE)
            other = matched.barred(row) if options.format == "auto" else []
            if other:
                raise BadRow(Reason.MALFORMED, f"{other[0]} makes it another format's row")
            converted = matched.ask(row) if asked else matched.convert(row)
            refuse_other_senses(row, converted.prompt)
            if options.strip_prompt:
                converted = without_echo(converted)
            if grouped:
                labelled.append((number, row, converted))
                continue
            examples, faults = examples_of(converted, row, number, options.pairs)
        except BadRow as bad:
            dropped.append(Dropped(number, bad.reason, bad.detail or _glance(row)))
            continue
        dropped += faults
        yield from examples
    if grouped:
        examples, faults = pair_labelled(labelled, options.pairs)
        dropped += faults
        yield from examples


def _table(
    examples: Sequence[Example], texts: Sequence[Rendered], ids: Future, dropped: list[Dropped]
) -> pa.RecordBatch:
    """The rows of one batch; waits for its ids."""
    columns: dict[str, list] = {name: [] for name in SCHEMA.names}
    for example, text, encoded in zip(examples, texts, ids.result(), strict=True):
        if isinstance(encoded, Dropped):
            dropped += _with_partner(example, encoded)
            continue
        values = {
            "prompt_ids": encoded.prompt_ids,
            "response_ids": encoded.response_ids,
            "row": example.row,
            "prompt": example.prompt[-1]["content"],
            "before": _before(example),
            "chosen_markers": example.chosen_markers,
            "rejected_markers": example.rejected_markers,
            "margin": example.margin,
            "desirable": example.desirable,
            "prompt_key": _hash(prompt_text(example.prompt) + repr(example.template or "")),
            "response_keys": [_hash(told_apart(answer)) for answer in example.responses],
            "ids_key": _ids_key(encoded, example.desirable),
            "melted": encoded.melted,
            "folded": text.folded,
            "echo": repeats_prompt(example.prompt, example.responses),
            "thought": int(text.thought),
        }
        for name, value in values.items():
            columns[name].append(value)
    return pa.RecordBatch.from_pydict(columns, SCHEMA)


def _before(example: Example) -> str | None:
    """The turns before the last one: whoever writes the row anew needs them."""
    if example.template:
        return None
    earlier = list(example.prompt[:-1])
    return json.dumps(earlier, ensure_ascii=False) if earlier else ""


def _with_partner(example: Example, drop: Dropped) -> list[Dropped]:
    """The loss of an example that was made of two rows is a loss of both."""
    rows = [drop.row] if example.partner is None else [drop.row, example.partner]
    return [Dropped(row, drop.reason, drop.detail) for row in rows]


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _ids_key(encoded: EncodedExample, desirable: bool | None) -> int:
    digest = hashlib.blake2b(b"" if desirable is None else b"%d" % desirable, digest_size=8)
    for ids in [encoded.prompt_ids, *encoded.response_ids]:
        digest.update(b"%d:" % len(ids))
        # An array of numpy's has these bytes; element by element it takes ten times as long.
        has_them = isinstance(ids, np.ndarray) and ids.dtype == np.intc
        digest.update(ids.tobytes() if has_them else array("i", ids).tobytes())
    return int.from_bytes(digest.digest(), "big", signed=True)


def _check_columns(key: str, names: Iterable[str], sample: list[DataRow], source: str) -> None:
    known = list(dict.fromkeys(str(name) for row in sample for name in row))
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(known)}."
            raise UserError(f"{key}: {source} has no column {name}; {hint}")


def _glance(row: DataRow) -> str:
    """Something of the row to know it by: its first text, or the first message's."""
    for value in row.values():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = value[0].get("content") or value[0].get("value")
        if isinstance(value, str) and value.strip():
            return value[:GLANCE].encode(errors="replace").decode()
    return ""


class _Counter:
    """Number the rows as they pass, and say how far it is now and then."""

    def __init__(self, rows: Iterable[DataRow], name: str, say: Callable[[str], None]):
        self.rows, self.name, self.say, self.count = rows, name, say, 0

    def __iter__(self) -> Iterator[tuple[int, DataRow]]:
        for number, row in enumerate(self.rows):
            self.count = number + 1
            if number % 1000 == 999:
                self.say(f"reading {self.name}: {number + 1:,} rows")
            yield number, row
