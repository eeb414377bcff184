"""What came of an RLHF run: a table of all steps, and reward and truthfulness against KL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.table import Table

from dpo_lite.files import write_text
from dpo_lite.rates import Rate, explained, wilson
from dpo_lite.recipe import load_recipe
from dpo_lite.report.pictures import panels
from dpo_lite.report.words import clock
from dpo_lite.runs.folder import Run
from dpo_lite.runs.results import by_name, is_number

POINTS = "points.jsonl"
PICTURE = "frontier.png"
NAMES = {"sft": "SFT", "reward": "reward model", "ppo": "PPO", "dpo": "DPO"}
COLOURS = {"ppo": "#c2571a", "dpo": "#1f5fa8"}
MEASURES = ("truthful", "reward", "kl", "accuracy")


@dataclass(frozen=True)
class Point:
    """Steps of one kind and beta over all seeds: of each measure the mean and, with several seeds,
    the standard deviation."""

    kind: str
    beta: float | None
    seeds: int
    sets: dict[str, dict[str, tuple[float, float | None]]]  # by held-out set and measure
    counts: dict[str, int]  # by held-out set: prompts or pairs, of each seed
    seconds: float
    memory: float

    @property
    def name(self) -> str:
        return NAMES[self.kind] + (f", β {self.beta:g}" if self.beta is not None else "")


def points_of(run: Run) -> list[dict[str, Any]]:
    """What was measured of each step; damaged lines are passed over."""
    return [point for point in run.records(POINTS) if _is_point(point)]


def _is_point(point: dict[str, Any]) -> bool:
    kind, sets = point.get("kind"), point.get("sets")
    if not isinstance(point.get("run"), str) or kind not in list(NAMES) or not by_name(sets):
        return False
    numbers = all(is_number(point.get(key)) for key in ("beta", "seconds", "memory"))
    drawn = all(measured.get("kl") is not None for measured in (sets or {}).values())
    return numbers and (kind == "reward" or drawn)


def read_points(run: Run) -> list[Point]:
    """The points of the steps, those that differ in the seed alone as one."""
    groups: dict[tuple[str, float | None], list[dict[str, Any]]] = defaultdict(list)
    for point in points_of(run):
        groups[point["kind"], point.get("beta")].append(point)
    order = list(NAMES)
    keys = sorted(groups, key=lambda key: (order.index(key[0]), key[1] or 0.0))
    return [_row(*key, groups[key]) for key in keys]


def _row(kind: str, beta: float | None, points: list[dict[str, Any]]) -> Point:
    sets: dict[str, dict[str, tuple[float, float | None]]] = {}
    for name in points[0]["sets"]:
        for measure in MEASURES:
            values = [v for p in points if (v := p["sets"].get(name, {}).get(measure)) is not None]
            if values:
                spread = stdev(values) if len(values) > 1 else None
                sets.setdefault(name, {})[measure] = (mean(values), spread)
    return Point(
        kind,
        beta,
        len(points),
        sets,
        {
            name: count
            for name, measured in points[0]["sets"].items()
            if (count := measured.get("prompts") or measured.get("pairs"))
        },
        mean(p.get("seconds") or 0.0 for p in points),
        mean(p.get("memory") or 0.0 for p in points),
    )


def cells(rows: Sequence[Point]) -> tuple[list[str], list[list[str]]]:
    """Head and body of the table, a line per step and held-out set.

    ``n``: of how many prompts or pairs its numbers are. A share of one seed has its interval; of
    several seeds what they differ by says more.
    """
    head = ["step", "set", "n", "truthful", "reward", "KL, nats", "time", "MiB"]
    body = []
    for row in rows:
        cost = [clock(row.seconds), f"{row.memory / 2**20:,.0f}"]
        for place, (name, measures) in enumerate(row.sets.items()):
            count = row.counts.get(name)
            numbers = [
                _share(measures.get("truthful"), count),
                _number(measures.get("reward"), "{:+.2f}"),
                _number(measures.get("kl"), "{:.2f}"),
            ]
            if "accuracy" in measures:
                numbers = [f"accuracy {_share(measures['accuracy'], count)}", "", ""]
            first = place == 0
            of = "–" if count is None else f"{count:,}"
            line = [row.name if first else "", name, of, *numbers]
            body.append([*line, *(cost if first else ["", ""])])
    return head, body


def _share(measured: tuple[float, float | None] | None, count: int | None) -> str:
    if measured is None or measured[1] is not None:
        return _number(measured, "{:.0%}", 100)
    return Rate(measured[0], count).cell()


def _number(measured: tuple[float, float | None] | None, form: str, scale: float = 1.0) -> str:
    """A mean with its spread over the seeds, in the unit of ``form`` times ``scale``."""
    if measured is None:
        return "–"
    value, spread = measured
    digits = "{:.0f}" if scale != 1 else "{:.2f}"
    value = round(value, 2) + 0.0  # no minus before a zero
    return form.format(value) + ("" if spread is None else f" ± {digits.format(spread * scale)}")


def table(rows: Sequence[Point]) -> str:
    """The table as Markdown."""
    head, body = cells(rows)
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def write_rlhf_report(run: Run) -> None:
    """report.md and the picture, from the points."""
    rows = read_points(run)
    draw_frontier(rows, run.path / PICTURE)
    recipe = load_recipe(run.recipe_file)
    seeds, whole = len(recipe.rlhf.seeds), table(rows)
    text = (
        f"# {run.name}\n\n{recipe.objective} over `{recipe.model.base}`. Every policy is held to "
        "the SFT adapter; reward (of the reward model, centred), KL and truthfulness are of drawn "
        f"answers to held-out prompts. Mean {'and deviation ' if seeds > 1 else ''}over {seeds} "
        f"seed{'s' * (seeds > 1)}; n: {recipe.rlhf.answers} answers to each of so many prompts, of "
        "the reward model pairs, ties left out; time and peak of memory of each step's own "
        f"process. {explained([whole])}".rstrip()
        + f"\n\n{whole}\n![frontier]({PICTURE})\n"
    )
    write_text(run.path / "report.md", text)


def terminal_table(run: Run) -> Table:
    head, body = cells(read_points(run))
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, column in enumerate(head):
        shown.add_column(column, justify="left" if place < 2 else "right", no_wrap=True)
    for line in body:
        shown.add_row(*line)
    return shown


def draw_frontier(rows: Sequence[Point], file: Path) -> None:
    """For each held-out set: truthfulness and reward against the KL, a line per method."""
    sets = [name for row in rows if row.kind == "sft" for name in row.sets]
    labels = {"truthful": "truthful, per cent of drawn answers", "reward": "reward"}
    with panels(file, len(labels), max(len(sets), 1), (5.4, 3.8), dpi=120) as (_, axes):
        for column, name in enumerate(sets):
            for line, (measure, label) in enumerate(labels.items()):
                _draw_panel(axes[line][column], rows, name, measure)
                axes[line][column].set_ylabel(label)
            axes[0][column].set_title(f"held out: {name}", fontsize=11)


def _reach(row: Point, name: str, measure: str, scale: float) -> tuple[float, float]:
    """How far down and up a bar goes: the spread over the seeds, of one seed a share's interval."""
    value, spread = row.sets[name][measure]
    count = row.counts.get(name)
    if spread is not None or measure != "truthful" or count is None:
        return scale * (spread or 0.0), scale * (spread or 0.0)
    low, high = wilson(value, count)
    return scale * (value - low), scale * (high - value)


