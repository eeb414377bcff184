"""A sweep that is being made on the page: keys with their values, checked as they are typed.

No Gradio in here. What is started is the command that is shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lite.errors import UserError
from dpo_lite.recipe import Recipe, find_recipe
from dpo_lite.report.words import clock
from dpo_lite.runs.folder import Run
from dpo_lite.runs.studies import Study
from dpo_lite.studies.sweep import MAX_POINTS, Sweep, plan_sweep, refuse_other, split_values
from dpo_lite.tasks import TASKS
from dpo_lite.ui.form import fields
from dpo_lite.ui.labels import suits
from dpo_lite.ui.recipe_draft import Draft
from dpo_lite.ui.run_files import recipe_of

ROWS = 3  # keys that the table has room for
CHECKED_WHOLE = 48  # of more runs each key is looked at by itself while somebody types
FIRST = ("train.beta", "train.lr", "adapter.r", "train.epochs", "train.seed", "train.loss")

Rows = Sequence[tuple[str, str]]  # key and values, as they were typed


@dataclass(frozen=True)
class Planned:
    """What would be started: its command, its folder and how many runs."""

    command: list[str]
    sweep: Sweep
    count: int

    @property
    def study(self) -> Study:
        return Study(self.sweep.path)


def keys_offered(task: str) -> list[str]:
    """Keys that a sweep can go through, the usual ones first."""
    known = [f.key for f in fields() if f.kind in ("number", "choice") and suits(f.key, task)]
    swept = [key for key in known if key.startswith(("train.", "adapter.", "ppo.", "reference"))]
    first = [key for key in FIRST if key in swept]
    return [*first, *(key for key in swept if key not in first)]


def filled(rows: Rows) -> list[tuple[str, list[str]]]:
    """The rows in which something stands; raises UserError for one that is not whole."""
    found = []
    for key, text in ((str(key or "").strip(), str(text or "").strip()) for key, text in rows):
        if not key and not text:
            continue
        values = [value for value in split_values(text) if value]
        if not key:
            raise UserError(f"Which key is {text}? Choose one beside it.")
        if len(values) < 2:
            raise UserError(f"{key} needs two values or more, such as 0.03, 0.1.")
        found.append((key, values))
    if not found:
        raise UserError("Choose a key, and write its values with commas between them.")
    return found


def plan(
    draft: Draft, recipe: Recipe, rows: Rows, name: str, runs: Path, whole: bool = False
) -> Planned:
    """Look at all runs that it would be; of very many at each key's values by themselves, unless
    it is to be ``whole``.

    Raises UserError in one sentence: for a key, a value, or what is there already.
    """
    if why := TASKS[recipe.task].not_swept:
        raise UserError(f"task: {recipe.task} is not swept: {why}.")
    swept = filled(rows)
    count = math.prod(len(values) for _, values in swept)
    if count > MAX_POINTS:
        raise UserError(f"That would be {count:,} runs; a sweep has at most {MAX_POINTS:,}.")
    word, *changes = draft.command_words(recipe)
    fixed = [change for change in changes if not change.startswith(("run.name=", "run.folder="))]
    fixed += [] if str(runs) == "runs" else [f"run.folder={runs}"]
    if listed := [change for change in fixed if len(split_values(change.partition("=")[2])) > 1]:
        raise UserError(f"{listed[0]} has a comma, which a sweep would take for two values.")
    grid = [f"{key}={','.join(values)}" for key, values in swept]
    named = ["--name", name.strip()] if name.strip() else []
    command = ["dpo-lite", "sweep", word, *fixed, *grid, *named]
    at_once = [grid] if whole or count <= CHECKED_WHOLE else [[one] for one in grid]
    try:
        sweep, *_ = [plan_sweep(word, [*fixed, *some], name.strip() or None) for some in at_once]
    except UserError as error:  # the recipe is the one that is seen, so its file need not be named
        raise UserError(str(error).removeprefix(f"{find_recipe(word)}: ")) from None
    if len(sweep.points) == count:
        refuse_other(sweep)
    return Planned(command, sweep, count)


def words(planned: Planned, seconds: float | None) -> str:
    """How many runs, and how long they take where it is known how long one does."""
    pairs = [word.partition("=") for word in planned.command if "=" in word]
    numbers = {key: len(split_values(text)) for key, _, text in pairs}
    keys = " × ".join(f"{count} of {key}" for key, count in numbers.items() if count > 1)
    line = f"{planned.count:,} runs, one after the other: {keys}"
    if seconds is None:
        return f"{line}. How long one takes is told by Plan for this card, above."
    return f"{line}. About {clock(seconds)} each, {clock(seconds * planned.count)} in all."


def seconds_of_alike(recipe: Recipe, runs: Path, names: Sequence[str]) -> float | None:
    """What a finished run took of the same base, data, task and length; None where there is none.

    ``names``: of runs, the newest first.
    """
    wanted = _alike(recipe.model_dump())
    for name in names:
        run = Run(runs / name)
        if run.status()["state"] == "finished" and _alike(recipe_of(run)) == wanted:
            return run.results().get("seconds")
    return None


def _alike(values: dict[str, Any]) -> list[Any]:
    train = values["train"]
    steps = [train.get(key) for key in ("epochs", "max_steps", "batch_size")]
    return [values["task"], values["model"]["base"], values["data"]["train"], *steps]
