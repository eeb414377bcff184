"""What to make of a reward model's calibration, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    return (
        f"It is {how}: on {name} it ranks {right:.0%} of the pairs as the data do and says "
        f"{sure:.0%} on average (calibration error {error:.2f}). {what[0].upper()}{what[1:]}."
    )
