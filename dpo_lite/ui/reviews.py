"""A review of doubted labels on disk: what the audit found, and what was decided since. No Gradio.

``NAME.json`` holds what the audit found (``jobs.audit.review_of``) and how it was asked, and
``NAME.jsonl`` the decisions, as ``dpo-lite data --decisions`` takes them. Both are named after the
source and what it holds, so an audit of the same data again goes on where it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dpo_lite.data.decisions import (
    DECISIONS,
    DROP,
    FLIP,
    KEEP,
    Decisions,
    add_decision,
    apply_decisions,
    read_decisions,
)
from dpo_lite.errors import UserError, disk_faults_told
from dpo_lite.files import NAME, write_json, write_text
from dpo_lite.recipe import DataSection
from dpo_lite.runs.results import is_number
from dpo_lite.runs.state import read_object

FOLDER = "reviews"  # beside one's recipes
NOT_OF_THE_NEW = ("data.encoding", "data.leave_out", "data.limit", "data.revision")
MADE = {KEEP: "kept", DROP: "dropped", FLIP: "turned round"}


@dataclass(frozen=True)
class Review:
    """``found``: what the audit found; ``decisions``: those of now."""

    path: Path
    found: dict[str, Any]
    decisions: Decisions

    @property
    def pairs(self) -> list[dict[str, Any]]:
        return self.found["doubtful"]

    @property
    def rows(self) -> list[int]:
        return [pair["row"] for pair in self.pairs]

    @property
    def decisions_file(self) -> Path:
        return self.path.with_suffix(".jsonl")

    @property
    def counts(self) -> Counter[str]:
        """How many of the doubted rows were decided in each way."""
        made = self.decisions.of
        return Counter(made[row] for row in self.rows if row in made)

    def next_open(self, after: int = -1) -> int | None:
        """The place of the next doubted row that nobody has decided, from the first again after the
        last; None where all are."""
        places = [*range(after + 1, len(self.rows)), *range(max(after, 0) + 1)]
        still = (at for at in places if at < len(self.rows))
        return next((at for at in still if self.rows[at] not in self.decisions.of), None)

    @property
    def last(self) -> int | None:
        """The place of the row that was decided last."""
        places = {row: place for place, row in enumerate(self.rows)}
        made = [places[row] for row in self.decisions.of if row in places]
        return made[-1] if made else None


def audit_words(source: str, keys: Sequence[str]) -> list[str]:
    """The command that audits the same: without a base, for it is about texts."""
    return ["dpo-lite", "data", source.strip(), *keys, "--audit"]


@disk_faults_told()
def begin(recipes: Path, source: str, keys: Sequence[str], found: dict[str, Any]) -> str:
    """Keep what an audit found; returns the review's name. What was decided of it stays."""
    facts = [found["content"], sorted(keys)]
    mark = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(source).stem).lstrip(".-")[:40] or "data"
    folder = recipes / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}-{mark}.json"
    write_json(path, found | {"source": source, "keys": list(keys)})
    if not path.with_suffix(".jsonl").is_file():
        write_text(path.with_suffix(".jsonl"), json.dumps({"content": found["content"]}) + "\n")
    return path.stem


def load(recipes: Path, name: str) -> Review:
    """Raises UserError where there is none of that name, or it cannot be read."""
    path = recipes / FOLDER / f"{name}.json"
    if not NAME.match(name) or not path.is_file():
        raise UserError("There is no such review any more; audit the labels again.")
    try:
        found = _found(path, path.stat().st_mtime_ns)
    except OSError:
        found = None
    if found is None:
        raise UserError(f"The review {path} cannot be read; audit the labels again.")
    decisions = path.with_suffix(".jsonl")
    made = read_decisions(decisions) if decisions.is_file() else Decisions({}, found["content"])
    return Review(path, found, made)


@lru_cache(maxsize=4)
def _found(path: Path, changed: int) -> dict[str, Any] | None:
    """What an audit found, as ``jobs.audit.review_of`` writes it; None where it is damaged."""
    found = read_object(path) or {}
    texts = [found.get(key) for key in ("content", "source", "form")]
    lists = [found.get(key) for key in ("keys", "words", "doubtful", "shortcuts")]
    if not all(isinstance(text, str) for text in texts) or type(found.get("rows")) is not int:
        return None
    if not all(isinstance(one, list) for one in lists):
        return None
    keys, words, pairs, shortcuts = lists
    try:
        DataSection.model_validate(found.get("section"))
    except ValueError:
        return None
    sound = bool(words) and all(isinstance(text, str) for text in [*keys, *words])
    sound = sound and all(map(_is_pair, pairs)) and all(map(_is_shortcut, shortcuts))
    return found if sound else None


def _is_pair(pair: Any) -> bool:
    if not isinstance(pair, dict) or type(pair.get("row")) is not int:
        return False
    turns, texts = pair.get("turns"), [pair.get(key) for key in ("chosen", "rejected", "why")]
    return (
        all(isinstance(text, str) for text in texts)
        and isinstance(pair.get("no_flip", 0), str | None)
        and isinstance(turns, list)
        and all(isinstance(turn, list) and len(turn) == 2 for turn in turns)
    )


def _is_shortcut(facts: Any) -> bool:
    if not isinstance(facts, dict) or not {"name", "points"} <= facts.keys():
        return False
    if type(facts.get("pairs")) is not int or facts.get("share") is None:
        return type(facts.get("pairs")) is int
    ends = facts.get("interval")
    numbers = [facts["share"], *ends] if isinstance(ends, list) else []
    return len(numbers) == 3 and None not in numbers and all(map(is_number, numbers))


def latest(recipes: Path) -> str | None:
    """The review that was last worked on."""
    times = {}
    for path in (recipes / FOLDER).glob("*.json"):
        with contextlib.suppress(OSError):  # deleted between two looks, or without its decisions
            files = (path, path.with_suffix(".jsonl"))
            times[path.stem] = max(file.stat().st_mtime_ns for file in files)
    return max(times, key=times.__getitem__) if times else None


def decide(review: Review, place: int, decision: str | None) -> None:
    """Keep a decision; None takes back what was decided. Raises UserError where it cannot be."""
    pair = review.pairs[place]
    if decision is not None and decision not in DECISIONS:
        raise UserError("A row is kept, dropped or turned round.")
    if decision == FLIP and pair["no_flip"]:
        raise UserError(pair["no_flip"])
    add_decision(review.decisions_file, pair["row"], decision)


def free_file(recipes: Path, review: Review) -> Path:
    """Where the data are written that follow: a file that is not there yet."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(review.found["source"]).stem).lstrip(".-")
    number = 1
    while (path := recipes / "data" / f"{stem[:60] or 'data'}-reviewed-{number}.jsonl").exists():
        number += 1
    return path


def save(recipes: Path, review: Review) -> tuple[Path, dict[str, Any]]:
    """Write the data that follow from the decisions; returns the file and what stands beside it."""
    out = free_file(recipes, review)
    with disk_faults_told():
        out.parent.mkdir(parents=True, exist_ok=True)
    section = DataSection.model_validate(review.found["section"])
    return out, apply_decisions(section, review.found["form"], review.decisions, out, review.rows)


def save_words(review: Review, out: Path) -> list[str]:
    """The command that writes the same."""
    made = ["--decisions", str(review.decisions_file), "--out", str(out)]
    return ["dpo-lite", "data", review.found["source"], *review.found["keys"], *made]


def keys_of_new(review: Review) -> list[str]:
    """The keys that go with the new file: it is whole, and in UTF-8."""
    return [key for key in review.found["keys"] if key.partition("=")[0] not in NOT_OF_THE_NEW]
