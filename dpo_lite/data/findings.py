"""What the data report says of the rows that are trained on, counted from them."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from datasets import Dataset

from dpo_lite.data.cleaning import contradicting
from dpo_lite.data.formats import FORMATS
from dpo_lite.data.lengths import Lengths
from dpo_lite.data.pool import Selection
from dpo_lite.data.report import DataReport, Drop
from dpo_lite.data.thoughts import Thought
from dpo_lite.data.tokens import Encoder

BINS = 16


def report_of(
    train: Selection,
    held_out: dict[str, Selection],
    evals: dict[str, Selection],
    dropped: dict[str, Drop],
    most: int | None,
    examples: list[dict[str, Any]],
    raw: bool,
) -> DataReport:
    """``evals``: what was drawn from ``held_out`` to be scored; ``most``: the limit of an example's
    tokens; ``examples`` as ``rendered`` gives them."""
    pool, lengths = train.pool, train.lengths()
    formats = list(dict.fromkeys(source.format for source in pool.sources))
    return DataReport(
        source=" + ".join(source.name for source in pool.sources),
        format=" + ".join(formats) + (" (raw)" if raw else ""),
        format_why="; ".join(f.why for f in FORMATS if f.name in formats),
        unit=pool.encoder.unit,
        rows=sum(source.rows for source in pool.sources),
        kept=len(train.places),
        dropped=dropped,
        evals={name: len(rows.places) for name, rows in evals.items()},
        drawn_from={
            name: len(rows.places)
            for name, rows in held_out.items()
            if len(rows.places) > len(evals[name].places)
        },
        max_length=most,
        responses={"fewest": int(lengths.count.min()), "most": int(lengths.count.max())},
        lengths=describe_lengths(lengths),
        chosen_longer=chosen_longer(lengths),
        shared_saving=shared_saving(lengths),
        melted=int(pool.column("melted")[train.places].sum()),
        folded=int(pool.column("folded")[train.places].sum()),
        contradicting=contradicting(pool),
        echoes=int(pool.column("echo")[train.places].sum()),
        thoughts={
            str(kind.name): int(((pool.column("thought")[train.places] & kind) > 0).sum())
            for kind in Thought
        },
        examples=examples,
        fingerprint=fingerprint(train, held_out),
        labels=labels_of(train),
        remade=[source.remade for source in pool.sources if source.remade],
    )


def rendered(encoder: Encoder, train: Dataset, shown: int) -> list[dict[str, Any]]:
    """So many examples as the model reads them, from all over the data."""
    places = np.unique(np.linspace(0, len(train) - 1, min(shown, len(train))).astype(int))
    return [
        {
            "row": row["row"],
            "prompt": encoder.decode(row["prompt_ids"]),
            "responses": [encoder.decode(ids) for ids in row["response_ids"]],
            "desirable": row["desirable"],
        }
        for row in train.select(places.tolist())
    ]


def labels_of(train: Selection) -> dict[str, int]:
    """How many answers are good and bad by themselves, and how many of them were parts of pairs.

    Empty where answers are compared.
    """
    pool = train.pool
    labels = pool.labels
    kept = [labels[place] for place in train.places.tolist()]
    if not any(label is not None for label in kept):
        return {}
    paired = {f.name for f in FORMATS if not f.grouped}
    of_pairs = np.array([source.format in paired for source in pool.sources])[pool.source]
    return {
        "good": kept.count(True),
        "bad": kept.count(False),
        "of_pairs": int(of_pairs[train.places].sum()),
    }


def fingerprint(train: Selection, evals: dict[str, Selection]) -> str:
    """16 hex digits that change with any token id, with the order and with the sets' names."""
    digest = hashlib.sha256(train.digest())
    for name, rows in sorted(evals.items()):
        digest.update(name.encode() + rows.digest())
    return digest.hexdigest()[:16]


def describe_lengths(lengths: Lengths) -> dict[str, dict[str, Any]]:
    """Summary and histogram of prompts and responses (where there are any), on shared edges."""
    parts = {"prompt": lengths.prompt, "chosen": lengths.first, "rejected": lengths.last}
    if lengths.count.max() == 1:
        parts = {"prompt": lengths.prompt, "response": lengths.first}
    elif lengths.count.max() == 0:
        parts = {"prompt": lengths.prompt}
    top = max(int(np.percentile(part, 99)) for part in parts.values()) + 1
    step = -(-top // BINS)  # bins of equal widths, so that their heights can be compared
    edges = np.arange(0, top + step, step)
    described = {}
    for name, part in parts.items():
        # The last bin holds all that is longer, so that one giant does not flatten the rest.
        counts, _ = np.histogram(np.minimum(part, edges[-1] - 1), bins=edges)
        described[name] = {
            "min": int(part.min()),
            "median": float(np.median(part)),
            "mean": float(part.mean()),
            "p90": int(np.percentile(part, 90)),
            "p99": int(np.percentile(part, 99)),
            "max": int(part.max()),
            "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
        }
    return described


def chosen_longer(lengths: Lengths) -> float | None:
    """Among the pairs of unequal length, the share whose chosen response is the longer one."""
    longer = int((lengths.first > lengths.last).sum())
    shorter = int((lengths.first < lengths.last).sum())
    return longer / (longer + shorter) if longer + shorter else None


def shared_saving(lengths: Lengths) -> float:
    """The share of tokens saved by computing each prompt once instead of once per response."""
    shared = lengths.prompt + lengths.responses
    repeated = lengths.prompt * np.maximum(lengths.count, 1) + lengths.responses
    return float(1 - shared.sum() / repeated.sum())
