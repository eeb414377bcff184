"""What the curves of a reward model mean, whose rewards are a head's own numbers, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpo_lite.advice import preference
from dpo_lite.advice.preference import LN2
from dpo_lite.advice.rules import Advice, Curves, Rule
from dpo_lite.rates import Rate

WORTH_A_WORD = 0.1  # calibration error
FEWEST = 50  # pairs that say something


def calibration_words(name: str, calibration: Mapping[str, Any]) -> str | None:
    """A sentence where it is surer on a held-out set than it is right, or less sure."""
    pairs, error = calibration["pairs"], calibration["error"]
    if pairs < FEWEST or error < WORTH_A_WORD:
        return None
    sure = sum(row["count"] * row["confidence"] for row in calibration["bins"]) / pairs
    right = sum(row["count"] * row["right"] for row in calibration["bins"]) / pairs
    if sure > right:
        how = "surer than it is right"
        what = "fewer train.epochs, a lower train.lr or train.label_smoothing make it more careful"
    else:
        how = "less sure than it is right"
        what = "its ranking holds, but margins are small: train longer or with a higher train.lr"
    ranked = Rate(right, pairs).words()
    return (
        f"It is {how}: on {name} it ranks {ranked} of the pairs as the data do and says {sure:.0%} "
        f"on average (calibration error {error:.2f}). {what[0].upper()}{what[1:]}."
    )


def worse_than_nothing(curves: Curves) -> Advice | None:
    # A margin that the data ask for is part of the loss from the start.
    untrained = max(LN2, curves.steps[0]["loss"])
    return preference.above_untrained(curves, untrained, "reward model")


def stuck_at_ln2(curves: Curves) -> Advice | None:
    return preference.stuck_at_ln2(curves, "the head hardly tells the answers apart")


def exploded(curves: Curves) -> Advice | None:
    return preference.learned_by_heart(
        curves,
        "make it surer of itself. Fewer train.epochs or a lower "
        f"train.lr (now {curves.train('lr'):g}) keep it calibrated",
    )


def uncalibrated(curves: Curves) -> Advice | None:
    judged = {n: s["calibration"] for n, s in curves.sets.items() if "calibration" in s}
    sentences = (calibration_words(*item) for item in judged.items())
    return next((Advice("warn", text) for text in sentences if text), None)


def well(curves: Curves) -> Advice:
    return preference.well(curves, "Now rank answers with `dpo-lite best-of`.")


RULES: list[Rule] = [
    preference.not_finite,
    worse_than_nothing,
    preference.prefers_rejected,
    stuck_at_ln2,
    preference.coin_flip,
    exploded,
    preference.over_fitting,
    uncalibrated,
]
