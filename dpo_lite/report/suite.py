"""Tasks of lm-evaluation-harness and the forgetting check: what a run keeps of them, in words.

``suite.json`` of a run's folder has an entry for each task that was asked: how it was asked, and a
row for each metric with the values of reference and policy, their number, and what changed item by
item. No text of the items is in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpo_lite.files import write_json
from dpo_lite.names import last_name
from dpo_lite.rates import Rate, Z, paired_words
from dpo_lite.runs.results import is_number
from dpo_lite.runs.state import read_object

SUITE = "suite.json"
HEAD = ("task", "metric", "reference", "policy", "policy against reference")
EXPLAINED = (
    "In brackets and behind ± the 95 % interval: Wilson's of a rate, else 1.96 standard errors."
    " Both answered the same items. What changed on them is tested by McNemar's exact test, of"
    " numbers by the interval of the paired difference, each for itself at 5 %: of twenty that are"
    " alike one comes out different."
)
MOST_ITEMS = 1_000_000  # of a task; more is a damaged number
NO_DIFFERENCE = "no difference told apart"

Entry = dict[str, Any]


def read_suite(run: Path) -> list[Entry]:
    """The entries of a run; none where there is no file of that shape."""
    found = (read_object(run / SUITE) or {}).get("entries")
    entries = found if isinstance(found, list) else []
    return [entry for entry in entries if isinstance(entry, dict) and _is_whole(entry)]


def keep_entry(run: Path, entry: Entry) -> None:
    """Put an entry into the run's file, in place of one of the same task with as many examples."""
    others = [e for e in read_suite(run) if _key(e) != _key(entry)]
    write_json(run / SUITE, {"entries": [*others, entry]})


def kept_entry(run: Path, name: str, settings: Mapping[str, Any]) -> Entry | None:
    """What was measured of a task by the same settings; None where nothing was."""
    same = (e for e in read_suite(run) if (e["suite"], e["settings"]) == (name, dict(settings)))
    return next(same, None)


def _key(entry: Entry) -> tuple[str, Any]:
    return entry["suite"], entry["settings"].get("fewshot")


def _is_whole(entry: Entry) -> bool:
    rows = entry.get("rows")
    return (
        isinstance(entry.get("suite"), str)
        and all(isinstance(entry.get(key), dict) for key in ("settings", "tasks", "groups"))
        and all(isinstance(facts, dict) for facts in entry["tasks"].values())
        and type(entry["settings"].get("limit") or 0) is int
        and isinstance(entry.get("notes") or [], list)
        and isinstance(rows, list)
        and all(isinstance(row, dict) and _is_row(row) for row in rows)
    )


def _is_row(row: Mapping[str, Any]) -> bool:
    texts = all(isinstance(row.get(key), str) for key in ("task", "metric", "filter"))
    values = all(_is_measured(row.get(role)) for role in ("reference", "policy"))
    tested = [row[key] for key in ("log_ratio", "difference") if row.get(key)]
    sure = all(_is_measured(one) and one.get("stderr") is not None for one in tested)
    return texts and values and sure and _is_counted(row.get("n"), row.get("changed"))


def _is_measured(one: Any) -> bool:
    """Whether it is a value, perhaps with its error."""
    if not isinstance(one, dict) or one.get("value") is None:
        return False
    return is_number(one["value"]) and is_number(one.get("stderr"))


def _is_counted(n: Any, changed: Any) -> bool:
    """Whether it is a number of items, and how many of them changed."""
    if type(n) is not int or not 0 <= n <= MOST_ITEMS:
        return False
    if not changed:
        return changed is None
    ways = [changed.get(key) for key in ("better", "worse")] if isinstance(changed, dict) else [""]
    return all(type(way) is int and way >= 0 for way in ways) and sum(ways) <= n


def shown_rows(entry: Entry) -> Iterator[Mapping[str, Any]]:
    """The rows of what was asked for: of a group its own, where it has any."""
    own = [row for row in entry["rows"] if row["task"] == entry["suite"]]
    yield from own or entry["rows"]


