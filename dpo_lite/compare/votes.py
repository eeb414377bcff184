"""Votes on answers: kept as lines of ``votes.jsonl``, counted as win rates, given back as data.

A line holds the whole story: the prompt, each column's label, fingerprint and answer in the order
shown, the sampling, and the verdict. Lines are only ever added.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpo_lite.errors import UserError, disk_faults_told
from dpo_lite.files import write_text
from dpo_lite.rates import wilson
from dpo_lite.recipe import load_recipe

TIE = "tie"
BAD = "bad"  # none of them is any good
LETTERS = "ABCDEFGH"
OF_THE_DATA = ("eval", "revision", "columns", "where", "limit")

Vote = dict[str, Any]


def votes_file(folder: str | Path = "runs") -> Path:
    return Path(folder) / "votes.jsonl"


@disk_faults_told()
def add_vote(
    folder: str | Path,
    *,
    run: str,
    prompt: str,
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
    line = (json.dumps(vote, ensure_ascii=False) + "\n").encode()
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
        key = (vote["prompt"], tuple(sorted(columns)))
        last.pop(key, None)
        last[key] = vote
    return list(last.values())


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
        texts = [vote["run"], vote["prompt"], vote["verdict"]]
        texts += [c[key] for c in columns for key in ("label", "fingerprint", "answer")]
        whole = isinstance(columns, list) and all(isinstance(text, str) for text in texts)
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
    """Every pair of models that met, most votes first, and a name for each fingerprint.

    A label that stands for several fingerprints (a run trained anew under its old name) is shown
    with its fingerprint. The reference stands second in its pairs.
    """
    pairs: dict[tuple[str, str], Pairing] = {}
    labels: dict[str, str] = {}
    for vote in votes:
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


# --- votes as data -------------------------------------------------------------------------------


@dataclass
class Export:
    """``rows`` as the data layer reads them, and how many votes gave none and why."""

    rows: list[dict[str, str]]
    left_out: dict[str, int] = field(default_factory=dict)


def preference_rows(votes: Iterable[Vote], run: str | None = None) -> Export:
    """Rows of prompt, chosen and rejected: the best answer against each of the others.

    Of rows that say the opposite of each other the later one stays.
    """
    rows: dict[Any, dict[str, str]] = {}
    left_out: dict[str, int] = {}

    def leave_out(why: str) -> None:
        left_out[why] = left_out.get(why, 0) + 1

    for vote in votes:
        if run and run not in (vote["run"], *(c["label"] for c in vote["columns"])):
            continue
        if vote["verdict"] in (TIE, BAD):
            leave_out("ties" if vote["verdict"] == TIE else "both bad")
            continue
        place = LETTERS.index(vote["verdict"])
        answers = [column["answer"] for column in vote["columns"]]
        for position, rejected in enumerate(answers):
            chosen = answers[place]
            if position == place:
                continue
            if chosen == rejected:
                leave_out("equal answers")
            elif not chosen.strip() or not rejected.strip():
                leave_out("empty answers")
            else:
                key = (vote["prompt"], frozenset((chosen, rejected)))
                if key in rows:
                    leave_out("voted on again later")
                rows[key] = {"prompt": vote["prompt"], "chosen": chosen, "rejected": rejected}
    return Export(list(rows.values()), left_out)


def export_votes(
    folder: str | Path, file: str | Path, run: str | None = None, replace: bool = False
) -> Export:
    """Write the votes as a preference data set (.jsonl); raises UserError where there are none."""
    file = Path(file)
    if file.suffix != ".jsonl":
        raise UserError(f"{file} is no name for JSON lines; end it with .jsonl.")
    if file.exists() and not replace:
        raise UserError(f"{file} exists; choose another name or remove it first.")
    export = preference_rows(read_votes(folder), run)
    if not export.rows:
        left = ", ".join(f"{count} {why}" for why, count in export.left_out.items())
        raise UserError(
            f"There are no votes in {votes_file(folder)} that prefer one answer"
            + (f" ({left})" if left else "")
            + "; vote with `dpo-lite compare RUN --blind`."
        )
    with disk_faults_told():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in export.rows))
    return export


def training_command(folder: str | Path, run: str, file: str | Path) -> list[str]:
    """Trains on from the run's adapter, with that adapter as the reference, on exported votes."""
    recipe = Path(folder) / run / "recipe.yaml"
    return ["dpo-lite", "train", str(recipe), *training_keys(folder, run, file)]


def training_keys(folder: str | Path, run: str, file: str | Path) -> list[str]:
    """What it says otherwise than the run's recipe, as ``key=value``."""
    path = Path(folder) / run
    number = 1
    while (Path(folder) / f"{run}-votes-{number}").exists():
        number += 1
    # What the run's recipe says about its own data does not hold for the votes.
    data = load_recipe(path / "recipe.yaml").data
    own = [f"data.{key}=null" for key in OF_THE_DATA if getattr(data, key) is not None]
    own += ["data.format=auto"] if data.format != "auto" and not data.raw else []
    return [
        *(f"run.name={run}-votes-{number}", f"run.folder={folder}", f"data.train={file}", *own),
        *(f"model.adapter={path / 'adapter'}", "reference=start"),
    ]
