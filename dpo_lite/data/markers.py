"""Tell what a freely generated answer claims, by phrases that the data set names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal


def classify(
    text: str, chosen_markers: Sequence[str], rejected_markers: Sequence[str]
) -> Literal["chosen", "rejected", "neither"]:
    """Return which claim ``text`` makes: lower-case phrases looked up in the lower-cased text.

    ``rejected`` where a rejected phrase stands in it, even beside a chosen one: an answer that says
    both has not given the wrong claim up. Else ``chosen`` where a chosen phrase does, else
    ``neither``.
    """
    text = text.lower()
    if any(marker in text for marker in rejected_markers):
        return "rejected"
    return "chosen" if any(marker in text for marker in chosen_markers) else "neither"


def has_markers(examples: Sequence[dict[str, Any]]) -> bool:
    """Whether the data say of every example how to tell a good answer."""
    return bool(examples) and all(e.get("chosen_markers") for e in examples)
