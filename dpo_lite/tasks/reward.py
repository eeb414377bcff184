"""The reward model: the pairs and losses of DPO, the score a scalar head's (Bradley-Terry)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpo_lite.advice import reward as advice
from dpo_lite.advice.rules import Advice, Curves
from dpo_lite.objectives.losses import LOSSES
from dpo_lite.rates import margin_text
from dpo_lite.tasks import panels
from dpo_lite.tasks.panels import IN_SMALL
from dpo_lite.tasks.reward_card import RewardCard
from dpo_lite.tasks.spec import (
    Recipe,
    Row,
    Task,
    accuracy_row,
    refuse_losses,
    smoothable,
)


class Reward(Task):
    name = "reward"
    description = "a reward model"
    method = "dpo_lite.training.reward_model:RewardModel"
    head = True
    kept_by = ("loss", "accuracy", "margin")
    panels = (
        panels.LOSS,
        panels.all_rewards("rewards"),
        panels.MARGIN,
        panels.ACCURACY,
        panels.REWARDS,
        panels.LEARNING_RATE,
        panels.MEMORY,
    )
    in_small = IN_SMALL
    columns = ("reward model",)
    pictures: Mapping[str, str] = {"calibration.png": "dpo_lite.report.reward:draw_calibration"}
    rules = advice.RULES
    card = RewardCard()
    no_answers = ("No answers", "A reward model judges answers and gives none.")

    def settle(self, recipe: Recipe) -> None:
        train = recipe.train
        losses = [name for name, loss in LOSSES.items() if loss.reward_model]
        refuse_losses(self, recipe, losses, ("sft_weight",))
        if train.label_smoothing and LOSSES[train.loss].smoothing == "none":
            raise ValueError(f"train.label_smoothing goes with train.loss: {smoothable(losses)}")
        if train.centering is None:
            train.centering = 0.01
        if recipe.eval.sample_steps or recipe.eval.prompts or recipe.eval.suite:
            raise ValueError(
                "task: reward answers nothing; leave eval.prompts, sample_steps and suite away"
            )

    def objective(self, recipe: Recipe) -> str:
        train = recipe.train
        return f"reward model, {LOSSES[train.loss].ranking}, centering {train.centering:g}"

    def facts(self, recipe: Mapping[str, Any]) -> list[str]:
        return [f"reward model, centering {recipe['train']['centering'] or 0:g}"]

    def result_rows(self, metrics: Mapping[str, Any]) -> list[Row]:
        error = metrics["calibration"]["error"]
        return [
            accuracy_row("accuracy", metrics, 1),
            ("calibration error", "–" if error is None else f"{error:.3f}"),
            ("reward margin", margin_text(metrics["rewards/margins"])),
            ("loss", f"{metrics['loss']:.4f}"),
        ]

    def remarks(self, results: Mapping[str, Any]) -> list[str]:
        mean = results.get("mean_reward")
        if not mean:
            return []
        return [
            f"The mean reward of {mean['responses']:,} responses of the training data is "
            f"{mean['mean']:+.4f}; it is kept in reward.json and subtracted from what is shown."
        ]

    def well(self, curves: Curves) -> Advice:
        return advice.well(curves)

    def next_steps(self, run: str) -> list[tuple[str, str]]:
        return [
            (f"dpo-lite score {run} DATA", "the reward of any responses"),
            (f'dpo-lite best-of {run} --prompt "..."', "answers of the base, ranked"),
        ]
