"""The steps of a whole RLHF run: which runs it is made of, from its recipe alone."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dpo_lite.errors import UserError
from dpo_lite.files import safe_name
from dpo_lite.recipe import Recipe, load_recipe, validate_recipe
from dpo_lite.recipe.sections import FRESH
from dpo_lite.runs.folder import Run
from dpo_lite.tasks import TASKS, sections_of_tasks

Kind = Literal["sft", "reward", "ppo", "dpo"]


MOST_NAMED = 12


@dataclass(frozen=True)
class Step:
    """One run of an RLHF run; ``beta`` where it is a point of a frontier."""

    kind: Kind
    seed: int
    beta: float | None
    recipe: Recipe

    @property
    def run(self) -> Run:
        return Run(Path(self.recipe.run.folder) / self.recipe.run.name)


def plan_steps(recipe: Recipe, name: str) -> list[Step]:
    """All steps in their order, each a validated recipe; raises UserError for a wrong key in any.

    ``name``: of the RLHF run, with which the names of its steps begin.
    """
    steps = []
    for seed in recipe.rlhf.seeds:
        sft = make_step(recipe, name, "sft", seed)
        reward = make_step(recipe, name, "reward", seed, start=sft)
        steps += [sft, reward]
        steps += [
            make_step(recipe, name, "ppo", seed, b, sft, reward) for b in recipe.rlhf.ppo_betas
        ]
        steps += [make_step(recipe, name, "dpo", seed, b, sft) for b in recipe.rlhf.dpo_betas]
    return steps


def first_look(recipe: Recipe, name: str) -> tuple[Recipe, str]:
    """What a preflight or a plan is of: the recipe itself, and of a run made of runs its first
    step, for the others need what it leaves. With a line that says so; raises UserError for a fault
    in any."""
    if not TASKS[recipe.task].composed:
        return recipe, ""
    steps = plan_steps(recipe, recipe.run.name or name)
    return steps[0].recipe, (
        f"{len(steps)} runs, one after the other, and all their recipes are valid. This looks at "
        f"the first, SFT ({steps[0].run.name}); each of the others is looked at before it starts."
    )


def steps_of(run: Run) -> list[tuple[Run, dict[str, Any]]]:
    """The runs of an RLHF run in order, each with its status; ``to come`` before it is made."""
    steps = plan_steps(load_recipe(run.recipe_file), run.name)
    return [
        (step.run, step.run.status() if step.run.path.exists() else {"state": "to come"})
        for step in steps
    ]


def refuse_composed(run: Run) -> None:
    """Raise UserError where an adapter is wanted of a run made of runs: only those have one."""
    try:
        recipe = load_recipe(run.recipe_file)
        composed = TASKS[recipe.task].composed
        names = [s.run.name for s in plan_steps(recipe, run.name)] if composed else []
    except UserError:  # whoever needs the recipe will tell
        return
    if not names:
        return
    listed = ", ".join(names[:MOST_NAMED]) + ", …" * (len(names) > MOST_NAMED)
    raise UserError(
        f"{run.name} is made of runs (task: rlhf) and has no adapter of its own; name one of its "
        f"runs: {listed}."
    )


def make_step(
    recipe: Recipe,
    name: str,
    kind: Kind,
    seed: int,
    beta: float | None = None,
    start: Step | None = None,
    reward: Step | None = None,
) -> Step:
    own_sections = TASKS[kind].sections
    left_out = {"task", "reference", *sections_of_tasks()} - set(own_sections)
    shared = recipe.model_dump(exclude=left_out, exclude_unset=True)
    values = _merged(shared, {"task": kind}, getattr(recipe.rlhf, kind))
    label = "-".join(
        [name, kind]
        + ([f"b{beta:g}"] if beta is not None else [])
        + ([f"s{seed}"] if len(recipe.rlhf.seeds) > 1 else [])
    )
    own: dict[str, Any] = {"run": {"name": safe_name(label)}, "train": {"seed": seed}}
    if beta is not None:
        own["train"]["beta"] = beta
    if start:
        own["model"] = {"adapter": str(start.run.adapter)}
        for key in FRESH:
            values.get("adapter", {}).pop(key, None)
    if reward:
        own["ppo"] = {"reward": str(reward.run.adapter)}
    if not TASKS[kind].answers:
        own["eval"] = {"prompts": [], "sample_steps": None, "suite": []}
    return Step(kind, seed, beta, validate_recipe(_merged(values, own), f"rlhf.{kind}"))


def _merged(*parts: dict[str, Any]) -> dict[str, Any]:
    """Sections of later parts over those of earlier ones, key by key."""
    whole: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            if isinstance(value, dict) and isinstance(whole.get(key), dict) and key != "where":
                whole[key] = whole[key] | deepcopy(value)
            else:
                whole[key] = deepcopy(value)
    return whole
