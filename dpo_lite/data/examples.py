"""What a row of data becomes: examples, or a reason why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

DataRow = dict[str, Any]  # a row as it was read: column -> cell, whatever stands in it
Message = dict[str, Any]  # {"role": ..., "content": ...}, and "tool_calls" of an assistant
ROLES = ("system", "user", "assistant", "tool")


class Reason(str, Enum):
    """Why a row is not trained on as it stands; the value is what the user reads."""

    MALFORMED = "malformed row"
    NOT_TEXT = "a text is missing or is not text"
    SENSES = "pictures, video or sound beside the text"
    TOO_LARGE = "a text of over a million characters"
    EMPTY_PROMPT = "empty prompt"
    EMPTY_RESPONSE = "empty response"
    IDENTICAL = "responses identical"
    UNANSWERED = "the conversation does not end with an answer"
    PROMPTS_DIFFER = "the responses belong to different prompts"
    TIE = "tie: rated equally"
    OPPOSITE = "the ratings prefer the rejected response"
    WEAK = "preference too weak (score_ratio under 2)"
    UNPAIRED = "labelled, but without a counterpart for the same prompt (task: kto needs none)"
    UNLABELLED = "not said whether the answer is good or bad"
    BAD = "labelled as bad, so no demonstration"
    WHERE = "left out by data.where"
    LEFT_OUT = "a line left out by name (data.leave_out)"
    TEMPLATE = "the chat template refuses the conversation"
    UNSAID = "the chat template does not say what the row says"
    SPECIAL = "a special token of the model stands in the text"
    BEYOND = "a token that the base has no row for"
    DUPLICATE = "duplicate of an earlier row"
    IN_EVAL = "prompt also in the held-out data"
    TOO_LONG = "longer than max_length"
    WEIGHT = "left out by the mixing weights"
    # Not lost, but changed: counted all the same.
    CUT = "start of the prompt cut (kept)"
    BEHIND = "turns behind the last answer left out (the rest kept)"
    PART = "pairs of a ranking left out: tied, identical or empty (the rest kept)"


KEPT = (Reason.CUT, Reason.BEHIND, Reason.PART)


class BadRow(Exception):
    """Raised by whoever looks at a row and finds that it cannot be trained on."""

    def __init__(self, reason: Reason, detail: str = ""):
        super().__init__(reason.value, detail)
        self.reason = reason
        self.detail = detail


class Calling(str):
    """The words of an answer that calls tools, often none; ``calls`` as a Message has them.

    Answers are text wherever they are looked at; only the chat template has to know of the calls.
    """

    calls: Sequence[dict[str, Any]]

    def __new__(cls, words: str, calls: Sequence[dict[str, Any]] = ()) -> Calling:
        answer = super().__new__(cls, words)
        answer.calls = calls
        return answer


def calls_of(answer: str) -> list[dict[str, Any]]:
    """The calls of an answer; none of one that is text alone."""
    return list(answer.calls) if isinstance(answer, Calling) else []


def reworded(answer: str, words: str) -> str:
    """The answer with other words, and the calls that it makes."""
    return Calling(words, answer.calls) if isinstance(answer, Calling) else words


class Ranked(NamedTuple):
    """What a converter makes of a row.

    Without ``scores`` the responses stand best first; with them a higher score is better, in any
    order. One response is a demonstration (SFT), none a prompt alone (PPO). ``template`` is passed
    on to the chat template. ``behind``: what of the row stands behind the last answer, in words.
    """

    prompt: list[Message]
    responses: list[str]
    scores: list[float] | None = None
    template: dict[str, Any] | None = None
    behind: str = ""


@dataclass(frozen=True)
class Example:
    """A prompt and its responses, best first (chosen, rejected for a pair; none for PPO).

    ``dialogue``: the row spelled its speakers out (``Human:``, ``Assistant:``); plain text keeps
    them so. ``template``: arguments of the chat template that came with the row. ``margin``: by how
    much the first of two is said to be better; NaN where that is no number. ``partner``: the row of
    the second response, where that is another row (labelled answers). ``desirable``: of a single
    response that is learned from by itself (KTO), whether it is a good one.
    """

    prompt: list[Message]
    responses: list[str]
    row: int
    chosen_markers: list[str] = field(default_factory=list)
    rejected_markers: list[str] = field(default_factory=list)
    template: dict[str, Any] = field(default_factory=dict)
    dialogue: bool = False
    margin: float | None = None
    partner: int | None = None
    desirable: bool | None = None


@dataclass(frozen=True)
class Dropped:
    row: int
    reason: Reason
    detail: str = ""
