"""Training curves as SVG of our own: several runs over each other, light and dark, no script.

A panel has one size whatever the data, so nothing on the page moves when a curve grows. The noisy
measurement is drawn faintly, its running mean over it, held-out points as dots. Invisible strips
carry the values as a title, which the browser shows under the pointer. A run has lines only in the
panels of its task.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dpo_lite.rates import LOGGED_OF, Rate
from dpo_lite.report.metrics import split_eval
from dpo_lite.tasks import TASKS, Task
from dpo_lite.tasks.panels import Panel, unfolded
from dpo_lite.ui.parts import esc

WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 8, 22
MOST_POINTS = 240
STRIPS = 48
Points = list[tuple[float, float]]


def grid(
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    smooth: float = 0.8,
    colors: Mapping[str, int] | None = None,
    tasks: Mapping[str, Task] | None = None,
    kept: Mapping[str, int] | None = None,
) -> str:
    """The panels of runs given as name -> lines of metrics.jsonl; ``smooth`` is from 0 to 1.

    ``colors``: the number of each run's colour, 1 to 6; default: in the order given. ``tasks``: of
    each run; default: dpo. ``kept``: the update whose adapter a run kept, of those that chose one.
    """
    colors = colors or {name: i % 6 + 1 for i, name in enumerate(runs)}
    tasks = tasks or dict.fromkeys(runs, TASKS["dpo"])
    panels = []
    logged = {name: list(dict.fromkeys(k for r in runs[name] for k in r)) for name in runs}
    has = {name: unfolded(tasks[name].panels, logged[name]) for name in runs}
    for panel in shared_panels(has.values()):
        own = [name for name in runs if panel in has[name]]
        shown = {name: {key: series(runs[name], key) for key in panel.keys} for name in own}
        dots = {name: _dots(runs[name]) for name in own}
        if own and (panel.always or _says_something(panel, shown, dots)):
            note = panel.note(runs[own[0]], tasks[own[0]].unit) if panel.note else ""
            chosen = {name: step for name, step in (kept or {}).items() if name in own}
            panels.append(_figure(panel, shown, dots, smooth, colors, tasks, note, chosen))
    return f'<div class="dl-curves">{"".join(panels)}</div>'


def shared_panels(panels: Iterable[Sequence[Panel]]) -> list[Panel]:
    """The panels on the page of any of the runs, each once, in the runs' own order."""
    return list(dict.fromkeys(p for own in panels for p in own if p.on_page))


