"""SFT: demonstrations are imitated, the step before preferences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dpo_lite.advice.rules import Advice, Curves
from dpo_lite.tasks import panels
from dpo_lite.tasks.card import Card, Facts
from dpo_lite.tasks.spec import DEMONSTRATIONS, Recipe, Row, Task, generated_row, refuse_losses


class SFTCard(Card):
    tags = ("sft",)

    def how(self, recipe: Recipe) -> str:
        return "on demonstrations by supervised fine-tuning"

    def objective_rows(self, facts: Facts) -> list[tuple[str, str]]:
        return [("objective", "supervised fine-tuning: −Σ log π(token) / tokens")]


class SFT(Task):
    name = "sft"
    description = "the likelihood of demonstrations, the step before it"
    method = "dpo_lite.training.sft:SFT"
    pairs = DEMONSTRATIONS
    panels = (panels.LOSS, panels.LIKELIHOOD, panels.KL, panels.LEARNING_RATE, panels.MEMORY)
    in_small = ("loss", "perplexity")
    card = SFTCard()

    def settle(self, recipe: Recipe) -> None:
        refuse_losses(self, recipe, ("sigmoid",), ("sft_weight", "label_smoothing"))

    def objective(self, recipe: Recipe) -> str:
        return "supervised fine-tuning, mean over response tokens"

    def facts(self, recipe: Mapping[str, Any]) -> list[str]:
        return ["supervised fine-tuning"]

    def result_rows(self, metrics: Mapping[str, Any]) -> list[Row]:
        losses = [metrics["reference_loss"], metrics["loss"]]
        return [
            *generated_row(metrics),
            ("loss per token", *(f"{loss:.4f}" for loss in losses)),
            ("perplexity", *(f"{math.exp(min(loss, 50)):,.1f}" for loss in losses)),
        ]

    def well(self, curves: Curves) -> Advice:
        start, end = curves.start("loss") or curves.loss, curves.loss
        kind = "good" if end < start else "warn"
        verdict = "" if end < start else ": nothing is learned; raise train.lr or look at the data"
        words = f"The loss went from {start:.2f} to {end:.2f} nats per token{verdict}."
        return Advice(kind, words)
