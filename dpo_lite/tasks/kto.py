"""KTO: a policy learns from answers that are good or bad by themselves (arXiv:2402.01306)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpo_lite.advice import kto as advice
from dpo_lite.advice.rules import Advice, Curves
from dpo_lite.rates import margin_text
from dpo_lite.tasks import panels
from dpo_lite.tasks.card import Card, Facts
from dpo_lite.tasks.panels import IN_SMALL
from dpo_lite.tasks.spec import (
    UNPAIRED,
    Recipe,
    Row,
    Task,
    accuracy_row,
    generated_row,
    refuse_losses,
)

# lambda_D n_D / (lambda_U n_U): what good answers weigh in all, for what bad ones do (Section 4).
LEAST, MOST = 1.0, 4 / 3


class KTOCard(Card):
    tags = ("kto", "preference")

    def how(self, recipe: Recipe) -> str:
        return "on single answers, good or bad, by Kahneman-Tversky Optimization"

    def objective_rows(self, facts: Facts) -> list[tuple[str, str]]:
        train = facts.recipe.train
        return [
            (
                "objective",
                "`kto`: λ − λ·σ(r − β·z₀) of a good answer, λ − λ·σ(β·z₀ − r) of a bad one "
                "(KTO, arXiv:2402.01306, Eq. 8)",
            ),
            ("implicit reward", f"r = β · log(π / π_ref), β = {train.beta:g}"),
            (
                "reference point z₀",
                "mean log(π / π_ref) of an update's prompts with answers to others, at least 0",
            ),
            ("weights λ", f"{weights_text(train)} (good and bad)"),
            ("reference π_ref", facts.manifest.get("reference", facts.recipe.reference)),
        ]


class KTO(Task):
    name = "kto"
    description = "a preference policy from single answers, good or bad"
    method = "dpo_lite.training.kto:KTO"
    pairs = (UNPAIRED,)
    weighs_labels = True
    sampled_kl = "kl/sampled"  # kl is the reference point, as in TRL
    panels = (
        panels.LOSS,
        panels.all_rewards("implicit rewards"),
        panels.MARGIN,
        panels.RIGHT_SIDE,
        panels.REWARDS,
        panels.LOGPS,
        panels.REFERENCE_POINT,
        panels.LEARNING_RATE,
        panels.MEMORY,
    )
    in_small = (*IN_SMALL, "kl")
    rules = advice.RULES
    card = KTOCard()

    def settle(self, recipe: Recipe) -> None:
        refuse_losses(self, recipe, ("sigmoid",), ("sft_weight", "label_smoothing"))
        train = recipe.train
        train.desirable_weight = train.desirable_weight or "auto"
        train.undesirable_weight = train.undesirable_weight or "auto"

    def weigh(self, recipe: Recipe, labels: Mapping[str, int]) -> None:
        train = recipe.train
        train.desirable_weight, train.undesirable_weight = balanced(
            train.desirable_weight, train.undesirable_weight, labels["good"], labels["bad"]
        )

    def objective(self, recipe: Recipe) -> str:
        train = recipe.train
        return f"kto, beta {train.beta:g}, good and bad answers weigh {weights_text(train)}"

    def result_rows(self, metrics: Mapping[str, Any]) -> list[Row]:
        margin = metrics.get("rewards/margins")
        return [
            *generated_row(metrics),
            accuracy_row("answers on their side of z0", metrics, 0, None),
            ("reward, good less bad", "0", "–" if margin is None else margin_text(margin)),
            ("loss", "", f"{metrics['loss']:.4f}"),
        ]

    def well(self, curves: Curves) -> Advice:
        return advice.well(curves)


def balanced(
    desirable: float | str, undesirable: float | str, good: int, bad: int
) -> tuple[float, float]:
    """The weights lambda_D and lambda_U, with numbers where they are `auto`.

    The authors advise lambda_D n_D / (lambda_U n_U) between 1 and 4/3. Where both are 1 and it lies
    outside, the rarer kind's weight is raised to the nearer end; of two weights one of which is
    given, the other is set so. Of answers of one kind alone nothing is balanced.
    """
    weights = [1.0 if isinstance(w, str) else w for w in (desirable, undesirable)]
    if not (good and bad) or "auto" not in (desirable, undesirable):
        return weights[0], weights[1]
    ratio = weights[0] * good / (weights[1] * bad)
    factor = min(max(ratio, LEAST), MOST) / ratio  # by which lambda_D / lambda_U is to change
    free_good, free_bad = desirable == "auto", undesirable == "auto"
    if free_good and (factor >= 1 or not free_bad):
        weights[0] *= factor
    else:
        weights[1] /= factor
    return weights[0], weights[1]


def weights_text(train: Any) -> str:
    """Both weights in words, `auto` before the data are known."""
    weights = (train.desirable_weight, train.undesirable_weight)
    return " and ".join(w if isinstance(w, str) else f"{w:.3g}" for w in weights)
