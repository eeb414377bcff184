"""What a sweep's runs came to, one row each, read from their folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lite.files import NAME
from dpo_lite.rates import Rate, logged_rate, rate_at
from dpo_lite.recipe import load_recipe
from dpo_lite.report.kept import kept_step
from dpo_lite.runs.folder import Run
from dpo_lite.runs.state import read_object
from dpo_lite.tasks import TASKS

FACTS = "sweep.json"
# What is measured on a held-out set: name, and how a cell shows it; RATE is a share of so many.
RATE = "{:.0%}"
MEASURES = {
    "accuracy": RATE,
    "margin": "{:.2f}",
    "generated": RATE,
    "truthful": RATE,
    "reward": "{:+.2f}",
    "KL": "{:.2f}",
    "drift": "{:+.1f}",
    "loss": "{:.3f}",
}
Value = float | Rate | None


@dataclass(frozen=True)
class SweepRow:
    """One run: ``sets`` has the measures by held-out set, empty where it is not finished."""

    run: str
    values: dict[str, str]
    state: str
    error: str | None
    sets: dict[str, dict[str, Value]]
    kl: float | None  # sampled while training, where eval.sample_steps asks for it
    seconds: float | None

    def mean(self, measure: str) -> float | None:
        """Over the held-out sets that have it."""
        values = self.values_of(measure)
        return sum(map(number, values)) / len(values) if values else None

    def values_of(self, measure: str) -> list[float | Rate]:
        """One of each held-out set that has it."""
        found = (measures.get(measure) for measures in self.sets.values())
        return [value for value in found if value is not None]


def number(value: float | Rate) -> float:
    return value.share if isinstance(value, Rate) else value


def sweep_facts(path: Path) -> dict[str, Any] | None:
    """What a sweep's folder says of it: ``given``, its recipe, and ``runs``, the values of each by
    its name. None where it is missing or damaged."""
    facts = read_object(path / FACTS) or {}
    runs = facts.get("runs")
    sound = isinstance(facts.get("given", {}), dict) and isinstance(runs, dict)
    if not sound or not all(NAME.match(name) and _are_values(runs[name]) for name in runs):
        return None
    return facts


def _are_values(values: Any) -> bool:
    texts = isinstance(values, dict) and all(isinstance(text, str) for text in values.values())
    return texts and bool(values)


def read_sweep(path: Path, names: Sequence[str] | None = None) -> list[SweepRow]:
    """The runs of a sweep's folder, or those of them that are named, in their order."""
    runs = (sweep_facts(path) or {"runs": {}})["runs"]
    return [
        _row(Run(path.parent / name), values)
        for name, values in runs.items()
        if names is None or name in names
    ]


def _row(run: Run, values: dict[str, str]) -> SweepRow:
    if not run.recipe_file.is_file():
        return SweepRow(run.name, values, "to train", None, {}, None, None)
    status, results = run.status(), run.results()
    recipe = load_recipe(run.recipe_file)
    sets = {name: _measures(scores, recipe.train.beta) for name, scores in results["sets"].items()}
    # Of answers sampled beside the updates; one that belongs to an update is of its own rollout.
    kl, last = TASKS[recipe.task].sampled_kl, kept_step(results)
    sampled = [r for r in run.each("metrics.jsonl") if kl in r and "loss" not in r]
    kls = [r[kl] for r in sampled if last is None or r["step"] <= last]
    return SweepRow(
        run.name,
        values,
        status["state"],
        status.get("error"),
        sets,
        kls[-1] if kls else None,
        results.get("seconds"),
    )


def _measures(scores: dict[str, Any], beta: float) -> dict[str, Value]:
    """``drift``: nats that the chosen answers gained or lost, which beta does not scale.

    ``truthful``, ``reward`` and ``KL`` are of PPO's drawn answers, the KL in nats per answer;
    ``reward_error`` is the standard error of that reward.
    """
    chosen = scores.get("rewards/chosen")
    drawn = (scores.get("drawn") or {}).get("policy", {})
    return {
        "accuracy": rate_at(scores, "rewards/accuracies"),
        "margin": scores.get("rewards/margins"),
        "generated": rate_at(scores, "generation", "policy"),
        "truthful": logged_rate(drawn, "truthful"),
        "reward": drawn.get("reward"),
        "reward_error": drawn.get("reward_error"),
        "KL": drawn.get("kl"),
        "drift": None if chosen is None else chosen / beta,
        "loss": scores.get("loss"),
    }
