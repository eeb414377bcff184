"""Answers that say their prompt again before they answer, as text completion leaves them.

Trained as they stand, the model learns to repeat the question. Whether that is meant, only the user
knows: such rows are counted, and data.strip_prompt takes the repeated words off.
"""

from __future__ import annotations

from collections.abc import Sequence

from dpo_lite.data.examples import Message, Ranked, reworded


def repeats_prompt(prompt: Sequence[Message], answers: Sequence[str]) -> bool:
    """Whether every answer begins with the last turn of the prompt, the user's: what a tool said
    may well be said again."""
    asked = prompt[-1]["content"].strip() if prompt and prompt[-1]["role"] == "user" else ""
    return bool(asked and answers) and all(a.lstrip().startswith(asked) for a in answers)


def without_echo(ranked: Ranked) -> Ranked:
    """The answers without the prompt that they repeat, where all of them do."""
    if not repeats_prompt(ranked.prompt, ranked.responses):
        return ranked
    length = len(ranked.prompt[-1]["content"].strip())
    bare = [reworded(answer, answer.lstrip()[length:]) for answer in ranked.responses]
    return ranked._replace(responses=bare)
