"""The section that names a judge: a language model behind an address, asked which answer is good.

Who asks it, and what, is in dpo_lite.judge; its key comes from the environment and never from here.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from dpo_lite.bounded import MAX_COUNT, MAX_TOKENS
from dpo_lite.recipe.kinds import Line, Words
from dpo_lite.recipe.sections import Section

OURS = ("model", "messages", "stream", "n")  # of a request's body; whoever changes them breaks it


class JudgeSection(Section):
    url: Line | None = Field(
        None,
        description="Address of a judge that speaks OpenAI's chat completions, such as"
        " http://127.0.0.1:8000/v1: `ppo.reward: judge`, `dpo-lite judge`, `draw` and `rounds` ask"
        " it. Its key, where it wants one, is read from the environment: DPO_LITE_JUDGE_KEY.",
    )
    model: Line | None = Field(None, description="The judge's name at that address.")
    criteria: Words = Field(
        "A good answer does what was asked, is true, and says no more than it needs to.",
        description="What makes an answer good, in words to the judge.",
    )
    max_tokens: int = Field(
        512, ge=1, le=MAX_TOKENS, description="Longest reply of the judge, in tokens."
    )
    temperature: float = Field(
        0.0, ge=0, le=10, description="At which the judge draws its replies; 0 is greedy."
    )
    body: dict[str, Any] = Field(
        default_factory=dict,
        description="Further keys of a request, such as {reasoning_effort: low}; null takes one"
        " away, as in {max_tokens: null, max_completion_tokens: 512}.",
    )
    at_once: int = Field(4, ge=1, le=256, description="Questions that are under way together.")
    timeout: float = Field(
        60.0, ge=0.01, le=86_400, description="Seconds after which a question is asked again."
    )
    retries: int = Field(
        4,
        ge=0,
        le=100,
        description="How often a question is asked again, after ever longer waits, where the judge"
        " is busy, slow or out of order.",
    )
    price_in: Annotated[float, Field(ge=0, le=MAX_COUNT)] | None = Field(
        None, description="Price of a million tokens of questions, to tell what they cost."
    )
    price_out: Annotated[float, Field(ge=0, le=MAX_COUNT)] | None = Field(
        None, description="Price of a million tokens of replies, in the same currency."
    )

    @field_validator("url")
    @classmethod
    def plain_address(cls, value: str | None) -> str | None:
        """Recipes are kept and published: no secret may be a part of the address."""
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            fine = fine and value.isascii() and not any(map(str.isspace, value))
        except ValueError:
            fine = False
        if not fine:
            raise PydanticCustomError(
                "judge_url", "must be an address such as http://127.0.0.1:8000/v1"
            )
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise PydanticCustomError(
                "judge_url",
                "must have no password, ? or # in it; the key goes into DPO_LITE_JUDGE_KEY",
            )
        return value.rstrip("/")

    @field_validator("body")
    @classmethod
    def not_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        if wrong := [key for key in OURS if key in value]:
            raise PydanticCustomError(
                "judge_body", "must not have {key}, which is set by itself", {"key": wrong[0]}
            )
        return value
