"""What is known of answers before they are drawn: their size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dpo_lite.data.lengths import Lengths


def expected_answers(examples: Sequence[dict[str, Any]], longest: int) -> list[dict[str, Any]]:
    """The prompts with an answer as long as may be drawn, of the prompts' own tokens. One answer
    each: of several to one prompt each may go into another micro-batch."""
    with_answers = []
    for example in examples:
        ids = list(example["prompt_ids"])
        with_answers.append(
            {**example, "response_ids": [(ids * -(-longest // len(ids)))[:longest]]}
        )
    return with_answers


def expected_lengths(lengths: Lengths, longest: int) -> Lengths:
    """Lengths of the same: nothing drawn can be longer."""
    same = np.full_like(lengths.prompt, longest)
    one = np.ones_like(same)
    return Lengths(lengths.prompt, first=same, last=same, longest=same, responses=same, count=one)
