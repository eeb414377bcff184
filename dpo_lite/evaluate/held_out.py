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
from dpo_lite.data.packing import Encoded
from dpo_lite.model import roles
from dpo_lite.model.generation import generate
from dpo_lite.model.scoring import micro_batches
from dpo_lite.training.reference_cache import ReferenceCache
from dpo_lite.training.reward_model import Compared
from dpo_lite.training.sft import Demonstrated, response_tokens, score_demonstrations
from dpo_lite.training.update import Objective, Outcome, evaluate_examples


def likelihood_shares(outcome: Outcome) -> dict[str, float]:
    """Share of examples whose first response is likelier than the last, by role."""
    return {
        "reference": (outcome.reference_first > outcome.reference_last).float().mean().item(),
        "policy": (outcome.policy_first > outcome.policy_last).float().mean().item(),
    }


def score_held_out(
    model: torch.nn.Module,
    examples: Sequence[Encoded],
    objective: Objective,
    budget: int,
    progress: Callable[[int], None] = lambda count: None,
    references: ReferenceCache | None = None,
) -> dict[str, Any]:
    """Metrics of a held-out set: TRL's names, and the likelihood share of both roles.

    Of demonstrations their loss per token, that of the reference beside it; of a reward model how
    well it is calibrated.
    """
    outcome = evaluate_examples(model, examples, objective, budget, progress, references)
    if isinstance(outcome, Compared):
        return outcome.metrics() | {"calibration": outcome.calibration()}
    if isinstance(outcome, Demonstrated):
        before = reference_loss(model, examples, objective, budget)
        return outcome.metrics() | {"reference_loss": before}
    return outcome.metrics() | {"likelihood": likelihood_shares(outcome)}


@torch.no_grad()
def reference_loss(
    model: torch.nn.Module, examples: Sequence[Encoded], objective: Objective, budget: int
) -> float:
    """Loss per token of the demonstrations under the model as it was before the training."""
    way, dtype = objective.way, objective.dtype
    parts = [
        score_demonstrations(model, [examples[i] for i in places], way, dtype, role=roles.reference)
        for places in micro_batches(examples, way, budget)
    ]
    total = sum(part.logps.sum().item() for part in parts)
    return -total / response_tokens(examples)


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
    answers = generate(
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


def generation_share(records: Sequence[dict[str, Any]]) -> float | None:
    """Share of the classified answers that make the chosen claim; None without markers."""
    verdicts = [record["verdict"] for record in records if "verdict" in record]
    return verdicts.count("chosen") / len(verdicts) if verdicts else None