def _says_something(panel: Panel, shown, dots) -> bool:
    """Whether anything was measured that is not the same from first to last."""
    series = [points for own in shown.values() for points in own.values()]
    series += [p for own in dots.values() for (_, key), p in own.items() if key in panel.keys]
    return any(len({value for _, value in points}) > 1 for points in series)


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


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers from below ``low`` to above ``high``, about ``count`` of them."""
    if high <= low:
        pad = abs(high) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / count
    power = 10 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def _figure(
    panel: Panel,
    shown,
    dots,
    smooth: float,
    colors: Mapping[str, int],
    tasks: Mapping[str, Task],
    note: str,
    kept: Mapping[str, int],
) -> str:
    """``note``: of the first run, a line within the panel."""
    lines = [
        (name, key, points)
        for name, by_key in shown.items()
        for key in panel.keys
        if (points := by_key[key])
    ]
    marks = [
        (name, held_out, point, _reading(by_metric, held_out, key, *point))
        for name, by_metric in dots.items()
        for (held_out, key), points in by_metric.items()
        if key in panel.keys
        for point in points
    ]
    title = esc(panel.legend or panel.title)
    head = f"<figcaption>{title}</figcaption>"
    if not lines and not marks:
        body = f'<text class="dl-axis" x="50%" y="50%" text-anchor="middle">{panel.empty}</text>'
    else:
        units = {name: tasks[name].unit for name in shown}
        body = _drawing(panel, lines, marks, smooth, colors, units, kept)
        if note:
            place = f'x="{WIDTH - RIGHT}" y="{HEIGHT - BOTTOM - 5}" text-anchor="end"'
            body += f'<text class="dl-axis" {place}>{esc(note)}</text>'
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}"'
    return f'<figure class="dl-panel">{head}<svg {size}>{body}</svg></figure>'


def _drawing(
    panel: Panel,
    lines,
    marks,
    smooth: float,
    colors: Mapping[str, int],
    units: Mapping[str, str],
    kept: Mapping[str, int],
) -> str:
    values = [v for *_, points in lines for _, v in points] + [point[1] for *_, point, _ in marks]
    steps = [s for *_, points in lines for s, _ in points] + [point[0] for *_, point, _ in marks]
    low, high = min(values), max(values)
    if panel.zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if panel.top is not None:
        high = max(high, panel.top)
    rows = ticks(low, high)
    low, high = rows[0], rows[-1]
    most = max(max(steps), 1)

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / most

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    out = []
    for value in rows:
        out.append(
            f'<line class="dl-rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}"'
            f' y2="{y(value):.1f}"/><text class="dl-axis" x="{LEFT - 6}" y="{y(value) + 3.5:.1f}"'
            f' text-anchor="end">{_short(value)}</text>'
        )
    for step in [s for s in ticks(0, most) if s <= most and s == int(s)]:
        anchor = "end" if x(step) > WIDTH - RIGHT - 12 else "middle"
        out.append(
            f'<text class="dl-axis" x="{x(step):.1f}" y="{HEIGHT - 6}"'
            f' text-anchor="{anchor}">{int(step):,}</text>'
        )
    for name, step in kept.items():
        style = f'style="--dl-color:var(--dl-series-{colors[name]})"'
        out.append(
            f'<line class="dl-kept" data-run="{esc(name)}" {style} x1="{x(step):.1f}"'
            f' x2="{x(step):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        )
    for name, key, points in lines:
        kind = ("", "dl-dashed", "dl-dotted")[panel.keys.index(key)]
        style = f'style="--dl-color:var(--dl-series-{colors[name]})"'
        about = f'data-run="{esc(name)}" data-key="{esc(key)}" {style}'
        mean = smoothed(points, smooth if panel.noisy else 0.0)
        for css, drawn in (("dl-raw", points), ("dl-line", mean)):
            places = " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in thinned(drawn))
            out.append(f'<polyline class="{css} {kind}" {about} points="{places}"/>')
        if len(points) == 1:
            out.append(_dot(x(points[0][0]), y(points[0][1]), name, style, ""))
    for name, held_out, (step, value), reading in marks:
        style = f'style="--dl-color:var(--dl-series-{colors[name]})"'
        title = f"{name}, {held_out}, {units[name]} {step:,}: {reading}"
        out.append(_dot(x(step), y(value), name, style, title))
    return "".join(out) + _strips(lines, most, x, len(panel.keys) > 1, units, kept)


def _dot(x: float, y: float, name: str, style: str, title: str) -> str:
    tooltip = f"<title>{esc(title)}</title>" if title else ""
    return (
        f'<circle class="dl-point" data-run="{esc(name)}" {style} cx="{x:.1f}" cy="{y:.1f}"'
        f' r="3.2">{tooltip}</circle>'
    )


def _strips(
    lines, most: float, x, many_keys: bool, units: Mapping[str, str], kept: Mapping[str, int]
) -> str:
    """Transparent strips that tell the values nearest to the pointer."""
    count = min(STRIPS, int(most) + 1)
    width = (WIDTH - LEFT - RIGHT) / count
    nearest = [(name, key, dict(points), [s for s, _ in points]) for name, key, points in lines]
    out = []
    for i in range(count):
        middle = most * (i + 0.5) / count
        readings = []
        for name, key, values, steps in nearest:
            step = min(steps, key=lambda s: abs(s - middle)) if len(steps) < 400 else None
            if step is None:
                place = min(len(steps) - 1, round(len(steps) * middle / most))
                step = steps[place]
            what = f" {key.rpartition('/')[2]}" if many_keys else ""
            mark = " (kept)" if kept.get(name) == step else ""
            readings.append(f"{name}{what}, {units[name]} {step:,}{mark}: {_short(values[step])}")
        title = esc("\n".join(readings))
        out.append(
            f'<rect class="dl-strip" x="{LEFT + i * width:.1f}" y="{TOP}" width="{width:.2f}"'
            f' height="{HEIGHT - TOP - BOTTOM}"><title>{title}</title></rect>'
        )
    return "".join(out)


def _dots(records: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], Points]:
    """Held-out points by (set, metric)."""
    by_metric: dict[tuple[str, str], dict[float, float]] = {}
    for record in records:
        for key, value in record.items():
            split = split_eval(key)
            if split and _is_number(value):
                by_metric.setdefault(split, {})[record["step"]] = value
    return {key: sorted(points.items()) for key, points in by_metric.items()}


def _reading(
    by_metric: Mapping[tuple[str, str], Points], held_out: str, key: str, step: float, value: float
) -> str:
    """A held-out value in words, a share with what it is of."""
    counts = dict(by_metric.get((held_out, LOGGED_OF.get(key, "")), []))
    return Rate(value, int(counts[step])).words() if step in counts else _short(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _short(value: float) -> str:
    """A number in few characters: 0.693, 12.5, 5e-06, 1,200."""
    size = abs(value)
    if size and (size < 1e-3 or size >= 1e6):
        return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-")
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}".rstrip("0").rstrip(".") if size < 10 else f"{value:.4g}"
