"""All of RLHF in one run: SFT, a reward model, PPO on its rewards; DPO beside it.

Every step is an ordinary run in the same folder, made from the recipe's shared sections and the
keys of its own in ``rlhf``; the run's own folder keeps what is compared in the end. DPO starts
from the same SFT adapter as PPO and is held to it too: both trade reward for KL from one point.

What is on disk is the memory: a step that is finished is passed over, one that stopped goes on.
Each step is a process of its own, so that what it takes of the memory is told of it alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console

from dpo_lite.files import write_json, write_text
from dpo_lite.hub.while_training import check_push
from dpo_lite.imports import quick_imports
from dpo_lite.recipe import Recipe, load_recipe, to_yaml
from dpo_lite.report.rlhf import POINTS, points_of, write_rlhf_report
from dpo_lite.runs.folder import Run, create_run
from dpo_lite.runs.progress import doing
from dpo_lite.runs.rlhf_steps import Step, make_step, plan_steps
from dpo_lite.runs.transcript import keep_in
from dpo_lite.runs.watched import recorded
from dpo_lite.studies.steps import refuse_another, take


def start(recipe: Recipe, stem: str, console: Console) -> Run:
    """Make the run of runs; every step's recipe is looked at before the first one starts."""
    plan_steps(recipe, recipe.run.name or stem)
    check_push(recipe, console.print)
    run = create_run(recipe.run.folder, recipe.run.name, stem)
    recipe.run.name = run.name
    write_text(run.recipe_file, to_yaml(recipe))
    keep_in(console, run.path / "log.txt")
    return recorded(run, lambda: go(run, console))


def resume(run: Run, console: Console, anyway: bool = False) -> Run:
    """Go on with the step that is not finished; ``anyway`` as dpo_lite.jobs.train has it."""
    for text in run.take_up():
        console.print(text, markup=False, highlight=False)
    keep_in(console, run.path / "log.txt")
    return recorded(run, lambda: go(run, console, anyway))


def go(run: Run, console: Console, anyway: bool = False) -> Run:
    """Take every step that is not done; stop where somebody stops it. Ends with the report."""
    recipe = load_recipe(run.recipe_file)
    steps = plan_steps(recipe, run.name)
    for step in steps:
        refuse_another(step.run, step.recipe)
    run.begin(step=0, max_steps=len(steps), doing="training")
    started, taken = time.time(), 0
    for number, step in enumerate(steps):
        title = f"{number + 1} of {len(steps)}  {step.run.name}: {step.recipe.objective}"
        console.rule(title, align="left", style="dim")
        run.update_status(step=number, doing=step.run.name)
        taken += take(step.run, step.recipe, anyway)
        if step.run.status()["state"] == "stopped":
            run.update_status(state="stopped", seconds_left=None, doing=None)
            return run
        _measure_what_can_be(run, recipe, steps[: number + 1], console)
        left = (time.time() - started) / max(taken, 1) * (len(steps) - number - 1)
        run.update_status(step=number + 1, seconds_left=round(left))
    write_json(run.path / "results.json", {"sets": {}, "steps": [step.run.name for step in steps]})
    write_rlhf_report(run)
    run.update_status(state="finished", seconds_left=0, finished=time.time(), doing=None)
    return run


def _measure_what_can_be(run: Run, recipe: Recipe, steps: Sequence[Step], console: Console) -> None:
    """Append a point for every step that has none yet and whose reward model there is."""
    with quick_imports():
        from dpo_lite.studies.rlhf_points import measured  # with all that loads a model

    known = {point["run"] for point in points_of(run)}
    for reward in (step for step in steps if step.kind == "reward"):
        sft = next(s for s in steps if s.kind == "sft" and s.seed == reward.seed)
        ruler = make_step(recipe, run.name, "ppo", reward.seed, 1.0, sft, reward).recipe
        for step in (s for s in steps if s.seed == reward.seed and s.run.name not in known):
            results = step.run.results()
            point = {
                "run": step.run.name,
                "kind": step.kind,
                "seed": step.seed,
                "beta": step.beta,
                "seconds": results.get("seconds"),
                "memory": results.get("peak_memory"),
            }
            if step.kind == "reward":
                point["sets"] = {
                    name: {
                        "accuracy": scores.get("rewards/accuracies"),
                        "pairs": scores.get("pairs"),
                    }
                    for name, scores in results["sets"].items()
                }
            else:
                with doing(console, f"measuring {step.run.name}"):
                    point["sets"] = measured(ruler, step.run.adapter, recipe.rlhf.answers)
            run.append(POINTS, point)
