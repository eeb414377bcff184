"""A round of blind votes: prompts answered ahead by two models, voted on one after the other.

The round is written to from two sides, one that answers and one that votes: answered pairs are
only added, and a vote names the pair that it is on, so that one that comes twice counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dpo_lite.compare.votes import BAD, TIE, Asked, Pairing, Vote, win_rates

VERDICTS = ("A", "B", TIE, BAD)


@dataclass
class Round:
    """``pairs``: (prompt, the two columns in the order in which they are shown), all unequal.

    ``same``: how many prompts both answered alike; they are no question. ``votes``: one for each
    of the first pairs.
    """

    run: str
    prompts: list[Asked]
    sampling: dict[str, Any]
    pairs: list[tuple[Asked, list[dict[str, Any]]]] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    same: int = 0
    ended: bool = False  # whether nothing more is answered: all are, or somebody stopped it

    @property
    def answered(self) -> int:
        return len(self.pairs) + self.same

    @property
    def number(self) -> int:
        """Of the pair that is voted on next, from 0."""
        return len(self.votes)

    @property
    def waits(self) -> bool:
        """Whether there is no pair to vote on yet."""
        return self.number >= len(self.pairs) and not self.ended

    @property
    def over(self) -> bool:
        return self.number >= len(self.pairs) and self.ended


def answered(going: Round, prompt: Asked, columns: Sequence[dict[str, Any]]) -> None:
    """Put an answered prompt into the round; one that both answer alike is skipped."""
    texts = {column["text"].strip() for column in columns}
    if len(texts) == 1:
        going.same += 1
    else:
        going.pairs.append((prompt, list(columns)))


def may_vote(going: Round, number: int, verdict: str) -> bool:
    """Whether this is a verdict on the pair that is open now."""
    return verdict in VERDICTS and number == going.number < len(going.pairs)


def standing(going: Round) -> tuple[Pairing, dict[str, str]] | None:
    """How the two models stand in this round, with their names; None before the first vote."""
    pairings, names = win_rates(going.votes)
    return (pairings[0], names) if pairings else None


def progress_words(going: Round) -> str:
    """How far it is: what is answered, what is voted on, what was skipped."""
    total = len(going.prompts)
    words = [f"{going.number} voted", f"{going.answered} of {total} answered"]
    if going.same:
        words.append(f"{going.same} skipped, as both say the same")
    return " · ".join(words)


def standing_words(going: Round) -> str:
    """The win rate so far with its interval, as a sentence."""
    found = standing(going)
    if found is None:
        return ""
    pairing, names = found
    first, second = names[pairing.first], names[pairing.second]
    if pairing.interval is None:
        return f"No vote decided between {first} and {second} yet."
    low, high = (100 * end for end in pairing.interval)
    sentence = (
        f"{first} wins {pairing.rate:.0%} against {second}"
        f" ({pairing.decided} vote{'s' * (pairing.decided != 1)}, 95 % interval"
        f" {low:.0f} to {high:.0f} %)"
    )
    if low > 50:
        return f"{sentence}: better than a coin says."
    if high < 50:
        return f"{sentence}: worse than a coin says."
    return f"{sentence}: no difference is shown yet."
