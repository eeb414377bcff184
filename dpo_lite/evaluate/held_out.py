"""What a held-out set says: by the scores of its responses, and by freely generated answers.

Loss and margin alone prove nothing: a run can drive its loss to zero and still say the same as
before. So there are two measures side by side. *Likelihood*: the share of pairs whose chosen
response is the likelier one. *Generation*: the share of greedy answers that make the chosen claim,
where the data says how to tell (columns ``chosen_markers`` and ``rejected_markers``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from dpo_lite.data.markers import classify
from dpo_lite.model.generation import generate
from dpo_lite.rates import Rate, rate
from dpo_lite.training import ranks


def answer_all(
    model: torch.nn.Module,
    tokenizer,
    prompts: Sequence[Sequence[int]],
    *,
    role: str,
    max_new_tokens: int,
    progress: Callable[[int], None] = lambda count: None,
) -> list[str]:
    """The greedy answer to every prompt; of processes that train together each gives its share."""
    return ranks.dealt(
        prompts,
        lambda some, told: generate(
            model, tokenizer, some, role=role, max_new_tokens=max_new_tokens, progress=told
        ),
        progress,
    )


def answer_held_out(
    model: torch.nn.Module,
    tokenizer,
    examples: Sequence[dict[str, Any]],
    *,
    role: str,
    max_new_tokens: int,
    progress: Callable[[int], None] = lambda count: None,
) -> list[dict[str, Any]]:
    """Greedy answers to the prompts of held-out examples, classified where there are markers.

    Equal prompts are asked once. Each record has ``prompt``, ``answer`` and, with markers,
    ``verdict``: chosen, rejected or neither.
    """
    asked = {tuple(example["prompt_ids"]): example for example in examples}
    answers = answer_all(
        model, tokenizer, list(asked), role=role, max_new_tokens=max_new_tokens, progress=progress
    )
    records = []
    for example, answer in zip(asked.values(), answers, strict=True):
        record = {"prompt": example["prompt"], "answer": answer}
        if example.get("chosen_markers"):
            record["verdict"] = classify(
                answer, example["chosen_markers"], example["rejected_markers"]
            )
        records.append(record)
    return records


def generation_rate(records: Sequence[dict[str, Any]]) -> Rate | None:
    """How many of the classified answers make the chosen claim; None without markers."""
    verdicts = [record["verdict"] for record in records if "verdict" in record]
    return rate(verdicts.count("chosen"), len(verdicts))
