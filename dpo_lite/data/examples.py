"""What a row of data becomes: an example, or a reason why not."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

Message = dict[str, str]  # {"role": ..., "content": ...}
ROLES = ("system", "user", "assistant", "tool")


class Reason(str, Enum):
    """Why a row is not trained on; the value is what the user reads."""

    MALFORMED = "malformed row"
    NOT_TEXT = "a text is missing or is not text"
    EMPTY_PROMPT = "empty prompt"
    EMPTY_RESPONSE = "empty response"
    IDENTICAL = "responses identical"
    PROMPTS_DIFFER = "the responses belong to different prompts"
    TIE = "tie: both are rated equally"
    DUPLICATE = "duplicate of an earlier row"
    IN_EVAL = "prompt also in the held-out data"
    BOUNDARY = "prompt and response melt into one token"
    TOO_LONG = "longer than max_length"
    CUT = "start of the prompt cut (kept)"
    WEIGHT = "left out by the mixing weights"


@dataclass(frozen=True)
class Example:
    """A prompt and its responses, best first (chosen, rejected for a pair)."""

    prompt: list[Message]
    responses: list[str]
    row: int
    chosen_markers: list[str] = field(default_factory=list)
    rejected_markers: list[str] = field(default_factory=list)

    @property
    def key(self) -> tuple:
        """Equal for equal prompts."""
        return tuple((message["role"], message["content"]) for message in self.prompt)


@dataclass(frozen=True)
class Dropped:
    row: int
    reason: Reason
    detail: str = ""
