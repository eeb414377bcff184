"""What the Runs tab shows, as HTML from the files of the runs. No Gradio in here."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpo_lite.report.advise import advise
from dpo_lite.report.kept import kept_step
from dpo_lite.report.metrics import METRICS, Number, columns_of, number_text
from dpo_lite.report.words import clock
from dpo_lite.runs import processes
from dpo_lite.runs.folder import ACTIVE, MOST_WRONG, Run
from dpo_lite.runs.lines import SHAPES, lost_words
from dpo_lite.runs.state import damaged_files, read_object
from dpo_lite.tasks import TASKS, Task
from dpo_lite.ui import curves, drift, film_views, parts, rlhf_views, run_files
from dpo_lite.ui.parts import esc
from dpo_lite.ui.run_files import Statuses, recipe_of, records, task_of

LOG_LINES = 40
SHOWN_RUNS = 100  # and as many more at a click
TOKEN = re.compile(r"hf_[A-Za-z0-9]{16,}")


def run_table(by_name: Statuses, selected: Sequence[str], most: int = SHOWN_RUNS) -> str:
    """Runs as rows that can be clicked; the box in front adds to what is selected.

    ``most``: so many of the newest; of those before them the selected and the active ones.
    """
    if not by_name:
        return parts.empty(
            "No runs yet",
            "Open Recipes, pick quickstart and press Launch. It takes about a minute.",
        )
    numbers = columns_of(by_name.values())
    heads = "".join(
        f'<th class="{css}">{name}</th>'
        for name, css in (
            ('<span class="dl-unseen">selected</span>', ""),
            ("run", ""),
            ("state", ""),
            ("progress", ""),
            *((number.label, "dl-number") for number in numbers),
            ("left", "dl-number"),
            ("started", ""),
        )
    )
    shown = [
        (name, status)
        for place, (name, status) in enumerate(by_name.items())
        if place < most or name in selected or status["state"] in ACTIVE
    ]
    rows = "".join(_row(name, status, selected, numbers) for name, status in shown)
    if hidden := len(by_name) - len(shown):
        older = f"{hidden:,} older run{'s' * (hidden > 1)}: show {min(hidden, SHOWN_RUNS)} more"
        rows += f'<tr data-more tabindex="0"><td colspan="{6 + len(numbers)}">{older}</td></tr>'
    return (
        '<div class="dl-scroll dl-runs"><table class="dl-table">'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(
    name: str, status: Mapping[str, Any], selected: Sequence[str], numbers: Sequence[Number]
) -> str:
    chosen = name in selected
    color = selected.index(name) % 6 + 1 if chosen else 0
    box = (
        f'<i class="dl-box" style="background:var(--dl-series-{color})"></i>'
        if chosen
        else ('<i class="dl-box"></i>')
    )
    started = status.get("started") or status.get("launched")
    cells = [
        f'<td class="dl-pick" title="Select several">{box}</td>',
        f'<td class="dl-name">{esc(name)}</td>',
        f"<td>{parts.state_badge(status)}</td>",
        f"<td>{parts.progress(status)}</td>",
        *(f'<td class="dl-number">{number_text(status, number)}</td>' for number in numbers),
        f'<td class="dl-number">{esc(_left(status))}</td>',
        f'<td class="dl-muted">{_when(started)}</td>',
    ]
    css = (
        f' class="dl-chosen" aria-current="true" data-place="{selected.index(name)}"'
        if chosen
        else ""
    )
    return f'<tr data-run="{esc(name)}"{css} tabindex="0">{"".join(cells)}</tr>'


def _left(status: Mapping[str, Any]) -> str:
    left = status.get("seconds_left")
    return clock(left) if left and status["state"] == "running" else "–"


def _end(status: Mapping[str, Any]) -> str:
    """When it will be done, on today's clock; of a run that goes over days with the day."""
    end = status.get("updated", time.time()) + status["seconds_left"]
    same_day = time.localtime(end)[:3] == time.localtime()[:3]
    return time.strftime("%H:%M" if same_day else "%d %b %H:%M", time.localtime(end))


def _when(moment: float | None) -> str:
    return time.strftime("%d %b %H:%M", time.localtime(moment)) if moment else "–"


def detail(folder: Path, by_name: Statuses, selected: Sequence[str]) -> str:
    """The first of the selected runs in words: what it is, how it stands, what to make of it."""
    if not selected:
        words = "Select a run to see it; the boxes select several to compare."
        return f'<div class="dl-none">{parts.note(words)}</div>'
    run = Run(folder / selected[0])
    status, recipe = by_name[run.name], recipe_of(run)
    words = [parts.state_badge(status)]
    if status.get("step") is not None:
        words.append(f"{TASKS[recipe['task']].unit} {status['step']:,} of {status['max_steps']:,}")
    if _left(status) != "–":
        words.append(f"{_left(status)} left, ends about {_end(status)}")
    if status.get("doing") and status["state"] in ACTIVE:
        words.append(esc(status["doing"]))
    facts = _facts(run, recipe)
    advice = advise(
        recipe,
        status,
        run_files.TAILS.read(run.path / "metrics.jsonl"),
        run.results(),
    )
    notes = "".join(parts.note(words, "warn") for words in _damages(run))
    notes += "".join(parts.note(hide_tokens(a.text), a.kind) for a in advice)
    notes += _drift(run, TASKS[recipe["task"]])
    line = ["dpo-lite", "runs", "show", run.name, *parts.runs_option(run.path.parent)]
    if status["state"] in ("stopped", "failed", "interrupted"):
        line = processes.command(run)
    return (
        f'<div class="dl-run-head"><span class="dl-title">{esc(run.name)}</span>'
        f'<span class="dl-muted">{" · ".join(words)}</span></div>'
        f'<p class="dl-muted dl-small">{esc(facts)}</p>{notes}{parts.command(line)}'
    )