def _draw_panel(axis, rows: Sequence[Point], name: str, measure: str) -> None:
    scale = 100 if measure == "truthful" else 1
    start = next((row for row in rows if row.kind == "sft" and measure in row.sets[name]), None)
    for kind, colour in COLOURS.items():
        points = sorted(
            (row for row in rows if row.kind == kind and measure in row.sets.get(name, {})),
            key=lambda row: row.sets[name]["kl"][0],
        )
        if not points:
            continue
        sets = [row.sets[name] for row in points]
        xs, ys = [s["kl"][0] for s in sets], [scale * s[measure][0] for s in sets]
        first = ([0.0], [scale * start.sets[name][measure][0]]) if start else ([], [])
        axis.plot(first[0] + xs, first[1] + ys, color=colour, linewidth=1.2, alpha=0.5)
        axis.errorbar(
            xs,
            ys,
            xerr=[s["kl"][1] or 0.0 for s in sets],
            yerr=[*zip(*(_reach(row, name, measure, scale) for row in points), strict=True)],
            fmt="o",
            color=colour,
            capsize=2,
            label=NAMES[kind],
        )
        for row, x, y in zip(points, xs, ys, strict=True):
            axis.annotate(
                f"{row.beta:g}",
                (x, y),
                textcoords="offset points",
                xytext=(6, -11),
                fontsize=8,
                color=colour,
            )
    if start:
        axis.plot(0, scale * start.sets[name][measure][0], "s", color="#444444", label="SFT")
    axis.set_xlabel("KL to the SFT policy, nats per answer (numbers: β)")
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=9, loc="lower right")
