"""Which adapter of a run is published, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lite.recipe import Recipe
from dpo_lite.runs.folder import Run


@dataclass(frozen=True)
class Subject:
    """Which adapter of a run is published, and what is known of it."""

    run: Run
    recipe: Recipe
    adapter: Path
    base: str  # public id
    revision: str | None  # the base's commit
    step: int | None  # of a checkpoint; None for the finished run
    results: dict[str, Any]  # the content of metrics.json

    @property
    def label(self) -> str:
        return self.run.name if self.step is None else f"{self.run.name}, update {self.step}"
