"""Training curves as SVG of our own: several runs over each other, light and dark.

A panel has one size whatever the data, so nothing on the page moves when a curve grows. The noisy
measurement is drawn faintly, its running mean over it, held-out points as dots. A run has lines
only in the panels of its task, and a panel in which nothing was measured is not there. What the
pointer reads (see ``curve_script``) goes along as data, and ``axes`` says where the axes have
their numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpo_lite.rates import LOGGED_OF, Rate
from dpo_lite.report.metrics import split_eval
from dpo_lite.tasks import TASKS, Task
from dpo_lite.tasks.panels import Panel, unfolded
from dpo_lite.ui.axes import labels, log_ticks, short, ticks
from dpo_lite.ui.parts import esc

WIDTH, HEIGHT = 360, 206
LEFT, RIGHT, TOP, BOTTOM = 54, 10, 8, 26
MOST_POINTS = 240
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class View:
    """How curves are looked at. ``smooth``: from 0 to 1; ``log``: the values' axis, where all are
    above 0; ``window``: the first and the last update shown, None for all."""

    smooth: float = 0.8
    log: bool = False
    window: tuple[float, float] | None = None


def grid(
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    view: View = View(),
    colors: Mapping[str, int] | None = None,
    tasks: Mapping[str, Task] | None = None,
    kept: Mapping[str, int] | None = None,
) -> str:
    """The panels of runs given as name -> lines of metrics.jsonl.

    ``colors``: the number of each run's colour, 1 to 6; default: in the order given. ``tasks``: of
    each run; default: dpo. ``kept``: the update whose adapter a run kept, of those that chose one.
    """
    colors = colors or {name: i % 6 + 1 for i, name in enumerate(runs)}
    tasks = tasks or dict.fromkeys(runs, TASKS["dpo"])
    begun = any(runs.values())
    held_out = {name: _dots(records, view) for name, records in runs.items()}
    panels = []
    logged = {name: list(dict.fromkeys(k for r in runs[name] for k in r)) for name in runs}
    has = {name: unfolded(tasks[name].panels, logged[name]) for name in runs}
    for panel in shared_panels(has.values()):
        own = [name for name in runs if panel in has[name]]
        shown = _without_silent({name: _lines(runs[name], panel, view) for name in own})
        dots = {name: held_out[name] for name in own}
        if own and (_says_something(panel, shown, dots) if begun else panel.always):
            note = panel.note(runs[own[0]], tasks[own[0]].unit) if panel.note else ""
            chosen = {name: step for name, step in (kept or {}).items() if name in own}
            panels.append(_figure(panel, shown, dots, view, colors, tasks, note, chosen))
    return f'<div class="dl-curves">{"".join(panels)}</div>'


def shared_panels(panels: Iterable[Sequence[Panel]]) -> list[Panel]:
    """The panels on the page of any of the runs, each once, in the runs' own order."""
    return list(dict.fromkeys(p for own in panels for p in own if p.on_page))


def _lines(records: Sequence[Mapping[str, Any]], panel: Panel, view: View) -> dict[str, Points]:
    return {key: within(series(records, key), view) for key in panel.keys}


def _without_silent(shown: dict[str, dict[str, Points]]) -> dict[str, dict[str, Points]]:
    """Of several metrics in a panel those that are 0 in all runs from first to last are left out:
    what a method does not have (the value's loss of GRPO) is logged so."""
    keys = {key for by_key in shown.values() for key in by_key}
    silent = {
        key
        for key in keys
        if not any(value for by_key in shown.values() for _, value in by_key.get(key, []))
    }
    if silent == keys:
        return shown
    return {name: {k: p for k, p in own.items() if k not in silent} for name, own in shown.items()}


def _says_something(panel: Panel, shown, dots) -> bool:
    """Whether anything was measured, and of a panel that waits, not always the same."""
    series = [points for own in shown.values() for points in own.values()]
    series += [p for own in dots.values() for (_, key), p in own.items() if key in panel.keys]
    if panel.always:
        return any(series)
    return any(len({value for _, value in points}) > 1 for points in series)


