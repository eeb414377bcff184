"""What the curves of a run mean, in words: rules over its metrics, and no model.

``advise`` is a pure function of what a run's files say, so the page, the terminal and the tests ask
the same. How it ended is the same for all; what its curves say its task knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dpo_lite.advice.rules import Advice, Curves, Rule
from dpo_lite.recipe import load_recipe
from dpo_lite.report.kept import kept_step, kept_words
from dpo_lite.report.metrics import split_eval
from dpo_lite.report.words import counted
from dpo_lite.runs.folder import UNTRAINED, Run
from dpo_lite.runs.lines import METRICS, updates
from dpo_lite.tasks import TASKS

NOTHING = (
    "Nothing was trained: the adapter changes nothing, so the policy says what the base says, and "
    "there is nothing to compare or publish. Train for more updates, or with a higher train.lr."
)
GRAVEST_FIRST = ("bad", "warn", "good", "info")


def advise(
    recipe: Mapping[str, Any],
    status: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    results: Mapping[str, Any] | None = None,
) -> list[Advice]:
    """What to make of a run: the gravest first. ``recipe`` is the recipe as nested dicts.

    ``metrics`` are the lines of metrics.jsonl, ``results`` the content of results.json.
    """
    task = TASKS[recipe["task"]]
    kept = kept_words(results, task.unit)
    if step := kept_step(results):  # what came later is not what the run is of
        metrics = [m for m in metrics if m["step"] <= step]
    sets = (results or {}).get("sets") or {}
    evals = _evals(metrics, results)
    curves = Curves(recipe, status, updates(metrics), evals, sets)
    if (results or {}).get(UNTRAINED):
        return [Advice("bad", NOTHING)]
    ending = [advice for rule in STATES if (advice := rule(curves))]
    which = [Advice("info", kept)] if kept else []
    if len(curves.steps) < task.early:
        if not ending and curves.steps:
            ending.append(_too_early(curves, f"{task.unit}s"))
        return ending + which
    notes = [*ending, *(advice for rule in task.rules if (advice := rule(curves)))]
    if not any(advice.kind in ("warn", "bad") for advice in notes):
        notes.append(task.well(curves))
    return sorted(notes + which, key=lambda advice: GRAVEST_FIRST.index(advice.kind))


def advise_run(run: Run) -> list[Advice]:
    """The same for a run folder."""
    recipe = load_recipe(run.recipe_file).model_dump()
    return advise(recipe, run.status(), run.followed(METRICS).records, run.results())


def _too_early(curves: Curves, unit: str) -> Advice:
    if curves.status["state"] == "finished":
        words = counted(len(curves.steps), unit.removesuffix("s"))
        be = "is" if len(curves.steps) == 1 else "are"
        return Advice("info", f"{words} {be} too few to tell anything from curves.")
    return Advice("info", f"Too early to tell: wait for some more {unit}.")


# --- how it ended ---------------------------------------------------------------------------------


def failed(curves: Curves) -> Advice | None:
    if curves.status["state"] != "failed":
        return None
    return Advice("bad", f"The run failed: {curves.status.get('error') or 'see its log.'}")


def interrupted(curves: Curves) -> Advice | None:
    if curves.status["state"] != "interrupted":
        return None
    return Advice(
        "warn",
        "The process ended without a word: the machine restarted, or its memory ran out. Resume "
        "goes on from the last checkpoint.",
    )


def stopped(curves: Curves) -> Advice | None:
    if curves.status["state"] != "stopped":
        return None
    if not curves.status.get("step") and not curves.steps:
        return Advice("info", "Stopped before its first update: nothing is trained. Resume begins.")
    return Advice("info", "Stopped and saved. Resume goes on as if it had never stopped.")


STATES: list[Rule] = [failed, interrupted, stopped]


def _evals(
    metrics: Sequence[Mapping[str, Any]], results: Mapping[str, Any] | None
) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Held-out points by set and metric: those while training, and the final ones."""
    evals: dict[str, dict[str, list[tuple[int, float]]]] = {}
    last = 0
    for record in metrics:
        last = max(last, record["step"])
        for key, value in record.items():
            split = split_eval(key)
            if split and isinstance(value, int | float):
                evals.setdefault(split[0], {}).setdefault(split[1], []).append(
                    (record["step"], value)
                )
    for name, scores in ((results or {}).get("sets") or {}).items():
        for key in ("loss", "rewards/accuracies", "rewards/margins", "pairs"):
            if isinstance(scores.get(key), int | float):
                evals.setdefault(name, {}).setdefault(key, []).append((last, scores[key]))
    return evals
