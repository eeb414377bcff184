"""The strength dial as a table and a picture: reward against KL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dpo_lite.report.pictures import panels

HEAD = ("strength", "implicit reward", "KL, nats per answer", "tokens")


def dial_rows(points: Sequence[Mapping[str, float]]) -> list[tuple[str, ...]]:
    """Cells under HEAD, with standard errors."""
    return [
        (
            f"{p['strength']:g}",
            f"{p['reward']:+.3f} ± {p['reward_error']:.3f}",
            f"{p['kl']:.2f} ± {p['kl_error']:.2f}",
            f"{p['tokens']:.1f}",
        )
        for p in points
    ]


def draw_dial(points: Sequence[Mapping[str, float]], name: str, file: Path) -> None:
    with panels(file, 1, 1, (5.2, 4.0)) as (_, axes):
        axis = axes.flat[0]
        kl, reward = ([p[key] for p in points] for key in ("kl", "reward"))
        up, across = ([p[f"{key}_error"] for p in points] for key in ("reward", "kl"))
        axis.errorbar(kl, reward, yerr=up, xerr=across, fmt="-o", markersize=4, elinewidth=0.8)
        for p in points:
            where = (p["kl"], p["reward"])
            axis.annotate(
                f"{p['strength']:g}", where, (4, -11), textcoords="offset points", fontsize=8
            )
        axis.grid(alpha=0.25)
        axis.set_xlabel("KL to the reference, nats per answer")
        axis.set_ylabel("implicit reward of drawn answers")
        axis.set_title(f"{name}: strength 0 is the reference, 1 the policy", fontsize=10)