def within(points: Points, view: View) -> Points:
    """The points that are looked at."""
    if view.window is None:
        return points
    first, last = view.window
    return [(step, value) for step, value in points if first <= step <= last]


def series(records: Sequence[Mapping[str, Any]], key: str) -> Points:
    """The points of a metric; of an update that was done again after a kill the last one counts."""
    points = {r["step"]: r[key] for r in records if _is_number(r.get(key))}
    return sorted(points.items())


def smoothed(points: Points, weight: float) -> Points:
    """Exponential running mean, corrected for its start: the first point stays where it is."""
    mean, total, result = 0.0, 0.0, []
    for step, value in points:
        mean = weight * mean + (1 - weight) * value
        total = weight * total + (1 - weight)
        result.append((step, mean / total if total else value))
    return result


def thinned(points: Points, most: int = MOST_POINTS) -> Points:
    """At most so many points, each the mean of its neighbours."""
    if len(points) <= most:
        return points
    bounds = [round(i * len(points) / most) for i in range(most + 1)]
    parts = [points[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]  # noqa: RUF007
    return [(sum(p[0] for p in q) / len(q), sum(p[1] for p in q) / len(q)) for q in parts]


def _figure(
    panel: Panel,
    shown,
    dots,
    view: View,
    colors: Mapping[str, int],
    tasks: Mapping[str, Task],
    note: str,
    kept: Mapping[str, int],
) -> str:
    """``note``: of the first run, a line under the panel while the pointer is not on it."""
    lines = [
        (name, key, points)
        for name, by_key in shown.items()
        for key in panel.keys
        if (points := by_key.get(key))
    ]
    marks = [
        (name, held_out, point, _reading(by_metric, held_out, key, *point))
        for name, by_metric in dots.items()
        for (held_out, key), points in by_metric.items()
        if key in panel.keys
        for point in points
    ]
    title = esc(_title(panel, {key for _, key, _ in lines}))
    data = ""
    if not lines and not marks:
        body = f'<text class="dl-axis" x="50%" y="50%" text-anchor="middle">{panel.empty}</text>'
    else:
        units = {name: tasks[name].unit for name in shown}
        body, span = _drawing(panel, lines, marks, view, colors, units, kept)
        data = f' data-read="{esc(_to_read(lines, span, units, kept))}"'
    head = (
        f"<figcaption>{title}</figcaption>"
        '<button type="button" class="dl-png" title="Download this panel as a picture">PNG</button>'
    )
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}"'
    reading = f'<p class="dl-reading" data-rest="{esc(note)}">{esc(note)}</p>'
    return f'<figure class="dl-panel"{data}>{head}<svg {size}>{body}</svg>{reading}</figure>'


def _title(panel: Panel, drawn: set[str]) -> str:
    """Of several metrics the title names those that are drawn."""
    left = [key for key in panel.keys if key in drawn]
    if drawn and len(left) < len(panel.keys):
        return f"{panel.title}: {', '.join(key.rpartition('/')[2] for key in left)}"
    return panel.legend or panel.title


