"""docs/models.md: the table of architectures for readers, from the records of a run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.model_zoo.architectures import GROUPS
from benchmarks.model_zoo.checks import GRADIENT, LOGPS

Record = dict[str, Any]
HEAD = """# Models

The architectures that train here, and how exactly: each of the {count} below is built small, loaded
in 4 bits, trained, compared, merged and judged by the product's own code.
`python -m benchmarks.model_zoo` makes this page; `--only NAME` looks at some. Before a run with a
large model `dpo-lite plan` says what it takes, and the run's preflight checks the loaded model
itself, whether it stands here or not: an architecture that is missing here is not one that is
refused.

## What the columns mean

- *in 4 bits*: share of the weights of the layers (all but embedding and head) that NF4 holds, in a
  model of published size; what stays in 16 bits is told below each table.
- *rows*: `packed` has every prompt once and many examples in one row without padding; `separate`
  has every response in a row of its own, which is as exact and slower. The reasons are below each
  table.
- *log p*: largest difference of a token's log-probability from single rows: those of the unmodified
  model with the base in 32 bits, those of the same base in 4 bits; the larger of the two.
- *gradient*: the same of the adapter's gradient, as a share of it.
- *PEFT*: the saved adapter loads with plain PEFT on the model as transformers loads it, every
  tensor of it, and no other layer gets one.
- *answers*: greedy answers to prompts of several lengths in one batch are those of whole rows
  without a cache.
- *compare*: base and adapter answer side by side (`dpo-lite compare`) as each does alone, and the
  rewards of single tokens are those of each alone.
- *merge*: the merged folder (`dpo-lite merge`), loaded by transformers, is the model with the
  adapter.
- *resume*: a DPO run that is stopped and resumed ends at the same bits as one that is not.
- *score*: `dpo-lite score` finds the margins that the run's evaluation found.
- *reward*: a reward model trains, and judges as its run did.
- *PPO*: two rounds of PPO with that reward model run, and start at the reference.
- *plan*: seconds of one core that `dpo-lite plan` takes for a model of published size, from its
  config alone.

`✓` is shown. A number in bold is over the aim ({logps:.0e} in log-probability, {gradient:.0e} of
the gradient). That need not be ours: the random mixture of Gemma 4 says 4e-04 otherwise in 32 bits
than in 64 by itself. ✗ is not so, or cannot be done; the sentence is below the table.

## How it was made

Every model is built from its config of transformers with random weights that are large enough to
matter, narrow and with few layers, each kind of layer among them; saved to disk, and loaded as a
user's base is. What numbers are held to is the same folder loaded by transformers alone, in 32
bits, with the adapter put on by PEFT: each response alone in a row, PyTorch's autograd. The trees
have one, two and four responses and prompts of 1, 3, 19 and 70 tokens; scores and gradients are
taken with no layer computed again and in each of the ways that the plan may choose. Plans, and the
share in 4 bits, are those of transformers' default config in full size, on a card of 24 GB. It ran
on a CPU, so what runs only on a card (fused attention, flash-linear-attention, causal-conv1d) is
not in here.

Versions: {versions}.