def _drift(run: Run, task: Task) -> str:
    """KL, reward and length in a sentence each."""
    measured = run_files.TAILS.read(run.path / "metrics.jsonl")
    found = drift.sentences(
        measured, run_files.TAILS.read(run.path / "samples.jsonl"), task.unit, task.sampled_kl
    )
    return "".join(f'<p class="dl-small dl-drift">{esc(sentence)}</p>' for sentence in found)


def _damages(run: Run) -> list[str]:
    """What of the run's files cannot be read, without reading the long ones again."""
    counts = {file: run_files.TAILS.lost(run.path / file) for file in SHAPES}
    lines = [lost_words(file, count) for file, count in counts.items() if count]
    return damaged_files(run.path) + lines


def _facts(run: Run, recipe: Mapping[str, Any]) -> str:
    train, manifest, task = recipe["train"], run.manifest(), TASKS[recipe["task"]]
    facts = [recipe["model"]["base"], *task.facts(recipe)]
    if task.composed:
        return ", ".join(facts)
    facts += [f"lr {train['lr']:g}", f"{train['batch_size']} {task.examples} per {task.unit}"]
    if manifest:
        facts += [f"{manifest['data']['examples']:,} examples", f"on {manifest.get('device')}"]
    return ", ".join(facts)


def curve_grid(folder: Path, selected: Sequence[str], view: curves.View) -> str:
    """The curves of the selected runs over each other; above them what a run of runs has."""
    tasks = {name: task_of(folder, name) for name in selected}
    overviews = "".join(
        rlhf_views.overview(Run(folder / name)) for name, task in tasks.items() if task.composed
    )
    colors = {name: i % 6 + 1 for i, name in enumerate(selected)}
    measured = records(folder, selected)
    if not measured:
        return overviews
    legend = "".join(
        f'<li><i style="background:var(--dl-series-{colors[name]})"></i>{esc(name)}</li>'
        for name in measured
    )
    legend = f'<ul class="dl-legend">{legend}</ul>' if len(selected) > 1 else ""
    steps = {name: kept_step(Run(folder / name).results()) for name in measured}
    kept = {name: step for name, step in steps.items() if step}
    return overviews + legend + curves.grid(measured, view, colors, tasks, kept)


def log_tail(folder: Path, selected: Sequence[str]) -> str:
    if not selected:
        return ""
    lines = Run(folder / selected[0]).log_tail(LOG_LINES)
    text = "\n".join(lines) or "nothing yet"
    return f'<pre class="dl-pre dl-log">{esc(hide_tokens(text))}</pre>'


def samples(folder: Path, selected: Sequence[str]) -> str:
    """What reference and policy answered, and the policy while it learned, prompt by prompt."""
    if not selected:
        return ""
    task = task_of(folder, selected[0])
    lines = run_files.TAILS.read(folder / selected[0] / "samples.jsonl")
    strips = film_views.films(lines, task.unit)
    if task.composed or not strips:
        return parts.empty(*task.no_answers)
    several = f'<p class="dl-title">{esc(selected[0])}</p>' if len(selected) > 1 else ""
    wrong = read_object(folder / selected[0] / MOST_WRONG) or {}
    return several + film_views.filmstrip(strips) + film_views.most_wrong(wrong)


def recipe_difference(folder: Path, selected: Sequence[str]) -> str:
    """The keys in which the recipes of the selected runs differ, and nothing else."""
    if len(selected) < 2:
        return parts.note("Select two or more runs to see in what their recipes differ.")
    flat = [_flat(recipe_of(Run(folder / name))) for name in selected]
    keys = [k for k in flat[0] if len({json.dumps(f.get(k)) for f in flat}) > 1]
    keys = [key for key in keys if not key.startswith("run.")]
    if not keys:
        return parts.note("The recipes of these runs are equal.", "info")
    rows = [[key, *(_value(f.get(key)) for f in flat)] for key in keys]
    return parts.table(["key", *selected], rows)


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and not before:
            flat |= _flat(value, f"{key}.")
        else:
            flat[before + key] = value
    return flat


def _value(value: Any) -> str:
    if value is None:
        return "not set"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def explanations() -> str:
    rows = "".join(f"<dt>{esc(name)}</dt><dd>{esc(text)}</dd>" for name, text in METRICS.items())
    return f'<dl class="dl-explained">{rows}</dl>'


def hide_tokens(text: str) -> str:
    """Should a library ever print an access token, the page does not repeat it."""
    return TOKEN.sub("hf_…", text)
