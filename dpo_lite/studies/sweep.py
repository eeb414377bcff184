"""A sweep: one recipe at every combination of some keys' values, run after run in one process.

Each run is an ordinary run, named after its values. What is on disk is the sweep's memory: a run
that is finished is passed over, one that stopped or failed goes on, so giving the same command
again continues. Beside them lies ``<name>.sweep/``, which is no run: it holds no recipe.yaml.

The base is loaded anew for each run: it is small beside a training, and every run then starts from
the same state. The data's ids and the reference's log-probabilities come from their caches.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from dpo_lite.errors import UserError
from dpo_lite.files import safe_name, write_json, write_text
from dpo_lite.imports import quick_imports
from dpo_lite.recipe import (
    Recipe,
    apply_overrides,
    find_recipe,
    load_recipe,
    read_recipe,
    recipe_stem,
    to_yaml,
)
from dpo_lite.report.sweep_rows import FACTS, sweep_facts
from dpo_lite.runs.folder import Run, is_run
from dpo_lite.runs.studies import Study
from dpo_lite.studies.steps import refuse_another
from dpo_lite.tasks import TASKS

SUFFIX = ".sweep"
MAX_POINTS = 1000
Say = Callable[[str], None]


@dataclass(frozen=True)
class Point:
    """One run of a sweep: ``values`` by key, as they were written."""

    values: dict[str, str]
    recipe: Recipe

    @property
    def run(self) -> Run:
        return Run(Path(self.recipe.run.folder) / self.recipe.run.name)


@dataclass(frozen=True)
class Sweep:
    """``given``: the recipe as it was written, with the overrides of one value."""

    name: str
    stem: str
    folder: Path
    given: dict[str, Any]
    points: list[Point]

    @property
    def keys(self) -> list[str]:
        return list(self.points[0].values)

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}{SUFFIX}"


def plan_sweep(
    recipe: str,
    overrides: Sequence[str],
    name: str | None = None,
    say: Say = lambda text: None,
) -> Sweep:
    """Every combination as a validated recipe; a fault in any is raised before one is trained.

    An override with commas, such as ``train.beta=0.03,0.1``, is a key that is swept. ``say`` is
    told, once, what an override took along.
    """
    fixed, swept = [], {}
    for override in overrides:
        key, _, text = override.partition("=")
        values = split_values(text)
        if len(values) == 1:
            fixed.append(override)
        elif key.startswith("run."):
            raise UserError(f"{key} cannot be swept: runs are named after their values.")
        elif key in swept or len(set(values)) < len(values):
            raise UserError(f"{key} has a value twice; name each once.")
        else:
            swept[key] = values
    if not swept:
        raise UserError("A sweep needs several values of a key, such as train.beta=0.03,0.1,0.3.")
    if any(override.startswith("run.name=") for override in fixed):
        raise UserError("The runs of a sweep are named after their values; name it by --name.")
    stem = recipe_stem(recipe)
    leaves = [key.rpartition(".")[2] for key in swept]
    name = safe_name(name or _plain("-".join([stem, *leaves]))[:40])
    if (count := math.prod(map(len, swept.values()))) > MAX_POINTS:
        raise UserError(f"That would be {count:,} runs; a sweep has at most {MAX_POINTS:,}.")
    grid = [dict(zip(swept, values, strict=True)) for values in itertools.product(*swept.values())]
    names = _run_names(name, leaves, grid)
    lines: list[str] = []
    points = [
        Point(values, _recipe_at(recipe, [*fixed, *map("=".join, values.items())], run, lines))
        for values, run in zip(grid, names, strict=True)
    ]
    for line in dict.fromkeys(lines):
        say(line)
    for name_of_task in {point.recipe.task for point in points}:
        if why := TASKS[name_of_task].not_swept:
            raise UserError(
                f"task: {name_of_task} is not swept: {why}; start it by `dpo-lite train`."
            )
    folders = {point.recipe.run.folder for point in points}
    given = read_recipe(find_recipe(recipe))
    apply_overrides(given, fixed)
    return Sweep(name, stem, Path(folders.pop()), given, points)


def split_values(text: str) -> list[str]:
    """A text at its commas, but for those within brackets, braces or quotation marks."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _recipe_at(recipe: str, overrides: list[str], run: str, lines: list[str]) -> Recipe:
    loaded = load_recipe(recipe, overrides, lines.append)
    loaded.run.name = safe_name(run)
    return loaded


