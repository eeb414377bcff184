"""Votes on answers: kept as lines of ``votes.jsonl`` and counted as win rates.

A line holds the whole story: the prompt, each column's label, fingerprint and answer in the order
shown, the sampling, and the verdict. The prompt is text, or the messages of a conversation. A line
of one column is a thumb: its letter for an answer that is good, ``bad`` for one that is not. Lines
are only ever added. ``vote_rows`` gives them back as data.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lite.errors import disk_faults_told
from dpo_lite.files import json_text
from dpo_lite.rates import wilson

TIE = "tie"
BAD = "bad"  # none of them is any good
LETTERS = "ABCDEFGH"

Vote = dict[str, Any]
Asked = str | list[dict[str, str]]  # one user turn, or all messages before the answer


def votes_file(folder: str | Path = "runs") -> Path:
    return Path(folder) / "votes.jsonl"


@disk_faults_told()
def add_vote(
    folder: str | Path,
    *,
    run: str,
    prompt: Asked,
    shown: Sequence[dict[str, str]],
    sampling: dict[str, Any],
    verdict: str,
    blind: bool,
) -> Vote:
    """Add a vote and return it.

    ``shown``: label, fingerprint and answer of each column in the order shown. ``verdict``: the
    letter of the best one (A is the first shown), ``tie`` or ``bad``.
    """
    if verdict not in (*LETTERS[: len(shown)], TIE, BAD):
        raise ValueError(f"{verdict} is no verdict on {len(shown)} answers")
    vote = {
        "time": time.time(),
        "run": run,
        "prompt": prompt,
        "columns": [{key: c[key] for key in ("label", "fingerprint", "answer")} for c in shown],
        "sampling": sampling,
        "blind": blind,
        "verdict": verdict,
    }
    path = votes_file(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = (json_text(vote) + "\n").encode()
    if _torn(path):
        line = b"\n" + line
    # One write to a file opened for appending: writers at the same time do not mix their lines.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)
    return vote


def _torn(path: Path) -> bool:
    """Whether a writer was killed within its line."""
    if not path.is_file() or path.stat().st_size == 0:
        return False
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def read_votes(folder: str | Path = "runs") -> list[Vote]:
    """All whole votes, oldest first. Who votes twice on the same answers has changed their mind:
    only the last of such votes counts."""
    path = votes_file(folder)
    if not path.is_file():
        return []
    last: dict[Any, Vote] = {}
    for vote in filter(None, map(_vote, _lines(path))):
        columns = [(c["fingerprint"], c["answer"]) for c in vote["columns"]]
        key = (asked_key(vote["prompt"]), tuple(sorted(columns)))
        last.pop(key, None)
        last[key] = vote
    return list(last.values())


def asked_key(prompt: Asked) -> str:
    """Equal for equal prompts, whichever way they are written."""
    return prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True)


def is_asked(prompt: Any) -> bool:
    """Whether it is a prompt: text, or messages with a role and a content."""
    if not isinstance(prompt, list):
        return isinstance(prompt, str)
    keys = ("role", "content")
    return bool(prompt) and all(
        isinstance(turn, dict) and all(isinstance(turn.get(key), str) for key in keys)
        for turn in prompt
    )


def passed_over(folder: str | Path = "runs") -> int:
    """The lines of the votes' file that are no votes: cut short, or of another shape."""
    path = votes_file(folder)
    if not path.is_file():
        return 0
    return sum(_vote(line) is None for line in _lines(path) if line.strip())


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").split("\n")


def _vote(line: str) -> Vote | None:
    """The vote of a line, with all that is asked of one; None where it is none."""
    try:
        vote = json.loads(line)
        columns = vote["columns"]
        texts = [vote["run"], vote["verdict"]]
        texts += [c[key] for c in columns for key in ("label", "fingerprint", "answer")]
        whole = isinstance(columns, list) and all(isinstance(text, str) for text in texts)
        whole = whole and is_asked(vote["prompt"])
        dated = isinstance(vote["time"], int | float)
        known = vote["verdict"] in (*LETTERS[: len(columns)], TIE, BAD)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return vote if whole and dated and known else None


# --- win rates -----------------------------------------------------------------------------------


@dataclass
class Pairing:
    """Votes on two models, by fingerprint. With more columns the best beats each of the others."""

    first: str
    second: str
    wins: int = 0
    losses: int = 0
    ties: int = 0
    bad: int = 0

    @property
    def decided(self) -> int:
        return self.wins + self.losses + self.ties

    @property
    def rate(self) -> float | None:
        """Share of the votes that the first won, a tie as half a win; both bad does not count."""
        return (self.wins + self.ties / 2) / self.decided if self.decided else None

    @property
    def interval(self) -> tuple[float, float] | None:
        return wilson(self.rate, self.decided) if self.decided else None


def win_rates(votes: Iterable[Vote]) -> tuple[list[Pairing], dict[str, str]]:
    """Every pair of models that met in blind votes, most votes first, and each model's name.

    A label that stands for several fingerprints (a run trained anew under its old name) is shown
    with its fingerprint. The reference stands second in its pairs.
    """
    pairs: dict[tuple[str, str], Pairing] = {}
    labels: dict[str, str] = {}
    for vote in votes:
        if not vote.get("blind", True):
            continue  # who sees the names does not judge the answers alone
        columns = vote["columns"]
        labels |= {c["fingerprint"]: c["label"] for c in columns}
        best = LETTERS.find(vote["verdict"]) if vote["verdict"] not in (TIE, BAD) else None
        for i, one in enumerate(columns):
            for j in range(i + 1, len(columns)):
                other = columns[j]
                if one["fingerprint"] == other["fingerprint"] or one["answer"] == other["answer"]:
                    continue  # no two models, or no two answers: the vote tells them not apart
                if best is not None and best not in (i, j):
                    continue  # nothing is known about these two
                _count(pairs, labels, (one, i), (other, j), best, vote["verdict"])
    twice = [label for label in labels.values() if list(labels.values()).count(label) > 1]
    names = {f: f"{name} ({f[:6]})" if name in twice else name for f, name in labels.items()}
    return sorted(pairs.values(), key=lambda p: -(p.decided + p.bad)), names


def _count(pairs, labels, one, other, best: int | None, verdict: str) -> None:
    (first, i), (second, j) = sorted(
        (one, other), key=lambda side: (side[0]["label"] == "reference", side[0]["fingerprint"])
    )
    key = (first["fingerprint"], second["fingerprint"])
    pair = pairs.setdefault(key, Pairing(*key))
    pair.ties += verdict == TIE
    pair.bad += verdict == BAD
    pair.wins += best == i
    pair.losses += best == j