"""
COLUMNS = {
    "published names": "PEFT",
    "generates": "answers",
    "compares": "compare",
    "merges": "merge",
    "resumes": "resume",
    "scores": "score",
    "reward model": "reward",
    "ppo": "PPO",
}
WRONG = ("missed", "refused", "failed")


def page(records: dict[str, Record]) -> str:
    """Markdown of the whole page; architectures without a record are left out."""
    used = next(iter(records.values()))["versions"]
    versions = ", ".join(f"{name} {number}" for name, number in used.items())
    text = HEAD.format(count=len(records), logps=LOGPS, gradient=GRADIENT, versions=versions)
    text += summary(list(records.values()))
    for title, group in GROUPS.items():
        rows = [(each.models, records[each.name]) for each in group if each.name in records]
        if rows:
            text += f"\n## {title}\n\n" + "\n".join(_table(rows)) + "\n"
    return text


def summary(records: list[Record]) -> str:
    """How many of the architectures show what, and the worst numbers."""
    total = len(records)
    packed = sum(r["cells"]["way"].get("way") == "forest" for r in records)
    exact = [r["cells"]["exact"] for r in records if "logps" in r["cells"]["exact"]]
    largest = {what: max(worst(cell, what) for cell in exact) for what in ("logps", "gradient")}
    lines = [
        "## In short",
        "",
        f"Of {total} architectures {sum('as' in r['cells']['loads'] for r in records)} load and "
        f"{packed} are scored in packed rows.",
        f"The largest difference of a log-probability is {largest['logps']:.1e},",
        f"of a gradient {largest['gradient']:.1e}.",
        "",
    ]
    shown = {
        word: sum(_sign(r["cells"], column) == "✓" for r in records)
        for column, word in COLUMNS.items()
    }
    counts = ", ".join(f"{word} {count}" for word, count in shown.items())
    rest = any(_sign(r["cells"], column) == "–" for r in records for column in COLUMNS)
    closing = f"✓ of {total}: {counts}{'; – was not looked at yet' if rest else ''}."
    return "\n".join([*lines, closing, ""])


def _sign(cells: dict[str, Any], column: str) -> str:
    if column not in cells:
        return "–"
    return "✗" if _wrong(cells[column]) else "✓"


def _table(rows: list[tuple[str, Record]]) -> Iterator[str]:
    records = [record for _, record in rows]
    heads = ["architecture", "models", "in 4 bits", "rows", "log p", "gradient"]
    heads += [*COLUMNS.values(), "plan"]
    yield f"| {' | '.join(heads)} |"
    yield f"|{' --- |' * len(heads)}"
    for models, record in rows:
        yield f"| {' | '.join([record['name'], models, *_cells(record['cells'])])} |"
    for title, sentences in (
        ("In separate rows", _why(records)),
        ("In 16 bits", _left_whole(records)),
        ("Layers without an adapter", _without_adapter(records)),
        ("Not shown", _faults(records)),
    ):
        if found := list(sentences):
            yield from ("", f"**{title}:**", "", *found)


def _cells(cells: dict[str, Any]) -> list[str]:
    share = cells["plans"].get("share", cells["four bits"].get("share"))
    way, exact, plan = cells["way"].get("way"), cells["exact"], cells["plans"]
    return [
        "✗" if share is None else f"{min(round(100 * share), 99 if share < 1 else 100)} %",
        {"forest": "packed", None: "✗"}.get(way, way),
        _number(worst(exact, "logps"), LOGPS),
        _number(worst(exact, "gradient"), GRADIENT),
        *(_sign(cells, column) for column in COLUMNS),
        f"{plan['seconds']:.0f} s" if "seconds" in plan else "✗",
    ]


def worst(exact: dict[str, Any], what: str) -> float | None:
    """The larger difference of the two: with the base in 32 bits, and in 4."""
    return max(exact[what], exact.get(f"{what} in 4 bits") or 0.0) if what in exact else None


def _number(value: float | None, aim: float) -> str:
    if value is None:
        return "✗"
    return f"{value:.0e}" if value <= aim else f"**{value:.0e}**"


def _wrong(cell: dict[str, Any]) -> str | None:
    """Why a column is not shown; None where it is."""
    if "failed" in cell:
        return f"FAIL {cell['failed']}"
    return cell.get("missed") or cell.get("refused")


def _why(records: Iterable[Record]) -> Iterator[str]:
    for record in records:
        cell = record["cells"]["way"]
        if cell.get("way") not in (None, "forest"):
            reason = cell["why"].rpartition(";")[0] or cell["why"]
            yield f"- {record['name']}: {reason}"


def _left_whole(records: Iterable[Record]) -> Iterator[str]:
    for record in records:
        rest = record["cells"]["plans"].get("rest") or {}
        if rest:
            parts = sorted(rest.items(), key=lambda item: -item[1])
            words = ", ".join(f"{label} {100 * share:.0f} %" for label, share in parts)
            yield f"- {record['name']}: {words} of the layers' weights"


def _without_adapter(records: Iterable[Record]) -> Iterator[str]:
    for record in records:
        words = record["cells"]["targets"].get("left out") or ""
        parts = [part for part in words.split("; ") if part and "adapter.experts" not in part]
        if parts:
            yield f"- {record['name']}: {'; '.join(parts)}"


def _faults(records: Iterable[Record]) -> Iterator[str]:
    names = {"loads": "loads", "way": "rows", "exact": "log p"} | COLUMNS | {"plans": "plan"}
    for record in records:
        cells, told = record["cells"], {}
        for column, word in names.items():
            if why := _wrong(cells.get(column, {})):
                told.setdefault(why, []).append(word)
        for why, words in told.items():
            yield f"- {record['name']} ({', '.join(words)}): {re.sub(r'[|<>]', ' ', why)}"
