"""What is known of answers before they are drawn: their size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dpo_lite.data.lengths import Lengths
from dpo_lite.data.prepare import PreparedData
from dpo_lite.recipe import Recipe


def expected(recipe: Recipe, data: PreparedData) -> tuple[list[dict[str, Any]], Lengths]:
    """The first training examples and all lengths, for PPO with answers as long as may be."""
    if recipe.task != "ppo":
        return data.few, data.lengths
    return expected_answers(recipe, data.few), expected_lengths(recipe, data.lengths)


def expected_answers(recipe: Recipe, examples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The prompts with an answer as long as may be drawn, of the prompts' own tokens. One answer
    each: of several to one prompt each may go into another micro-batch."""
    longest = recipe.ppo.max_new_tokens
    with_answers = []
    for example in examples:
        ids = list(example["prompt_ids"])
        with_answers.append(
            {**example, "response_ids": [(ids * -(-longest // len(ids)))[:longest]]}
        )
    return with_answers


def expected_lengths(recipe: Recipe, lengths: Lengths) -> Lengths:
    """Lengths of the same: nothing drawn can be longer."""
    same = np.full_like(lengths.prompt, recipe.ppo.max_new_tokens)
    one = np.ones_like(same)
    return Lengths(lengths.prompt, first=same, last=same, longest=same, responses=same, count=one)
