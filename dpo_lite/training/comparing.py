"""What DPO and the reward model share: responses that are compared, and the metrics of rewards."""

from __future__ import annotations

import torch

from dpo_lite.data.prepare import PreparedData
from dpo_lite.errors import UserError
from dpo_lite.objectives.losses import LOSSES
from dpo_lite.rates import LOGGED_OF
from dpo_lite.recipe import Recipe


def check_responses(recipe: Recipe, data: PreparedData) -> None:
    """The number of responses to a prompt must suit the loss."""
    fewest, most = data.report.responses["fewest"], data.report.responses["most"]
    if fewest < 2:
        raise UserError(
            f"data.train holds single responses; task: {recipe.task} needs at least two per prompt,"
            " one preferred. To learn from them as they are set task: sft."
        )
    if most > 2 and not LOSSES[recipe.train.loss].listwise:
        raise UserError(
            f"data.train holds {most} responses per prompt; set train.loss=plackett_luce, or "
            "data.pairs=best_worst to make pairs."
        )
    for name, rows in data.evals.items():
        if any(len(ids) < 2 for ids in rows["response_ids"]):
            raise UserError(
                f"data.eval: {name} holds single responses; task: {recipe.task} is measured by"
                " pairs, of which one response is preferred. Name such data, or set data.eval=none."
            )


def ends_of(group_sizes: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Places of the first and the last response of every example, (E,) each, among all R."""
    sizes = torch.tensor(group_sizes)
    ends = sizes.cumsum(0)
    return ends - sizes, ends - 1


def reward_metrics(chosen: torch.Tensor, rejected: torch.Tensor) -> dict[str, float]:
    """TRL's names for rewards (E,) and (E,); the accuracy is of ``pairs``, without the ties."""
    counted = accuracy_counts(chosen, rejected)
    metrics = {
        "rewards/chosen": chosen.mean().item(),
        "rewards/rejected": rejected.mean().item(),
        "rewards/margins": (chosen - rejected).mean().item(),
    }
    if counted["n"]:
        metrics["rewards/accuracies"] = counted["successes"] / counted["n"]
        metrics[LOGGED_OF["rewards/accuracies"]] = counted["n"]
    return metrics


def accuracy_counts(chosen: torch.Tensor, rejected: torch.Tensor) -> dict[str, int]:
    """Of rewards (E,) and (E,): pairs that are ranked right, all but the ties, and the ties."""
    margins = chosen - rejected
    ties = int((margins == 0).sum())
    return {"successes": int((margins > 0).sum()), "n": len(margins) - ties, "ties": ties}


def share_counts(right: torch.Tensor) -> dict[str, int]:
    """How many of (E,) are true, and how many there are."""
    return {"successes": int(right.sum()), "n": len(right)}
