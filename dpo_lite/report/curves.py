"""curves.png: what training measured over the updates, and the held-out shares it led to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpo_lite.rates import Rate, logged_rate, of_how_many, rate_at
from dpo_lite.recipe import load_recipe
from dpo_lite.report.kept import kept_step
from dpo_lite.report.pictures import panels
from dpo_lite.runs.folder import Run
from dpo_lite.runs.lines import METRICS, updates
from dpo_lite.tasks import TASKS
from dpo_lite.tasks.panels import Panel, unfolded


def draw_curves(run: Run, file: Path | None = None) -> None:
    """Draw a run's panels and, where it answers something, the shares of what it then says."""
    task = TASKS[load_recipe(run.recipe_file).task]
    records, results = updates(run.followed(METRICS).records), run.results()
    logged = dict.fromkeys(key for record in records for key in record)
    shown = [panel for panel in unfolded(task.panels, logged) if panel.in_picture]
    count = len(shown) + task.answers
    file = file or run.path / "curves.png"
    with panels(file, 2, -(-count // 2), (4.4, 3.2)) as (figure, axes):
        for axis, panel in zip(axes.flat, shown, strict=False):
            _draw_panel(axis, panel, records, task.unit)
            if kept := kept_step(results):
                axis.axvline(kept, color="0.6", linewidth=0.9, linestyle=":")
        if task.answers:
            _draw_shares(axes.flat[len(shown)], _shares(results["sets"]))
        for axis in axes.flat[count:]:
            axis.remove()
        for axis in figure.axes:
            axis.grid(alpha=0.25, axis="y")
        figure.suptitle(run.name, fontsize=11)


def _draw_panel(axis, panel: Panel, records: Sequence[Mapping[str, Any]], unit: str) -> None:
    for key in panel.keys:
        points = [(r["step"], r[key]) for r in records if key in r]
        if points:
            axis.plot(*zip(*points, strict=True), label=key.rpartition("/")[2], linewidth=1.6)
    axis.set_title(f"{panel.title} by {unit}", fontsize=10)
    if panel.top is not None:
        axis.set_ylim(0, 1.05 * panel.top)
    if panel.note and (note := panel.note(records, unit)):
        axis.text(0.5, 0.03, note, transform=axis.transAxes, ha="center", fontsize=7, color="0.35")
    if len(panel.keys) > 1 and axis.get_legend_handles_labels()[0]:
        axis.legend(frameon=False, fontsize=8)


# The colours of the roles' bars.
BARS = {"reference": "C0", "start": "C2", "policy": "C1"}
Shares = list[tuple[str, dict[str, Rate]]]


def _shares(sets: dict[str, Any]) -> Shares:
    """What is measured of reference and policy, in shares: label -> role -> rate."""
    bars = []
    for name, metrics in sets.items():
        drawn = metrics.get("drawn") or {}
        measured = {
            "generated": {role: rate_at(metrics, "generation", role) for role in BARS},
            "drawn": {role: logged_rate(drawn.get(role, {}), "truthful") for role in BARS},
            "likelihood": {role: rate_at(metrics, "likelihood", role) for role in BARS},
        }
        for how, by_role in measured.items():
            rates = {role: rate for role, rate in by_role.items() if rate is not None}
            if "policy" in rates:
                count = of_how_many(rates.values())
                of = "" if count is None else f"\nof {count:,}"
                bars.append((f"{name}\n{how}{of}", rates))
    return bars


def _draw_shares(axis, bars: Shares) -> None:
    """Bars by role with their intervals: the generated share where the data have markers, and
    likelihood."""
    roles = [role for role in BARS if any(role in rates for _, rates in bars)]
    width = 0.8 / max(len(roles), 1)
    for place, role in enumerate(roles):
        offset = (place - (len(roles) - 1) / 2) * width
        rates = {i + offset: by[role] for i, (_, by) in enumerate(bars) if role in by}
        heights = [100 * rate.share for rate in rates.values()]
        ends = [rate.interval or (rate.share, rate.share) for rate in rates.values()]
        reach = [
            [max(height - 100 * low, 0) for height, (low, _) in zip(heights, ends, strict=True)],
            [max(100 * high - height, 0) for height, (_, high) in zip(heights, ends, strict=True)],
        ]
        axis.bar([*rates], heights, 0.95 * width, label=role, color=BARS[role])
        axis.errorbar([*rates], heights, yerr=reach, fmt="none", ecolor="0.3", elinewidth=0.9)
        for x, height, (_, high) in zip(rates, heights, ends, strict=True):
            axis.text(x, 100 * high + 2, f"{height:.0f}", ha="center", fontsize=8)
    axis.set_xticks(range(len(bars)), [name for name, _ in bars], fontsize=8)
    axis.set_ylim(0, 125)
    axis.set_title("held out: chosen claim, per cent", fontsize=10)
    if bars:
        axis.legend(frameon=False, fontsize=8, loc="upper left", ncols=max(len(roles), 1))