def _run_names(name: str, leaves: list[str], grid: list[dict[str, str]]) -> list[str]:
    """After the values, as long as that makes different names of 64 letters; else numbers."""
    names = [
        "-".join([name, *(leaf + _plain(v) for leaf, v in zip(leaves, at.values(), strict=True))])
        for at in grid
    ]
    if len(set(names)) == len(names) and max(map(len, names)) <= 64:
        return names
    return [f"{name}-{number:02d}" for number in range(1, len(grid) + 1)]


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")


def run_sweep(
    sweep: Sweep,
    say: Say,
    console: Callable[[], Console],
    after: Say = lambda name: None,
    command: Sequence[str] = (),
) -> bool:
    """Train what is not finished yet; True at the end, False where somebody stopped a run.

    ``console()`` gives each run one of its own; ``after`` is called with a run's name when it has
    ended; ``command``: by which the sweep goes on. A run that fails is told, and the others go on.
    """
    refuse_other(sweep)
    with Study(sweep.path).at_work(command) as notes:
        _take_up(sweep, say)
        if not _run_all(sweep, say, console, after):
            notes.state = "stopped"
            return False
    return True


def _run_all(sweep: Sweep, say: Say, console: Callable[[], Console], after: Say) -> bool:
    total = len(sweep.points)
    for number, point in enumerate(sweep.points, 1):
        run = point.run
        if run.path.exists() and run.status()["state"] == "finished":
            say(f"{number} of {total}  {run.name}: finished before")
            continue
        say(f"{number} of {total}  {run.name}")
        if not is_run(run.path):  # not there, or killed before it had its recipe
            _make(sweep, point)
        try:
            _train(run, console())
        except Exception as error:  # whatever it is, it concerns this run alone
            if os.environ.get("DPO_LITE_DEBUG"):
                raise
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            say(f"{run.name} failed: {kind}{error}")
        after(run.name)
        if run.status()["state"] == "stopped":
            return False
    return True


def refuse_other(sweep: Sweep) -> None:
    """Raise UserError where the sweep's folder or one of its runs is of another recipe."""
    facts = sweep_facts(sweep.path)
    if facts is None and _is_damaged(sweep):  # each run says itself what it was made from
        for point in sweep.points:
            refuse_another(point.run, point.recipe)
        return
    mine = set(facts["runs"]) if facts else set()
    if facts and facts.get("given") != sweep.given:
        raise UserError(
            f"{sweep.path} is of another recipe or other overrides; give this sweep another --name."
        )
    for point in sweep.points:
        if facts and facts["runs"].get(point.run.name, point.values) != point.values:
            raise UserError(
                f"{point.run.path} was trained with other values; give this sweep another --name."
            )
        if point.run.path.exists() and point.run.name not in mine:
            raise UserError(
                f"{point.run.path} exists and is not of this sweep; give it another --name."
            )


def _is_damaged(sweep: Sweep) -> bool:
    return (sweep.path / FACTS).is_file() and sweep_facts(sweep.path) is None


def _take_up(sweep: Sweep, say: Say) -> None:
    """The sweep's folder, and in it which run has which values."""
    sweep.path.mkdir(parents=True, exist_ok=True)
    if _is_damaged(sweep):
        say(f"{sweep.path / FACTS} was damaged and is written anew, with the runs of this command")
    facts = sweep_facts(sweep.path)
    runs = {point.run.name: point.values for point in sweep.points}
    known = facts["runs"] if facts else {}
    write_json(sweep.path / FACTS, {"given": sweep.given, "keys": sweep.keys, "runs": known | runs})


def _make(sweep: Sweep, point: Point) -> None:
    """A launched run's folder: the frozen recipe, and the answers before where they are known."""
    run = point.run
    run.path.mkdir(parents=True, exist_ok=True)
    run.update_status(state="queued", launched=time.time())
    write_text(run.recipe_file, to_yaml(point.recipe))
    for other in sweep.points:
        if other.run.path != run.path and _asked(other.recipe) == _asked(point.recipe):
            samples = other.run.records("samples.jsonl")
            before = [s for s in samples if s["when"] in ("before", "start")]
            if before and other.run.status()["state"] == "finished":
                for record in before:
                    run.append("samples.jsonl", record)
                return


def _asked(recipe: Recipe) -> dict[str, Any]:
    """All that the reference's answers before a training depend on."""
    values = recipe.model_dump(include={"model", "reference", "data", "eval", "task"})
    return values | {"seed": recipe.train.seed}


def _train(run: Run, console: Console) -> None:
    with quick_imports():
        from dpo_lite.jobs import train as job
    from dpo_lite.model.device_memory import release

    try:
        job.resume(run, console)
    finally:
        release()
