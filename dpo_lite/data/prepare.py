"""From a source to token ids: read, recognise, clean, render, measure; no row is lost uncounted."""

from __future__ import annotations

import hashlib
import json
import random
import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from dpo_lite.data.examples import Dropped, Example, Reason
from dpo_lite.data.formats import detect
from dpo_lite.data.report import DataReport
from dpo_lite.data.sources import Source, read_source
from dpo_lite.data.tokens import EncodedExample, check_template, encode
from dpo_lite.errors import UserError

HELD_OUT_SHARE = 0.05
HELD_OUT_NAMES = ("test", "valid", "eval", "dev")
SHOWN_EXAMPLES = 3


@dataclass(frozen=True)
class PreparedData:
    """Ready to train: columns prompt_ids, response_ids, row, prompt (its last turn), markers."""

    train: Dataset
    evals: dict[str, Dataset]
    report: DataReport
    max_length: int
    fingerprint: str


@dataclass(frozen=True)
class Options:
    format: str
    columns: dict[str, str] | None
    pairs: str
    on_long: str
    raw: bool


def prepare(
    train: str | list[dict[str, Any]],
    tokenizer,
    *,
    eval: str | list[str] | None = None,
    format: str = "auto",
    columns: dict[str, str] | None = None,
    pairs: str = "best_worst",
    max_length: int | str = "auto",
    on_long: str = "drop",
    revision: str | None = None,
    model_limit: int | None = None,
    seed: int = 0,
    limit: int | None = None,
) -> PreparedData:
    """Read, clean and encode the training data and the held-out sets.

    ``train`` is a source or a list of {source, weight}; ``model_limit`` the base's positions.
    Raises UserError where nothing is left, or where the data cannot be understood.
    """
    options = Options(format, columns, pairs, on_long, raw=format == "raw")
    check_template(tokenizer, options.raw)
    dropped: dict[Reason, list[int]] = defaultdict(list)
    parts = [{"source": train, "weight": 1.0}] if isinstance(train, str) else train
    sources = [read_source(part["source"], revision=revision) for part in parts]
    converted = [_convert(source, options, dropped, limit) for source in sources]
    examples = _mix([found for found, _ in converted], [p["weight"] for p in parts], seed, dropped)
    format_name = " + ".join(dict.fromkeys(name for _, name in converted))
    rows = sum(
        len(source.rows) if limit is None else min(limit, len(source.rows)) for source in sources
    )

    examples = _without_duplicates(examples, dropped)
    held_out = _held_out(sources, examples, eval, options, revision)
    train_examples = _without_leaks(examples, held_out, dropped)

    encoded = _encode_all(tokenizer, train_examples, options, dropped)
    most = _max_length([e.length for e, _ in encoded], max_length, model_limit)
    encoded = _within(encoded, most, on_long, dropped)
    if not encoded:
        reasons = ", ".join(f"{len(r):,} {reason.value}" for reason, r in dropped.items())
        raise UserError(f"data.train: no row of {rows:,} is left to train on ({reasons}).")
    evals = {}
    lost: dict[Reason, list[int]] = defaultdict(list)
    for name, found in held_out.items():
        fitting = _within(_encode_all(tokenizer, found, options, lost), most, "drop", lost)
        if not fitting:
            raise UserError(f"data.eval: no row of {name} is left to evaluate on.")
        evals[name] = _dataset(fitting)
    counted = {f"held out: {reason.value}": numbers for reason, numbers in lost.items()}
    data = _dataset(encoded)
    fingerprint = _fingerprint(data, evals)
    report = _report(
        tokenizer,
        " + ".join(part["source"] for part in parts),
        format_name + (" (raw)" if options.raw else ""),
        rows,
        [e for e, _ in encoded],
        {reason.value: numbers for reason, numbers in dropped.items()} | counted,
        {name: len(found) for name, found in evals.items()},
        most,
        fingerprint,
    )
    return PreparedData(data, evals, report, most, fingerprint)


