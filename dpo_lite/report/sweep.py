"""What came of a sweep: one table and one picture, from the run folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lite.files import read_json, write_text
from dpo_lite.recipe import load_recipe
from dpo_lite.report.pictures import panels
from dpo_lite.report.words import clock
from dpo_lite.runs.folder import Run

# What is measured on a held-out set: name, and how a cell shows it.
MEASURES = {
    "accuracy": "{:.0%}",
    "margin": "{:.2f}",
    "generated": "{:.0%}",
    "truthful": "{:.0%}",
    "reward": "{:+.2f}",
    "KL": "{:.2f}",
    "drift": "{:+.1f}",
    "loss": "{:.3f}",
}


@dataclass(frozen=True)
class SweepRow:
    """One run: ``sets`` has the measures by held-out set, empty where it is not finished."""

    run: str
    values: dict[str, str]
    state: str
    error: str | None
    sets: dict[str, dict[str, float | None]]
    kl: float | None  # sampled while training, where eval.sample_steps asks for it
    seconds: float | None

    def mean(self, measure: str) -> float | None:
        """Over the held-out sets that have it."""
        values = [m[measure] for m in self.sets.values() if m.get(measure) is not None]
        return sum(values) / len(values) if values else None


def read_sweep(path: Path, names: Sequence[str] | None = None) -> list[SweepRow]:
    """The runs of a sweep's folder, or those of them that are named, in their order."""
    runs = (read_json(path / "sweep.json") or {"runs": {}})["runs"]
    return [
        _row(Run(path.parent / name), values)
        for name, values in runs.items()
        if names is None or name in names
    ]


def _row(run: Run, values: dict[str, str]) -> SweepRow:
    if not run.recipe_file.is_file():
        return SweepRow(run.name, values, "to train", None, {}, None, None)
    status, results = run.status(), read_json(run.path / "results.json") or {"sets": {}}
    recipe = load_recipe(run.recipe_file)
    sets = {name: _measures(scores, recipe.train.beta) for name, scores in results["sets"].items()}
    # Of answers sampled beside the updates; one that belongs to an update is of its own rollout.
    sampled = [r["kl"] for r in run.records("metrics.jsonl") if "kl" in r and "loss" not in r]
    return SweepRow(
        run.name,
        values,
        status["state"],
        status.get("error"),
        sets,
        sampled[-1] if sampled else None,
        results.get("seconds"),
    )


def _measures(scores: dict[str, Any], beta: float) -> dict[str, float | None]:
    """``drift``: nats that the chosen answers gained or lost, which beta does not scale.

    ``truthful``, ``reward`` and ``KL`` are of PPO's drawn answers, the KL in nats per answer.
    """
    chosen = scores.get("rewards/chosen")
    drawn = (scores.get("drawn") or {}).get("policy", {})
    return {
        "accuracy": scores.get("rewards/accuracies"),
        "margin": scores.get("rewards/margins"),
        "generated": (scores.get("generation") or {}).get("policy"),
        "truthful": drawn.get("truthful"),
        "reward": drawn.get("reward"),
        "KL": drawn.get("kl"),
        "drift": None if chosen is None else chosen / beta,
        "loss": scores.get("loss"),
    }


def best(rows: Sequence[SweepRow]) -> SweepRow | None:
    """The run with most chosen claims generated, else the most accurate, of PPO without markers the
    most rewarded; of equals the one nearest to the reference."""
    for measure in ("generated", "accuracy", "reward"):
        known = [row for row in rows if row.mean(measure) is not None]
        if known:
            return max(known, key=lambda row: (row.mean(measure), -_distance(row)))
    return None


def _distance(row: SweepRow) -> float:
    return abs(row.mean("KL") or row.mean("drift") or 0.0)


