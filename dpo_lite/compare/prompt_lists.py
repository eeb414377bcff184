"""Prompts for a round of votes: a run's held-out data, a file, or lines. No weights, no torch."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from dpo_lite.compare.columns import prompts_of
from dpo_lite.compare.votes import Asked, Vote, asked_key
from dpo_lite.data.examples import BadRow
from dpo_lite.data.files import file_kind, read_rows
from dpo_lite.data.recognition import recognise
from dpo_lite.errors import UserError
from dpo_lite.runs.folder import Run

MOST_READ = 2000  # rows of a file among which a round chooses
OWN = "prompts"  # the set of samples.jsonl that are the recipe's own prompts


def held_out_prompts(run: Run) -> list[Asked]:
    """What the run was asked of its held-out data; its own prompts where it has none."""
    held_out: list[Asked] = [
        s["prompt"] for s in run.records("samples.jsonl") if s.get("set", OWN) != OWN
    ]
    unlike = {asked_key(prompt): prompt for prompt in held_out or prompts_of(run)}
    return list(unlike.values())


def lines_as_prompts(text: str) -> list[Asked]:
    """One prompt a line; empty lines are none. A separator of Unicode's ends no line."""
    return list(dict.fromkeys(line.strip() for line in re.split(r"[\r\n]", text) if line.strip()))


def prompts_in(path: Path) -> list[Asked]:
    """The prompts of a data file of any format, or the lines of a text file.

    Raises UserError where the file has no prompts; rows that cannot be read are passed over.
    """
    if file_kind(path) is None:
        try:
            found = lines_as_prompts(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            raise UserError(
                f"{path.name} is no text; give one prompt a line or a data file."
            ) from None
        if not found:
            raise UserError(f"{path.name} is empty; give one prompt a line, or a data file.")
        return found
    rows = list(itertools.islice(read_rows(path), MOST_READ))
    read = recognise(rows, where=path.name, prompts=True)
    asked: dict[str, Asked] = {}
    for row in rows:
        try:
            prompt = _plainly([dict(turn) for turn in read.ask(row).prompt])
        except BadRow:
            continue
        asked.setdefault(asked_key(prompt), prompt)
    if not asked:
        raise UserError(f"{path.name} holds no prompt that can be read; see it in the Data tab.")
    return list(asked.values())


def _plainly(turns: list[dict[str, str]]) -> Asked:
    """One user turn is a text."""
    (first, *more) = turns or [{"role": "user", "content": ""}]
    return turns if more or first["role"] != "user" else first["content"]


def choose(
    prompts: Sequence[Asked], count: int, votes: Iterable[Vote] = (), seed: int = 0
) -> list[Asked]:
    """So many prompts in an order drawn from the seed, those nobody has voted on first."""
    voted = {asked_key(vote["prompt"]) for vote in votes}
    drawn = random.Random(seed).sample(list(prompts), len(prompts))
    return sorted(drawn, key=lambda prompt: asked_key(prompt) in voted)[:count]
