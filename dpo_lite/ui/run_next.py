"""What can be done next with a run, each as the recipe that does it. No Gradio in here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpo_lite.compare.vote_rows import free_run, preference_rows
from dpo_lite.compare.votes import read_votes
from dpo_lite.errors import UserError
from dpo_lite.recipe import Recipe, load_recipe
from dpo_lite.recipe.other_task import keys_for
from dpo_lite.report.words import counted
from dpo_lite.tasks import TASKS
from dpo_lite.tasks.spec import PAIRWISE
from dpo_lite.ui import rounds_draft

FACTORS = (0.3, 1, 3)  # of beta or of the learning rate, in the sweep that is offered
STEPS = ("again", "votes", "judge", "sweep", "rounds")


@dataclass(frozen=True)
class Next:
    """``keys``: what the recipe of the run says otherwise, as ``key=value``; ``why_not``: in one
    sentence, where it cannot be done; ``sweep``: a key and the values of it that are proposed."""

    label: str
    keys: list[str] = field(default_factory=list)
    why_not: str = ""
    sweep: tuple[str, str] | None = None


def next_steps(folder: Path, name: str, status: dict[str, Any]) -> dict[str, Next]:
    """Every step by its name in ``STEPS``; those that cannot be done say why."""
    try:
        recipe = load_recipe(folder / name / "recipe.yaml")
    except UserError as error:
        return {step: Next(LABELS[step], why_not=str(error)) for step in STEPS}
    named = [f"run.folder={folder}"]
    return {
        "again": Next(LABELS["again"], [f"run.name={free_run(folder, f'{name}-again')}", *named]),
        "votes": _votes(folder, name, recipe, status),
        "judge": _judge(folder, name, recipe, status),
        "sweep": _sweep(folder, name, recipe),
        "rounds": Next(
            LABELS["rounds"], why_not=rounds_draft.why_not(folder, name, status["state"])
        ),
    }


LABELS = {
    "again": "Again with changes",
    "votes": "Train on with votes",
    "judge": "Reward model of its data",
    "sweep": "Sweep",
    "rounds": "On-policy rounds",
}


def _votes(folder: Path, name: str, recipe: Recipe, status: dict[str, Any]) -> Next:
    label = LABELS["votes"]
    if not TASKS[recipe.task].answers:
        return Next(label, why_not=f"{name} gives no answers that could be voted on.")
    if status["state"] != "finished":
        return Next(label, why_not=f"{name} is {status['state']}; it has no adapter to go on from.")
    count = len(preference_rows(read_votes(folder), name).rows)
    if not count:
        return Next(label, why_not=f"No vote on {name} prefers one answer; vote in Compare first.")
    return Next(f"{label} ({counted(count, 'pair')})")


def free_file(recipes: Path, name: str) -> Path:
    """Where the votes on a run are written: a file that is not there yet."""
    number = 1
    while (recipes / f"{name}-votes-{number}.jsonl").exists():
        number += 1
    return recipes / f"{name}-votes-{number}.jsonl"


def _judge(folder: Path, name: str, recipe: Recipe, status: dict[str, Any]) -> Next:
    """A reward model of the run's pairs, and of a reward model's run the PPO that obeys it."""
    named = [f"run.folder={folder}"]
    task = TASKS[recipe.task]
    if task.head:
        label = "PPO with this reward"
        if status["state"] != "finished":
            return Next(label, why_not=f"{name} is {status['state']}; it judges nothing yet.")
        keys = [*keys_for(recipe, "ppo"), f"ppo.reward={folder / name}"]
        return Next(label, [f"run.name={free_run(folder, f'{name}-ppo')}", *named, *keys])
    label = LABELS["judge"]
    if task.pairs != PAIRWISE:
        return Next(label, why_not=f"{name} is {recipe.task}; a reward model learns from pairs.")
    keys = [f"run.name={free_run(folder, f'{name}-reward')}", *named, *keys_for(recipe, "reward")]
    return Next(label, keys)


def _sweep(folder: Path, name: str, recipe: Recipe) -> Next:
    """Beta where the task has one, else the learning rate, below and above the run's value."""
    if why := TASKS[recipe.task].not_swept:
        return Next(LABELS["sweep"], why_not=f"{name} is no point of a sweep: {why}.")
    facts = TASKS[recipe.task].facts(recipe.model_dump())
    key = "beta" if any(fact.startswith("beta") for fact in facts) else "lr"
    value = getattr(recipe.train, key)
    values = ", ".join(f"{factor * value:.3g}" for factor in FACTORS)
    named = [f"run.name={free_run(folder, f'{name}-again')}", f"run.folder={folder}"]
    return Next(LABELS["sweep"], named, sweep=(f"train.{key}", values))