def cells(rows: Sequence[SweepRow]) -> tuple[list[str], list[list[str]]]:
    """Head and body of the table: a line per run and held-out set."""
    sets = [measures for row in rows for measures in row.sets.values()]
    shown = [m for m in MEASURES if any(measures.get(m) is not None for measures in sets)]
    has_kl = any(row.kl is not None for row in rows)
    keys = list(rows[0].values)
    leaves = [key.rpartition(".")[2] for key in keys]
    names = leaves if len(set(leaves)) == len(leaves) else keys
    head = [*names, "held-out set", *shown, *(["KL"] if has_kl else []), "time"]
    body = []
    for row in rows:
        values = [row.values.get(key, "–") for key in keys]
        last = [] if not has_kl else ["–" if row.kl is None else f"{row.kl:.2f}"]
        last.append("–" if row.seconds is None else clock(row.seconds))
        if not row.sets:
            state = row.state + (f": {row.error}" if row.error else "")
            body.append([*values, state, *["–"] * len(shown), *last])
        for place, (name, measures) in enumerate(row.sets.items()):
            numbers = [_cell(measures.get(m), MEASURES[m]) for m in shown]
            first = place == 0
            body.append(
                [*(values if first else [""] * len(values)), name, *numbers]
                + (last if first else [""] * len(last))
            )
    return head, body


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def write_sweep(path: Path, names: Sequence[str] | None = None) -> list[SweepRow]:
    """Write table.md and sweep.png into the sweep's folder; returns the rows."""
    rows = read_sweep(path, names)
    head, body = cells(rows)
    lines = [head, ["---"] * len(head), *body]
    text = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
    write_text(path / "table.md", f"# {path.stem}\n\n{text}\n\n![measures](sweep.png)\n")
    if any(row.sets for row in rows):
        draw_measures(rows, path / "sweep.png", path.stem)
    return rows


def draw_measures(rows: Sequence[SweepRow], file: Path, title: str) -> None:
    """A heat map per measure and set for two keys, else each measure by the runs' values."""
    sets = list(dict.fromkeys(name for row in rows for name in row.sets))
    measures = [m for m in MEASURES if any(row.mean(m) is not None for row in rows)]
    two = len(rows[0].values) == 2
    height = len(sets) if two else 1
    with panels(file, height, len(measures), (3.4, 3.2)) as (figure, axes):
        for column, measure in enumerate(measures):
            if two:
                for line, name in enumerate(sets):
                    _heat(axes[line][column], rows, name, measure)
                    axes[line][column].set_title(f"{measure}, {name}", fontsize=10)
            else:
                _lines(axes[0][column], rows, sets, measure)
                axes[0][column].set_title(measure, fontsize=10)
        figure.suptitle(title, fontsize=11)


def _lines(axis, rows: Sequence[SweepRow], sets: list[str], measure: str) -> None:
    labels = [" ".join(row.values.values()) for row in rows]
    for name in sets:
        points = [
            (place, row.sets[name][measure])
            for place, row in enumerate(rows)
            if row.sets.get(name, {}).get(measure) is not None
        ]
        if points:
            axis.plot(*zip(*points, strict=True), marker="o", label=name, linewidth=1.6)
    axis.set_xticks(range(len(rows)), labels, fontsize=8, rotation=0 if len(rows) < 7 else 60)
    axis.set_xlabel(", ".join(rows[0].values), fontsize=9)
    if MEASURES[measure].endswith("%}"):
        axis.set_ylim(0, 1.05)
    axis.grid(alpha=0.25, axis="y")
    if len(sets) > 1:
        axis.legend(frameon=False, fontsize=8)


def _heat(axis, rows: Sequence[SweepRow], name: str, measure: str) -> None:
    import numpy as np

    down, across = rows[0].values
    ys = list(dict.fromkeys(row.values[down] for row in rows))
    xs = list(dict.fromkeys(row.values[across] for row in rows))
    grid = np.full((len(ys), len(xs)), np.nan)
    for row in rows:
        value = row.sets.get(name, {}).get(measure)
        if value is not None:
            grid[ys.index(row.values[down]), xs.index(row.values[across])] = value
    shares = MEASURES[measure].endswith("%}")
    axis.imshow(grid, aspect="auto", **({"vmin": 0, "vmax": 1} if shares else {}))
    for y, x in np.argwhere(~np.isnan(grid)):
        text = MEASURES[measure].format(grid[y, x])
        box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.5}
        axis.text(x, y, text, ha="center", va="center", fontsize=8, bbox=box)
    axis.set_xticks(range(len(xs)), xs, fontsize=8)
    axis.set_yticks(range(len(ys)), ys, fontsize=8)
    axis.set_xlabel(across, fontsize=9)
    axis.set_ylabel(down, fontsize=9)
