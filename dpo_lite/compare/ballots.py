"""Drawn answers that wait for a blind vote: two of one policy's to each prompt.

`dpo-lite rounds --judge votes` draws them into ``<round>.ballot.jsonl`` beside the runs, the page
shows them one by one, and the votes stand in ``votes.jsonl`` as all others do: a pair is voted on
where there is a vote on its prompt and these two answers, whatever it says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lite.compare.votes import BAD, LETTERS, TIE, Vote, is_asked
from dpo_lite.files import json_text
from dpo_lite.runs.lines import parsed

ENDING = ".ballot.jsonl"
BETTER = "better:"  # before the answer that is, which may itself be the word tie
LABELS = ("drawn 1", "drawn 2")
Key = tuple[str, frozenset[str]]


@dataclass(frozen=True)
class Pair:
    """``policy``: the run that drew both answers; ``conversation``: all turns of the prompt."""

    policy: str
    prompt: str
    conversation: list[dict[str, Any]]
    answers: tuple[str, str]

    @property
    def key(self) -> Key:
        return self.prompt, frozenset(self.answers)


def read_ballots(file: Path) -> list[Pair]:
    """The pairs of a file, without lines of another shape."""
    lines = parsed(file.read_bytes(), file.name)[0] if file.is_file() else []
    return [pair for pair in map(_pair, lines) if pair is not None]


def _pair(line: dict[str, Any]) -> Pair | None:
    try:
        one, other = line["answers"]
        texts = [line["policy"], line["prompt"], one, other]
        whole = all(isinstance(text, str) for text in texts)
        turns = line["conversation"]
    except (KeyError, TypeError, ValueError):
        return None
    if not whole or not (turns == [] or (isinstance(turns, list) and is_asked(turns))):
        return None
    return Pair(line["policy"], line["prompt"], turns, (one, other))


def waiting(folder: str | Path, policy: str, votes: Iterable[Vote]) -> list[Pair]:
    """The pairs that a run's policy drew and nobody has voted on, oldest file first."""
    files = sorted(Path(folder).glob(f"*{ENDING}"), key=lambda file: file.name)
    pairs = [pair for file in files for pair in read_ballots(file) if pair.policy == policy]
    known = verdicts(votes)
    return list({pair.key: pair for pair in pairs if pair.key not in known}.values())


def verdicts(votes: Iterable[Vote]) -> dict[Key, str]:
    """What the votes on two answers say: the better answer, ``tie`` or ``bad``; the last counts."""
    found: dict[Key, str] = {}
    for vote in votes:
        answers = [column["answer"] for column in vote["columns"]]
        # Messages are a chat's or a round's own; a drawn pair is asked and voted on as one text.
        if len(answers) == 2 and isinstance(vote["prompt"], str):
            key, said = (vote["prompt"], frozenset(answers)), vote["verdict"]
            found.pop(key, None)
            found[key] = said if said in (TIE, BAD) else f"{BETTER}{answers[LETTERS.index(said)]}"
    return found


def pairs_of_votes(
    pairs: Sequence[Pair], votes: Iterable[Vote], raw: bool
) -> tuple[list[dict[str, Any]], int]:
    """The preferred answers against the others as TRL writes conversations (``raw``: as texts), and
    how many pairs nobody has voted on. A tie is no row, nor are two bad answers."""
    known, rows, open_ones = verdicts(votes), [], 0
    for pair in pairs:
        said = known.get(pair.key)
        if said is None:
            open_ones += 1
        elif said.startswith(BETTER):
            chosen = said.removeprefix(BETTER)
            rejected = next(text for text in pair.answers if text != chosen)
            rows.append(_row(pair, chosen, rejected, raw))
    return rows, open_ones


def _row(pair: Pair, chosen: str, rejected: str, raw: bool) -> dict[str, Any]:
    if raw:
        return {"prompt": pair.prompt, "chosen": chosen, "rejected": rejected}
    return {
        "prompt": pair.conversation,
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


def as_lines(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(json_text(row) + "\n" for row in rows)
