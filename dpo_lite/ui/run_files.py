"""What the page has read of runs, read again where it has changed on disk. No Gradio in here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpo_lite.compare.votes import votes_file
from dpo_lite.errors import UserError
from dpo_lite.recipe import load_recipe, validate_recipe
from dpo_lite.report.rlhf import PICTURE, POINTS
from dpo_lite.runs.folder import ACTIVE, Run, run_names
from dpo_lite.runs.tails import Tails
from dpo_lite.tasks import TASKS, Task
from dpo_lite.ui.together import Together

Statuses = dict[str, dict[str, Any]]
TAILS = Tails()
_statuses: dict[str, tuple[tuple[int, int, int], dict[str, Any]]] = {}
_recipes: dict[Path, tuple[int, dict[str, Any]]] = {}


def statuses(folder: Path) -> Statuses:
    """Every run's status by name, newest first; what has not changed on disk is not read again."""
    return _looked(folder)


def _look(folder: Path) -> Statuses:
    by_name = {}
    for name in run_names(folder):
        path = f"{folder}/{name}/status.json"
        try:
            facts = os.stat(path)
            version = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
        except OSError:
            version = (0, 0, 0)
        cached = _statuses.get(path)
        if cached is None or cached[0] != version or cached[1]["state"] in ACTIVE:
            cached = _statuses[path] = (version, Run(folder / name).status())
        by_name[name] = cached[1]
    return by_name


_looked = Together(_look)


def signature(folder: Path, by_name: Statuses, selected: Sequence[str]) -> str:
    """A short text that changes whenever something that is shown has changed."""
    shown = [(n, s["state"], s.get("updated"), s.get("stopping")) for n, s in by_name.items()]
    sizes = [
        (folder / name / file).stat().st_size
        for name in selected
        if name in by_name
        for file in ("metrics.jsonl", "samples.jsonl", "log.txt", "results.json", POINTS, PICTURE)
        if (folder / name / file).is_file()
    ]
    votes = votes_file(folder)
    sizes.append(votes.stat().st_size if votes.is_file() else 0)
    return f"{hash(tuple(shown))} {list(selected)} {sizes}"


def recipe_of(run: Run) -> dict[str, Any]:
    """The frozen recipe as nested dicts. One that cannot be read any more gives the defaults."""
    changed = run.recipe_file.stat().st_mtime_ns if run.recipe_file.exists() else 0
    cached = _recipes.get(run.recipe_file)
    if cached is None or cached[0] != changed:
        try:
            values = load_recipe(run.recipe_file).model_dump()
        except UserError:
            stub = {"model": {"base": "?"}, "data": {"train": "?"}}
            values = validate_recipe(stub, str(run.recipe_file)).model_dump()
        cached = _recipes[run.recipe_file] = (changed, values)
    return cached[1]


def records(folder: Path, selected: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Lines of metrics.jsonl of the selected runs that have some: a run of runs has none."""
    plain = [name for name in selected if not task_of(folder, name).composed]
    return {name: TAILS.read(folder / name / "metrics.jsonl") for name in plain}


def task_of(folder: Path, name: str) -> Task:
    return TASKS[recipe_of(Run(folder / name))["task"]]


def can_answer(folder: Path, name: str) -> bool:
    """Whether a run has a policy: a reward model gives no answers, and of a run of runs its
    runs do."""
    return task_of(folder, name).answers
