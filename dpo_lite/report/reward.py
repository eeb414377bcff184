"""calibration.png: whether a reward model is right as often as it is sure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpo_lite.report.pictures import panels

MOST_PANELS = 4


def draw_calibration(sets: Mapping[str, Mapping[str, Any]], file: Path) -> None:
    """How often the model was right by how sure it was, a panel per held-out set.

    A bar on the diagonal is as good as its word; one below it was too sure of itself.
    """
    shown = dict(list(sets.items())[:MOST_PANELS])
    with panels(file, 1, max(len(shown), 1), (5.6, 4.8)) as (_, axes):
        for axis, (name, metrics) in zip(axes.flat, shown.items(), strict=False):
            _draw_set(axis, name, metrics["calibration"])


def _draw_set(axis, name: str, calibration: Mapping[str, Any]) -> None:
    bins = calibration["bins"]
    middles = [(row["low"] + row["high"]) / 2 for row in bins]
    width = bins[0]["high"] - bins[0]["low"] if bins else 0.05
    drawn = axis.bar(
        middles, [row["right"] for row in bins], 0.9 * width, color="#9ecae1", label="was right"
    )
    axis.bar_label(drawn, [f"{row['count']:,}" for row in bins], fontsize=8, padding=2)
    axis.plot(
        [row["confidence"] for row in bins],
        [row["right"] for row in bins],
        "o",
        color="#08519c",
        markersize=4,
        label="at its mean confidence",
    )
    axis.plot([0.5, 1], [0.5, 1], "--", color="#555555", linewidth=1, label="as sure as right")
    axis.set_xlim(0.5, 1.0)
    axis.set_ylim(0, 1.18)
    axis.set_xticks([0.5 + 0.1 * i for i in range(6)])
    axis.set_yticks([0.2 * i for i in range(6)])
    axis.set_xlabel("how sure: σ(|r_chosen − r_rejected|)")
    axis.set_ylabel("share of pairs ranked as the data")
    error = calibration["error"]
    error_text = "no pairs" if error is None else f"calibration error {error:.3f}"
    axis.set_title(
        f"{name}: {error_text}, {calibration['pairs']:,} pairs (counts on bars)", fontsize=10
    )
    if bins:
        axis.legend(frameon=False, fontsize=8, loc="upper left", ncols=3)
