"""The whole road of RLHF in one run: SFT, a reward model, PPO on its rewards; DPO beside it.

Every step is an ordinary run in the same folder, made from the recipe's shared sections and the
keys of its own in ``rlhf``; the road's own folder keeps what is compared in the end. DPO starts from
the same SFT adapter as PPO and is held to it too, so that both trade reward for KL from one point.

What is on disk is the memory: a step that is finished is passed over, one that stopped goes on.
Each step is a process of its own, so that what it takes of the memory is told of it alone.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Console

from dpo_lite import launching
from dpo_lite.errors import UserError
from dpo_lite.recipe import Recipe, load_recipe, to_yaml, validate_recipe
from dpo_lite.runs import Run, read_json, safe_name, write_json, write_text

Kind = Literal["sft", "reward", "ppo", "dpo"]
POINTS = "points.jsonl"


@dataclass(frozen=True)
class Step:
    """One run of the road; ``beta`` where it is a point of a frontier."""

    kind: Kind
    seed: int
    beta: float | None
    recipe: Recipe

    @property
    def run(self) -> Run:
        return Run(_folder(self.recipe))


def _folder(recipe: Recipe):
    from pathlib import Path

    return Path(recipe.run.folder) / recipe.run.name


def plan_road(recipe: Recipe, name: str) -> list[Step]:
    """All steps in their order, each a validated recipe; raises UserError for a wrong key in any.

    ``name``: of the road's run, with which the names of its steps begin.
    """
    steps = []
    for seed in recipe.rlhf.seeds:
        sft = _step(recipe, name, "sft", seed)
        reward = _step(recipe, name, "reward", seed, start=sft)
        steps += [sft, reward]
        steps += [_step(recipe, name, "ppo", seed, b, sft, reward) for b in recipe.rlhf.ppo_betas]
        steps += [_step(recipe, name, "dpo", seed, b, sft) for b in recipe.rlhf.dpo_betas]
    return steps


def _step(
    recipe: Recipe,
    name: str,
    kind: Kind,
    seed: int,
    beta: float | None = None,
    start: Step | None = None,
    reward: Step | None = None,
) -> Step:
    shared = recipe.model_dump(exclude={"task", "rlhf", "reference", "ppo"}, exclude_unset=True)
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
    if reward:
        own["ppo"] = {"reward": str(reward.run.adapter)}
    if kind == "reward":  # it answers nothing
        own["eval"] = {"prompts": []}
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


def go(run: Run, console: Console) -> Run:
    """Take every step that is not done; stop where somebody stops it. Ends with the report."""
    from dpo_lite.road_report import write_road

    recipe = load_recipe(run.recipe_file)
    steps = plan_road(recipe, run.name)
    run.begin(step=0, max_steps=len(steps), doing="training")
    started = time.time()
    for number, step in enumerate(steps):
        told = f"{number + 1} of {len(steps)}  {step.run.name}: {step.recipe.objective}"
        console.rule(told, align="left", style="dim")
        run.update_status(step=number, doing=step.run.name)
        try:
            _train(step)
        except KeyboardInterrupt:
            _stop(step.run)
        state = step.run.status()
        if state["state"] == "stopped":
            run.update_status(state="stopped", seconds_left=None, doing=None)
            return run
        if state["state"] != "finished":
            raise UserError(
                f"{step.run.path} {state['state']}: {state.get('error') or 'see its log.txt'} "
                "Go on by training the road again."
            )
        if step.run.name not in {point["run"] for point in run.records(POINTS)}:
            _measure(run, step, steps, console)
        done = number + 1
        left = (time.time() - started) / done * (len(steps) - done)
        run.update_status(step=done, seconds_left=round(left))
    results = {"sets": {}, "road": True, "seconds": time.time() - started}
    write_json(run.path / "results.json", results)
    write_road(run)
    run.update_status(state="finished", seconds_left=0, finished=time.time(), doing=None)
    return run


def _train(step: Step) -> None:
    """The step as a process of its own, in a session of its own: Ctrl-C reaches it through us."""
    run = step.run
    if run.recipe_file.is_file() and run.status()["state"] == "finished":
        return
    if not run.recipe_file.is_file():
        run.path.mkdir(parents=True, exist_ok=True)
        run.update_status(state="queued", launched=time.time())
        write_text(run.recipe_file, to_yaml(step.recipe))
    command = [sys.executable, "-m", "dpo_lite", "train", "--resume", str(run.path)]
    process = subprocess.Popen(command, start_new_session=True, env=launching.environment())
    try:
        process.wait()
    except KeyboardInterrupt:
        _stop(run)
        process.wait()


def _stop(run: Run) -> None:
    """Have the step finish its update and save."""
    if run.status()["state"] != "finished":
        launching.stop(run)


def _measure(run: Run, step: Step, steps: Sequence[Step], console: Console) -> None:
    """Draw held-out answers with the step's policy and keep what they are worth as a point."""
    from dpo_lite.road_points import measured

    results = read_json(step.run.path / "results.json") or {}
    point = {
        "run": step.run.name,
        "kind": step.kind,
        "seed": step.seed,
        "beta": step.beta,
        "seconds": results.get("seconds"),
        "memory": results.get("peak_memory"),
    }
    reward = next(s for s in steps if s.kind == "reward" and s.seed == step.seed)
    sft = next(s for s in steps if s.kind == "sft" and s.seed == step.seed)
    if step.kind == "reward":
        point["sets"] = {
            name: {"accuracy": found.get("rewards/accuracies")}
            for name, found in results["sets"].items()
        }
    elif step.kind == "sft":
        return  # measured as the reference of the first policy
    else:
        pass
    run.append(POINTS, point)
