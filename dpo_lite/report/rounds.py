"""On-policy rounds from what is on disk: of each the pairs that were drawn and the run on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lite.rates import rate_at
from dpo_lite.runs.folder import Run
from dpo_lite.runs.results import is_number
from dpo_lite.runs.state import read_object


@dataclass(frozen=True)
class RoundRow:
    """``pairs``: None before its file is there; ``status``: None before its run is. ``reward``: the
    mean of what was drawn, by the policy that the round began with, where answers were rewarded."""

    number: int
    run: Run
    pairs: int | None
    reward: float | None
    status: dict[str, Any] | None
    held_out: str


def read_rounds(folder: Path, first: str, rounds: int) -> list[RoundRow]:
    """The rounds that begin with a run, as far as they are."""
    rows = []
    for number in range(1, rounds + 1):
        run = Run(folder / f"{first}-round-{number}")
        file = folder / f"{run.name}.jsonl"
        pairs = None
        if file.is_file():
            with open(file, "rb") as lines:
                pairs = sum(1 for line in lines if line.strip())
        made = run.recipe_file.is_file()
        status = run.status() if made else None
        finished = status is not None and status["state"] == "finished"
        words = held_out_words(run) if finished else ""
        rows.append(RoundRow(number, run, pairs, _mean_reward(file), status, words))
    return rows


def last_reward(folder: Path, first: str, rounds: int) -> float | None:
    """The mean reward of what the last round's policy drew, as soon as that is known."""
    return _mean_reward(folder / f"{first}-after-round-{rounds}.jsonl")


def _mean_reward(file: Path) -> float | None:
    """Of the answers of a drawing, by what stands beside its lines."""
    facts = read_object(file.with_name(f"{file.name}.json")) or {}
    rewards, answers = facts.get("rewards"), facts.get("answers")
    if rewards is None or not answers or not (is_number(rewards) and is_number(answers)):
        return None
    return rewards / answers


def held_out_words(run: Run) -> str:
    """What a finished round's held-out sets say: the claims of its answers where the data can tell
    them apart, else how often the reward agrees."""
    words = []
    for name, measured in run.results()["sets"].items():
        said = rate_at(measured, "generation", "policy") or rate_at(measured, "rewards/accuracies")
        words.append(f"{name} {said.words()}" if said else name)
    return ", ".join(words)