def _convert(
    source: Source, options: Options, dropped: dict, limit: int | None = None
) -> tuple[list[Example], str]:
    """All examples of a source, and the name of its format."""
    rows = source.rows
    if options.columns:
        missing = set(options.columns.values()) - set(rows.column_names)
        if missing:
            raise UserError(
                f"data.columns: {source.name} has no column {', '.join(sorted(missing))}; it has "
                f"{', '.join(rows.column_names)}."
            )
        renamed = {theirs: ours for ours, theirs in options.columns.items() if ours != theirs}
        clash = [ours for ours in renamed.values() if ours in rows.column_names]
        rows = rows.remove_columns(clash).rename_columns(renamed)
    if limit is not None:
        rows = rows.select(range(min(limit, len(rows))))
    matched = detect(rows.column_names, rows[0], options.format)
    examples = []
    for number, row in enumerate(rows):
        found = matched.convert(row, number)
        if isinstance(found, Dropped):
            dropped[found.reason].append(number)
        else:
            examples += _choose_pairs(found, options.pairs)
    return examples, matched.name


def _choose_pairs(example: Example, pairs: str) -> list[Example]:
    """Make pairs of a ranking of more than two responses, or keep it whole."""
    answers = example.responses
    if len(answers) <= 2 or pairs == "keep":
        return [example]
    places = {
        "best_worst": [(0, len(answers) - 1)],
        "adjacent": [(i, i + 1) for i in range(len(answers) - 1)],
        "all": [(i, j) for i in range(len(answers)) for j in range(i + 1, len(answers))],
    }[pairs]
    return [
        Example(example.prompt, [answers[i], answers[j]], example.row, *_markers(example))
        for i, j in places
    ]


def _markers(example: Example) -> tuple[list[str], list[str]]:
    return example.chosen_markers, example.rejected_markers


def _mix(found: list[list[Example]], weights: list[float], seed: int, dropped: dict):
    """As many of each source as the weights allow without repeating any row."""
    unit = min(len(part) / weight for part, weight in zip(found, weights, strict=True))
    mixed = []
    for part, weight in zip(found, weights, strict=True):
        count = round(unit * weight)
        order = list(range(len(part)))
        if count < len(part):
            random.Random(seed).shuffle(order)
            dropped[Reason.WEIGHT] += sorted(part[i].row for i in order[count:])
        mixed += [part[i] for i in sorted(order[:count])]
    return mixed


def _without_duplicates(examples: list[Example], dropped: dict) -> list[Example]:
    seen, kept = set(), []
    for example in examples:
        key = (example.key, tuple(example.responses))
        if key in seen:
            dropped[Reason.DUPLICATE].append(example.row)
        else:
            seen.add(key)
            kept.append(example)
    return kept


def _held_out(
    sources: list[Source],
    examples: list[Example],
    wanted: str | list[str] | None,
    options: Options,
    revision: str | None,
) -> dict[str, list[Example]]:
    """The named sets, else the held-out splits beside the source, else a share of the prompts."""
    first = sources[0]
    if wanted is None:
        beside = [
            split
            for split in first.splits
            if split != first.split
            and (first.name.startswith("builtin:") or split.startswith(HELD_OUT_NAMES))
        ]
        if not beside:
            return {"held_out": [e for e in examples if _held(e)]}
        wanted = beside
    names = [wanted] if isinstance(wanted, str) else wanted
    sets = {}
    for name in names:
        spec = _split_spec(first, name) if name in first.splits else name
        ignored: dict = defaultdict(list)
        short = name if name in first.splits else name.rpartition(":")[2].rpartition("/")[2]
        sets[short.partition(".")[0]] = _convert(
            read_source(spec, revision=revision), options, ignored
        )[0]
    return sets


def _split_spec(source: Source, split: str) -> str:
    """The spec of another split of the same source."""
    if source.name.startswith("builtin:"):
        return "builtin:" + source.name.split(":")[1] + f":{split}"
    folder = Path(source.name).expanduser()
    if folder.is_dir():
        return str(next(p for p in folder.iterdir() if p.name.startswith(split + ".")))
    parts = source.name.split(":")
    return ":".join([p for p in parts if p != source.split] + [split])


