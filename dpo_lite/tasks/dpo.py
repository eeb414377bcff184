"""DPO: a policy learns from preferences, its own implicit reward the score (arXiv:2305.18290)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpo_lite.advice import preference
from dpo_lite.advice.rules import Advice, Curves
from dpo_lite.objectives.losses import LOSSES
from dpo_lite.rates import margin_text
from dpo_lite.tasks import panels
from dpo_lite.tasks.card import Card
from dpo_lite.tasks.panels import IN_SMALL
from dpo_lite.tasks.spec import (
    OF_PAIRS,
    Recipe,
    Row,
    Task,
    accuracy_row,
    by_role,
    generated_row,
    rate_row,
    smoothable,
)


class DPOCard(Card):
    tags = ("dpo", "preference")


class DPO(Task):
    name = "dpo"
    description = "a preference policy"
    method = "dpo_lite.training.dpo:DPO"
    engines = ("dpo_lite", "trl")
    kept_by = ("loss", "accuracy", "margin")
    panels = (
        panels.LOSS,
        panels.all_rewards("implicit rewards"),
        panels.MARGIN,
        panels.ACCURACY,
        panels.REWARDS,
        panels.LOGPS,
        panels.KL,
        panels.LEARNING_RATE,
        panels.MEMORY,
    )
    in_small = IN_SMALL
    rules = preference.RULES
    card = DPOCard()

    def settle(self, recipe: Recipe) -> None:
        train, loss = recipe.train, LOSSES[recipe.train.loss]
        if train.engine == "trl" and not loss.trl:
            raise ValueError(f"train.engine: trl has no {loss.name} loss; use dpo_lite")
        if train.engine == "trl" and train.sft_weight:
            raise ValueError("train.engine: trl averages its SFT term otherwise; use dpo_lite")
        for key in OF_PAIRS:
            if getattr(train, key) is not None and (loss.listwise or loss.reference_free):
                raise ValueError(
                    f"train.{key} is for pairs that are held to a reference, and train.loss:"
                    f" {loss.name} is not; leave it away"
                )
        if train.dynamic_beta is not None and train.engine == "trl":
            raise ValueError("train.engine: trl has no train.dynamic_beta; use dpo_lite")
        if loss.smoothing == "required" and not train.label_smoothing:
            raise ValueError(
                f"train.loss: {loss.name} needs train.label_smoothing, the share of labels that are"
                " the wrong way round, such as 0.1"
            )
        if train.label_smoothing and loss.smoothing == "none":
            raise ValueError(f"train.label_smoothing goes with train.loss: {smoothable()}")
        if train.label_smoothing and train.engine == "trl" and not loss.trl_smooths:
            raise ValueError(
                f"train.engine: trl does not smooth the labels of its {loss.name} loss; use"
                " dpo_lite"
            )

    def result_rows(self, metrics: Mapping[str, Any]) -> list[Row]:
        return [
            *generated_row(metrics),
            rate_row("chosen likelier than rejected", by_role(metrics, "likelihood")),
            accuracy_row("reward accuracy", metrics, 0, None),
            ("reward margin", "0", margin_text(metrics["rewards/margins"])),
            ("loss", "", f"{metrics['loss']:.4f}"),
        ]

    def well(self, curves: Curves) -> Advice:
        return preference.well(curves)