def _to_read(lines, span: tuple[float, float], units, kept: Mapping[str, int]) -> str:
    """What the pointer reads, as JSON: real measurements, of long runs every so many."""
    read = []
    for name, key, points in lines:
        every = -(-len(points) // MOST_POINTS)
        some = [[step, short(value)] for step, value in points[::every]]
        read.append(
            {"run": name, "key": key, "unit": units[name], "kept": kept.get(name), "at": some}
        )
    edges = {"left": LEFT / WIDTH, "right": (WIDTH - RIGHT) / WIDTH, "span": span}
    return json.dumps(edges | {"lines": read}, separators=(",", ":"))


def _drawing(
    panel: Panel,
    lines,
    marks,
    view: View,
    colors: Mapping[str, int],
    units: Mapping[str, str],
    kept: Mapping[str, int],
) -> tuple[str, tuple[float, float]]:
    """The SVG's inside, and the first and last update on its axis."""
    values = [v for *_, points in lines for _, v in points] + [point[1] for *_, point, _ in marks]
    steps = [s for *_, points in lines for s, _ in points] + [point[0] for *_, point, _ in marks]
    log = view.log and min(values) > 0
    low, high = min(values), max(values)
    if panel.zero and not log:
        low, high = min(low, 0.0), max(high, 0.0)
    if panel.top is not None and not log:
        high = max(high, panel.top)
    rows = log_ticks(low, high) if log else ticks(low, high)
    low, high = rows[0], rows[-1]
    first, last = view.window or (0, max(steps))
    last = max(last, first + 1)

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (step - first) / (last - first)

    def share(value: float) -> float:
        if log:
            return math.log(high / value) / math.log(high / low)
        return (high - value) / (high - low)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * share(value)

    out = []
    for value, label in zip(rows, labels(rows), strict=True):
        out.append(
            f'<line class="dl-rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}"'
            f' y2="{y(value):.1f}"/><text class="dl-axis" x="{LEFT - 6}" y="{y(value) + 4.5:.1f}"'
            f' text-anchor="end">{label}</text>'
        )
    for step in [s for s in ticks(first, last) if first <= s <= last and s == int(s)]:
        anchor = "end" if x(step) > WIDTH - RIGHT - 14 else "middle"
        out.append(
            f'<text class="dl-axis" x="{x(step):.1f}" y="{HEIGHT - 8}"'
            f' text-anchor="{anchor}">{int(step):,}</text>'
        )
    for name, step in kept.items():
        if first <= step <= last:
            style = f'style="--dl-color:var(--dl-series-{colors[name]})"'
            out.append(
                f'<line class="dl-kept" data-run="{esc(name)}" {style} x1="{x(step):.1f}"'
                f' x2="{x(step):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
            )
    for name, key, points in lines:
        kind = ("", "dl-dashed", "dl-dotted")[panel.keys.index(key)]
        style = f'style="--dl-color:var(--dl-series-{colors[name]})"'
        about = f'data-run="{esc(name)}" data-key="{esc(key)}" {style}'
        mean = smoothed(points, view.smooth if panel.noisy else 0.0)
        for css, drawn in (("dl-raw", points), ("dl-line", mean)):
            places = " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in thinned(drawn))
            out.append(f'<polyline class="{css} {kind}" {about} points="{places}"/>')
        if len(points) == 1:
            out.append(_dot(x(points[0][0]), y(points[0][1]), name, style, ""))
    for name, held_out, (step, value), reading in marks:
        style = f'style="--dl-color:var(--dl-series-{colors[name]})"'
        title = f"{name}, {held_out}, {units[name]} {step:,}: {reading}"
        out.append(_dot(x(step), y(value), name, style, title))
    return "".join(out), (first, last)


def _dot(x: float, y: float, name: str, style: str, title: str) -> str:
    tooltip = f"<title>{esc(title)}</title>" if title else ""
    return (
        f'<circle class="dl-point" data-run="{esc(name)}" {style} cx="{x:.1f}" cy="{y:.1f}"'
        f' r="3.2">{tooltip}</circle>'
    )


def _dots(records: Sequence[Mapping[str, Any]], view: View) -> dict[tuple[str, str], Points]:
    """Held-out points by (set, metric)."""
    by_metric: dict[tuple[str, str], dict[float, float]] = {}
    for record in records:
        for key, value in record.items():
            split = split_eval(key) if key.startswith("eval_") else None
            if split and _is_number(value):
                by_metric.setdefault(split, {})[record["step"]] = value
    return {key: within(sorted(points.items()), view) for key, points in by_metric.items()}


def _reading(
    by_metric: Mapping[tuple[str, str], Points], held_out: str, key: str, step: float, value: float
) -> str:
    """A held-out value in words, a share with what it is of."""
    counts = dict(by_metric.get((held_out, LOGGED_OF.get(key, "")), []))
    return Rate(value, int(counts[step])).words() if step in counts else short(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