def _held(example: Example) -> bool:
    """Whether a prompt belongs to the held-out share: by its hash, so the same in every run."""
    digest = hashlib.sha256(json.dumps(example.key).encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < HELD_OUT_SHARE


def _without_leaks(
    examples: list[Example], held_out: dict[str, list[Example]], dropped: dict
) -> list[Example]:
    """Training examples whose prompt stands in no held-out set."""
    own = set(held_out) == {"held_out"}
    known = {e.key for found in held_out.values() for e in found}
    kept = []
    for example in examples:
        if example.key not in known:
            kept.append(example)
        elif not own:
            dropped[Reason.IN_EVAL].append(example.row)
    return kept


def _encode_all(
    tokenizer, examples: list[Example], options: Options, dropped: dict
) -> list[tuple[EncodedExample, Example]]:
    encoded = []
    for example in examples:
        found = encode(tokenizer, example, options.raw)
        if isinstance(found, Dropped):
            dropped[found.reason].append(found.row)
        else:
            encoded.append((found, example))
    return encoded


def _max_length(lengths: list[int], wanted: int | str, model_limit: int | None) -> int:
    if wanted == "auto":
        wanted = sorted(lengths)[min(len(lengths) - 1, int(0.99 * len(lengths)))] if lengths else 8
    elif model_limit is not None and wanted > model_limit:
        raise UserError(
            f"data.max_length: {wanted} is over the base's limit of {model_limit} tokens."
        )
    return min(wanted, model_limit or wanted)


def _within(encoded, most: int, on_long: str, dropped: dict):
    """Deal with what is over the limit as the recipe says; a response is never cut."""
    kept = []
    for found, example in encoded:
        over = found.length - most
        if over <= 0:
            kept.append((found, example))
        elif on_long == "error":
            raise UserError(
                f"data: row {found.row} has {found.length} tokens, over max_length {most} "
                "(data.on_long=drop leaves such rows out)."
            )
        elif on_long == "truncate_prompt_start" and over < len(found.prompt_ids):
            cut = EncodedExample(
                found.prompt_ids[over:], found.response_ids, found.row, found.melted
            )
            dropped[Reason.CUT].append(found.row)
            kept.append((cut, example))
        else:
            dropped[Reason.TOO_LONG].append(found.row)
    return kept


def _dataset(encoded: list[tuple[EncodedExample, Example]]) -> Dataset:
    return Dataset.from_dict(
        {
            "prompt_ids": [e.prompt_ids for e, _ in encoded],
            "response_ids": [e.response_ids for e, _ in encoded],
            "row": [e.row for e, _ in encoded],
            "prompt": [example.prompt[-1]["content"] for _, example in encoded],
            "chosen_markers": [example.chosen_markers for _, example in encoded],
            "rejected_markers": [example.rejected_markers for _, example in encoded],
        }
    )


def _fingerprint(train: Dataset, evals: dict[str, Dataset]) -> str:
    """A hash of every token id that is trained or evaluated on."""
    digest = hashlib.sha256()
    for name, rows in [("train", train), *sorted(evals.items())]:
        digest.update(name.encode())
        for row in rows:
            digest.update(json.dumps([row["prompt_ids"], row["response_ids"]]).encode())
    return digest.hexdigest()[:16]


def _report(
    tokenizer, source, format_name, rows, encoded, dropped, evals, most, fingerprint
) -> DataReport:
    lengths = {
        "prompt": [len(e.prompt_ids) for e in encoded],
        "chosen": [len(e.response_ids[0]) for e in encoded],
        "rejected": [len(e.response_ids[-1]) for e in encoded],
    }
    shared = sum(len(e.prompt_ids) + sum(map(len, e.response_ids)) for e in encoded)
    apart = shared + sum((len(e.response_ids) - 1) * len(e.prompt_ids) for e in encoded)
    longer = sum(len(e.response_ids[0]) > len(e.response_ids[-1]) for e in encoded)
    shorter = sum(len(e.response_ids[0]) < len(e.response_ids[-1]) for e in encoded)
    return DataReport(
        source=source,
        format=format_name,
        rows=rows,
        kept=len(encoded),
        dropped=dropped,
        evals=evals,
        max_length=most,
        lengths={
            name: {"median": statistics.median(v), "max": max(v)} for name, v in lengths.items()
        },
        chosen_longer=longer / max(longer + shorter, 1),
        shared_saving=1 - shared / apart,
        melted=sum(e.melted for e in encoded),
        examples=[
            {
                "row": e.row,
                "prompt": tokenizer.decode(e.prompt_ids),
                "responses": [tokenizer.decode(ids) for ids in e.response_ids],
            }
            for e in encoded[:SHOWN_EXAMPLES]
        ],
        fingerprint=fingerprint,
    )
