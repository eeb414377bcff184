"""Which answers are out of the ordinary, so that no reward is to be believed of them.

An implicit reward was trained on text that the reference may say, and is good there alone: word
salad is where policy and reference differ most, so it can have the highest reward of all. What is
ordinary the reference says itself, by answers to the same prompt that it draws at temperature 1:

- *Likelihood*: an answer's surprise, -log pi_ref / tokens, against theirs. The limit is a multiple
  of their median, which is scale-free: what is unlikely depends on how sure the reference is here.
- *Repeats*: a loop is likely to the reference, once it is in it, so the first rule lets it pass.
- *Length*: against theirs and against the answers that are ranked, so that a policy that learned
  to be brief, or to be thorough, is not set aside as a whole.

The numbers are from the builtin model's answers to 57 questions (docs/concepts.md). There ordinary
surprise is 0.27 nats per token, the limit 0.68 and word salad around 2. Other models are more or
less sure, from 0.02 in a sum to over 1 in a story; the two ends of the excess are for them. A
policy that is 50 nats from its reference over 300 tokens adds 0.2 per token, words at random 8.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np

Kind = Literal["unlikely", "repeats", "too long", "too short"]

EXCESS = 1.5  # of the ordinary surprise, above it
LEAST_EXCESS, MOST_EXCESS = 0.25, 1.5  # nats per token
STUTTER = 3  # times the same word in a row
LOOP = 4  # tokens of a piece that comes again
LOOPED = 0.25  # share of an answer's pieces that were there before, above the ordinary
LENGTH = 2.0  # times the longest, or so often shorter than the shortest


@dataclass(frozen=True)
class Seen:
    """An answer and log pi_ref of it, in nats."""

    text: str
    ids: tuple[int, ...]
    logp: float

    @property
    def surprise(self) -> float:
        """Nats per token."""
        return -self.logp / len(self.ids)


@dataclass(frozen=True)
class Aside:
    """Why an answer is set aside, in words with numbers; ``limit``: the one that it is beyond."""

    kind: Kind
    words: str
    limit: float


def set_aside(answers: Sequence[Seen], ordinary: Sequence[Seen]) -> list[Aside | None]:
    """The first reason to set each answer aside, None for those that may be ranked.

    ``ordinary``: what the reference drew at temperature 1 for the same prompt; at least one.
    """
    usual = float(np.median([answer.surprise for answer in ordinary]))
    limit = surprise_limit(usual)
    stutter = max(STUTTER - 1, *(longest_stutter(answer.text) for answer in ordinary))
    looped = LOOPED + max(looped_share(answer.ids) for answer in ordinary)
    lengths = [len(answer.ids) for answer in ordinary]
    middle = float(np.median([len(answer.ids) for answer in answers])) if answers else 0.0
    longest, shortest = max(*lengths, middle) * LENGTH, min(*lengths, middle) / LENGTH

    def reason(answer: Seen) -> Aside | None:
        tokens, times = len(answer.ids), longest_stutter(answer.text)
        if answer.surprise > limit:
            words = f"−{answer.surprise:.2f} nats per token under the reference, its own have"
            return Aside("unlikely", f"{words} −{usual:.2f}", limit)
        if times > stutter:
            return Aside("repeats", f"a word {times} times in a row", stutter)
        if (share := looped_share(answer.ids)) > looped:
            return Aside("repeats", f"{share:.0%} of it stood in it before", looped)
        if tokens > longest:
            words = f"{tokens} tokens, at most {max(lengths)} in the reference's own"
            return Aside("too long", words, longest)
        if tokens < shortest:
            words = f"{tokens} tokens, at least {min(lengths)} in the reference's own"
            return Aside("too short", words, shortest)
        return None

    return [reason(answer) for answer in answers]


def surprise_limit(usual: float) -> float:
    """The most that an answer's surprise may be where ``usual`` is the median; nats per token."""
    return usual + min(max(EXCESS * usual, LEAST_EXCESS), MOST_EXCESS)


def longest_stutter(text: str) -> int:
    """How often a word stands in a row at most; rules and bullets are no words."""
    runs = [(word, len(list(run))) for word, run in groupby(text.casefold().split())]
    return max((times for word, times in runs if any(map(str.isalpha, word))), default=0)


def looped_share(ids: Sequence[Hashable]) -> float:
    """The share of pieces of LOOP tokens that stood in the answer before.

    By tokens, since not every language puts spaces between words.
    """
    pieces = [tuple(ids[at : at + LOOP]) for at in range(len(ids) - LOOP + 1)]
    return 1 - len(set(pieces)) / len(pieces) if pieces else 0.0


WORDS: dict[Kind, str] = {
    "unlikely": "less likely under the reference than −{limit:.2f} nats per token",
    "repeats": "repeating words",
    "too long": "too long",
    "too short": "too short",
}


def summary(reasons: Sequence[Aside | None], times: Sequence[int]) -> str:
    """How many answers are set aside and why, each counted as often as it was drawn; "" for none.

    "5 of 32 answers set aside: 4 less likely ..., 1 too long".
    """
    counts: Counter[Kind] = Counter()
    limits: dict[Kind, float] = {}
    for aside, count in zip(reasons, times, strict=True):
        if aside:
            counts[aside.kind] += count
            limits[aside.kind] = aside.limit
    if not counts:
        return ""
    parts = [f"{counts[k]} {WORDS[k].format(limit=limits[k])}" for k in WORDS if counts[k]]
    return f"{counts.total()} of {sum(times)} answers set aside: {', '.join(parts)}"
