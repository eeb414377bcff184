"""What a reward model's run has to show: its rows in the tables, and calibration.png."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLUMNS = ("reward model",)
MOST_PANELS = 4


def reward_rows(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(measure, value) for one held-out set."""
    accuracy, calibration = metrics.get("rewards/accuracies"), metrics["calibration"]
    error = calibration["error"]
    return [
        ("accuracy", "–" if accuracy is None else f"{accuracy:.1%}"),
        ("calibration error", "–" if error is None else f"{error:.3f}"),
        ("reward margin", f"{metrics['rewards/margins']:.2f}"),
        ("loss", f"{metrics['loss']:.4f}"),
    ]


def mean_in_words(mean: Mapping[str, Any]) -> str:
    """What rewards are centred by."""
    return (
        f"The mean reward of {mean['responses']:,} responses of the training data is "
        f"{mean['mean']:+.4f}; it is kept in reward.json and subtracted from what is shown."
    )


def draw_calibration(sets: Mapping[str, Mapping[str, Any]], file: Path) -> None:
    """How often the model was right by how sure it was, a panel per held-out set.

    A bar on the diagonal is as good as its word; one below it was too sure of itself.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = dict(list(sets.items())[:MOST_PANELS])
    width = 5.6 * max(len(shown), 1)
    figure, axes = plt.subplots(
        1, max(len(shown), 1), figsize=(width, 4.8), squeeze=False, constrained_layout=True
    )
    for axis, (name, metrics) in zip(axes.flat, shown.items(), strict=False):
        _draw_set(axis, name, metrics["calibration"])
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=110)
    plt.close(figure)


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
    told = "no pairs" if error is None else f"calibration error {error:.3f}"
    axis.set_title(f"{name}: {told}, {calibration['pairs']:,} pairs (counts on bars)", fontsize=10)
    if bins:
        axis.legend(frameon=False, fontsize=8, loc="upper left", ncols=3)
