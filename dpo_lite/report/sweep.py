"""What came of a sweep: one table and one picture, from the run folders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from dpo_lite.files import write_text
from dpo_lite.rates import Rate, explained, margin_text
from dpo_lite.report.pictures import panels
from dpo_lite.report.sweep_best import verdict
from dpo_lite.report.sweep_rows import MEASURES, RATE, SweepRow, Value, number, read_sweep
from dpo_lite.report.words import clock


def cells(rows: Sequence[SweepRow]) -> tuple[list[str], list[list[str]]]:
    """Head and body of the table: a line per run and held-out set.

    ``n`` is of how many the rates of a line are, once where it is the same of all.
    """
    sets = [measures for row in rows for measures in row.sets.values()]
    shown = [m for m in MEASURES if any(measures.get(m) is not None for measures in sets)]
    has_kl = any(row.kl is not None for row in rows)
    keys = list(rows[0].values)
    leaves = [key.rpartition(".")[2] for key in keys]
    names = leaves if len(set(leaves)) == len(leaves) else keys
    counted = any(MEASURES[measure] == RATE for measure in shown)
    head = [*names, "held-out set", *(["n"] if counted else []), *shown]
    head += [*(["KL"] if has_kl else []), "time"]
    body = []
    for row in rows:
        values = [row.values.get(key, "–") for key in keys]
        last = [] if not has_kl else ["–" if row.kl is None else f"{row.kl:.2f}"]
        last.append("–" if row.seconds is None else clock(row.seconds))
        if not row.sets:
            state = row.state + (f": {row.error}" if row.error else "")
            body.append([*values, state, *["–"] * (len(shown) + counted), *last])
        for place, (name, measures) in enumerate(row.sets.items()):
            numbers = [_counts(measures.get(m) for m in shown)] if counted else []
            numbers += [_cell(measures.get(m), m) for m in shown]
            first = place == 0
            body.append(
                [*(values if first else [""] * len(values)), name, *numbers]
                + (last if first else [""] * len(last))
            )
    return head, body


def _cell(value: Value, measure: str) -> str:
    if isinstance(value, Rate):
        return value.cell()
    if value is None:
        return "–"
    return margin_text(value) if measure == "margin" else MEASURES[measure].format(value)


def _counts(values: Iterable[Value]) -> str:
    numbers = [value.n for value in values if isinstance(value, Rate) and value.n is not None]
    return ", ".join(f"{n:,}" for n in dict.fromkeys(numbers)) or "–"


def write_sweep(path: Path, names: Sequence[str] | None = None) -> list[SweepRow]:
    """Write table.md and sweep.png into the sweep's folder; returns the rows."""
    rows = read_sweep(path, names)
    head, body = cells(rows)
    lines = [head, ["---"] * len(head), *body]
    text = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
    words = filter(None, [explained([text]), verdict(rows)])
    below = "".join(f"{line[0].upper()}{line[1:].rstrip('.')}.\n\n" for line in words)
    write_text(path / "table.md", f"# {path.stem}\n\n{text}\n\n{below}![measures](sweep.png)\n")
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
            (place, value)
            for place, row in enumerate(rows)
            if (value := row.sets.get(name, {}).get(measure)) is not None
        ]
        if not points:
            continue
        places, values = zip(*points, strict=True)
        (line,) = axis.plot(places, [*map(number, values)], marker="o", label=name, linewidth=1.6)
        for place, value in points:
            if isinstance(value, Rate) and value.interval:
                axis.vlines(place, *value.interval, color=line.get_color(), linewidth=1.0)
    axis.set_xticks(range(len(rows)), labels, fontsize=8, rotation=0 if len(rows) < 7 else 60)
    axis.set_xlabel(", ".join(rows[0].values), fontsize=9)
    if MEASURES[measure] == RATE:
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
            grid[ys.index(row.values[down]), xs.index(row.values[across])] = number(value)
    shares = MEASURES[measure] == RATE
    axis.imshow(grid, aspect="auto", **({"vmin": 0, "vmax": 1} if shares else {}))
    for y, x in np.argwhere(~np.isnan(grid)):
        text = MEASURES[measure].format(grid[y, x])
        box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.5}
        axis.text(x, y, text, ha="center", va="center", fontsize=8, bbox=box)
    axis.set_xticks(range(len(xs)), xs, fontsize=8)
    axis.set_yticks(range(len(ys)), ys, fontsize=8)
    axis.set_xlabel(across, fontsize=9)
    axis.set_ylabel(down, fontsize=9)
