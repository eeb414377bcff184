"""What DPO and the reward model share: responses that are compared, and the metrics of rewards."""

from __future__ import annotations

import torch

from dpo_lite.data.prepare import PreparedData
from dpo_lite.errors import UserError
from dpo_lite.objectives.losses import LOSSES
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


def ends_of(group_sizes: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Places of the first and the last response of every example, (E,) each, among all R."""
    sizes = torch.tensor(group_sizes)
    ends = sizes.cumsum(0)
    return ends - sizes, ends - 1


def reward_metrics(chosen: torch.Tensor, rejected: torch.Tensor) -> dict[str, float]:
    """TRL's names for rewards (E,) and (E,); ties are left out of the accuracy."""
    margins = chosen - rejected
    decided = margins != 0
    metrics = {
        "rewards/chosen": chosen.mean().item(),
        "rewards/rejected": rejected.mean().item(),
        "rewards/margins": margins.mean().item(),
    }
    if decided.any():
        metrics["rewards/accuracies"] = (margins[decided] > 0).float().mean().item()
    return metrics
