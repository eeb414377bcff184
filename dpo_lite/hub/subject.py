"""Which adapter of a run is published, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lite.recipe import Recipe
from dpo_lite.report.suite import read_suite
from dpo_lite.runs.folder import Run
from dpo_lite.tasks import TASKS, Task
from dpo_lite.tasks.card import Card


@dataclass(frozen=True)
class Subject:
    """Which adapter of a run is published, and what is known of it."""

    run: Run
    recipe: Recipe
    adapter: Path
    base: str  # public id
    revision: str | None  # the base's commit
    step: int | None  # of a checkpoint; None for the finished run
    results: dict[str, Any]  # what is published as metrics.json

    @property
    def label(self) -> str:
        return self.run.name if self.step is None else f"{self.run.name}, update {self.step}"

    @property
    def task(self) -> Task:
        return TASKS[self.recipe.task]

    @property
    def card(self) -> Card:
        """What its task says of itself to the Hub."""
        return self.task.card

    @property
    def true_base(self) -> str:
        """The base itself, where what was trained on is a quantised copy that names it."""
        return self.run.manifest().get("quantised_from") or self.base

    @property
    def suite(self) -> list[dict[str, Any]]:
        """Tasks that others know, asked of the adapter of the end; of a checkpoint none are."""
        return read_suite(self.run.path) if self.step is None else []
