"""What answers are rewarded by (``ppo.reward``): one source, or several with weights."""

from __future__ import annotations

import re

from pydantic import Field

from dpo_lite.names import is_function
from dpo_lite.recipe.kinds import Line
from dpo_lite.recipe.sections import Section

JUDGE = "judge"  # the source that is the recipe's own section of that name
MOST = 8  # rewards that are added up
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$"


class OneReward(Section):
    source: Line = Field(description="As one `ppo.reward`.")
    weight: float = Field(
        1.0,
        ge=-1e6,
        le=1e6,
        description="What it counts in the sum; below 0 it is a cost, at 0 it is measured only.",
    )
    name: str | None = Field(
        None, pattern=NAME, description="Of its curve; default: the function's, the run's or judge."
    )

    @property
    def label(self) -> str:
        """A name to log it by."""
        if self.name:
            return self.name
        source = self.source.replace("\\", "/").rstrip("/").removesuffix("/adapter")
        last = source.rpartition(":" if is_function(source) else "/")[2]
        return re.sub(r"[^A-Za-z0-9._-]", "-", last).lstrip(".-_")[:40] or "reward"

    @property
    def is_judge(self) -> bool:
        return self.source == JUDGE

    @property
    def is_adapter(self) -> bool:
        return not (self.is_judge or is_function(self.source))


def settled(value: str | list[str | OneReward] | None) -> list[OneReward]:
    """Every reward with its weight and a name that no other one has."""
    parts = [] if value is None else [value] if isinstance(value, str) else value
    found: list[OneReward] = []
    for part in parts:
        one = OneReward(source=part) if isinstance(part, str) else part
        taken, label, number = {other.label for other in found}, one.label, 2
        while label in taken:
            label = f"{one.label[:36]}-{number}"
            number += 1
        found.append(one.model_copy(update={"name": label}))
    return found


def fault_of(rewards: list[OneReward]) -> str:
    """Why they cannot be added up, as a clause; empty where they can."""
    sources = [one.source for one in rewards]
    twice = next((source for source in sources if sources.count(source) > 1), None)
    if twice:
        return f"names {twice} twice; give it one weight"
    if not any(one.weight for one in rewards):
        return "has no weight above or below 0, so nothing would be trained"
    return ""


def in_words(rewards: list[OneReward]) -> str:
    """``reward-1`` of one, ``1 × reward-1 + 0.2 × short`` of several."""
    if len(rewards) == 1 and rewards[0].weight == 1:
        return rewards[0].source
    return " + ".join(f"{one.weight:g} × {one.label}" for one in rewards)
