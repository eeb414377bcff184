"""Which tokens of reasoning are trained, told for the rows of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntFlag

from dpo_lite.data.faithful import CLOSES, OPENS


class Thought(IntFlag):
    """What a row has of reasoning: in an answer, as an empty block that the template writes before
    an answer or at the prompt's end, or opened at the prompt's end."""

    SOME = 1
    EMPTY = 2
    OPENED = 4
    CLOSED = 8


WORDS = {
    Thought.OPENED: "the prompt ends with <think>, which is not trained; the reasoning behind it, "
    "</think> and the answer are",
    Thought.SOME: "an answer has reasoning, which is trained with its marks, like the answer",
    Thought.EMPTY: "the template writes an empty <think></think> before an answer without "
    "reasoning, and it is trained with the answer",
    Thought.CLOSED: "the prompt ends with an empty <think></think>, which is not trained; the "
    "answer behind it is",
}


def thought_of(prompt: str, rests: Sequence[str], answers: Sequence[str]) -> Thought:
    """``rests``: what is trained as text, for each of the answers as the row has them."""
    found = Thought(0)
    ends = prompt.rstrip()
    if any(CLOSES in answer for answer in answers):
        found |= Thought.OPENED if ends.endswith(OPENS) else Thought.SOME
    elif ends.endswith(CLOSES):
        found |= Thought.CLOSED
    if any(
        rest.lstrip().startswith((OPENS, CLOSES)) and CLOSES not in answer
        for rest, answer in zip(rests, answers, strict=True)
    ):
        found |= Thought.EMPTY
    return found


def thought_notes(counts: Mapping[str, int], rows: int) -> list[str]:
    """A sentence for each kind that some of the ``rows`` have; ``counts`` by the kinds' names."""
    present = ((counts.get(str(kind.name), 0), words) for kind, words in WORDS.items())
    return [
        f"in {'all' if count == rows else f'{count:,} of {rows:,}'} rows {words}"
        for count, words in present
        if count
    ]