def harness_rows(entries: Sequence[Entry]) -> Iterator[tuple[Entry, Mapping[str, Any]]]:
    """Entries with the rows of theirs that others can compare with: the harness's own."""
    for entry in entries:
        if entry["settings"].get("lm_eval"):
            yield from ((entry, row) for row in shown_rows(entry))


def rate_of(row: Mapping[str, Any], role: str) -> Rate | None:
    """The value as a rate, where it is one of right and wrong."""
    return Rate(row[role]["value"], row["n"]) if row.get("changed") and row["n"] else None


def cells(entry: Entry) -> list[tuple[str, ...]]:
    """A row of the table for each metric, under ``HEAD``."""
    return [
        (
            _task(entry, row),
            row["metric"] + ("" if row["filter"] == "none" else f", {row['filter']}"),
            *(_value(row, role) for role in ("reference", "policy")),
            change_words(row),
        )
        for row in shown_rows(entry)
    ]


def _task(entry: Entry, row: Mapping[str, Any]) -> str:
    name = entry["suite"] if row["task"] == "forgetting" else row["task"]
    if ":" in name:
        name = f"forgetting: {last_name(name.partition(':')[2])}"
    limit = entry["settings"].get("limit")
    shots = entry["tasks"].get(row["task"], {}).get("fewshot")
    told = [f"{shots}-shot"] if shots else []
    told += [f"first {limit:,} each" if entry["groups"] else f"first {limit:,}"] if limit else []
    return ", ".join([name, *told])


def _value(row: Mapping[str, Any], role: str) -> str:
    if rate := rate_of(row, role):
        return rate.cell(1)
    value, error = row[role]["value"], row[role].get("stderr")
    return number(value) + (f" ± {number(Z * error)}" if error else "")


def number(value: float) -> str:
    """Four digits that say something, without an exponent where it would only be longer."""
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"


def change_words(row: Mapping[str, Any]) -> str:
    """What the items say of policy and reference."""
    if changed := row.get("changed"):
        return paired_words(changed["better"], changed["worse"], row["n"])
    if found := row.get("log_ratio"):  # of perplexities: less is better
        low, high = (found["value"] + side * Z * found["stderr"] for side in (-1, 1))
        shares = [f"{_percent(x):+.1f} %" for x in (found["value"], low, high)]
        words = f"{shares[0]} ({shares[1]} to {shares[2]}) on {row['n']:,}"
        return f"{words}: {_verdict(low, high, False)}"
    if found := row.get("difference"):
        low, high = (found["value"] + side * Z * found["stderr"] for side in (-1, 1))
        words = f"{found['value']:+.3g} ({low:+.3g} to {high:+.3g}) on {row['n']:,}"
        return f"{words}: {_verdict(low, high, row.get('higher') is not False)}"
    return f"{row['policy']['value'] - row['reference']['value']:+.3g}, not tested"


def _percent(log_ratio: float) -> float:
    return 100 * math.expm1(min(log_ratio, 50.0))


def _verdict(low: float, high: float, higher: bool) -> str:
    if low <= 0 <= high:
        return NO_DIFFERENCE
    return "better" if (low > 0) == higher else "worse"


def sentence(entry: Entry) -> str:
    """How it was asked, by what, and what was not as the task wants it."""
    version = entry["settings"].get("lm_eval")
    by = f"lm-evaluation-harness {version}" if version else "dpo_lite"
    way = "by the chat template" if entry.get("chat") else "as plain text"
    name = entry["suite"].partition(":")[0]
    notes = entry.get("notes") or []
    return " ".join([f"{name}: {by}, {way}.", *(note for note in notes if isinstance(note, str))])


def markdown(entries: Sequence[Entry]) -> list[str]:
    """Lines of a report or a card; none of a run of which nothing was asked."""
    if not entries:
        return []
    rows = [HEAD, ("---",) * len(HEAD), *(row for entry in entries for row in cells(entry))]
    return [
        "## Other tasks",
        "",
        *(f"| {' | '.join(map(_cell, row))} |" for row in rows),
        "",
        *(f"- {sentence(entry)}" for entry in entries),
        "",
        EXPLAINED,
        "",
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
