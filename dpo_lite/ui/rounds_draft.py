"""On-policy rounds that are to be started from a run: who judges, how many, by which command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dpo_lite.errors import UserError
from dpo_lite.names import is_function
from dpo_lite.recipe import load_recipe
from dpo_lite.runs.folder import Run, run_names
from dpo_lite.tasks import TASKS

REWARD, MODEL, VOTES = "a reward", "a language model", "my votes"
JUDGES = (REWARD, MODEL, VOTES)
ROUNDS = 3


@dataclass(frozen=True)
class Asked:
    """What the fields say; ``prompts``: a round takes, 0 for all of the run's."""

    judge: str
    reward: str = ""
    url: str = ""
    model: str = ""
    rounds: float | None = ROUNDS
    prompts: float | None = None


def reward_runs(folder: Path) -> list[str]:
    """Finished runs that judge, the newest first."""
    found = []
    for name in run_names(folder):
        run = Run(folder / name)
        try:
            heads = TASKS[load_recipe(run.recipe_file).task].head
        except UserError:
            continue
        if heads and run.status()["state"] == "finished":
            found.append(name)
    return found


def why_not(folder: Path, name: str, state: str | None = None) -> str:
    """Why no rounds begin with a run; empty where they can. ``state``: of it, where known."""
    run = Run(folder / name)
    try:
        task = TASKS[load_recipe(run.recipe_file).task]
    except UserError as error:
        return str(error)
    if not task.answers:
        return f"{name} gives no answers of its own, which rounds are made of."
    state = state or run.status()["state"]
    return "" if state == "finished" else f"{name} is {state}; rounds begin with a finished run."


def command(folder: Path, name: str, asked: Asked, allow_code: bool = True) -> list[str]:
    """The command that starts them. Raises UserError for a field that is missing or wrong."""
    if why := why_not(folder, name):
        raise UserError(why)
    words = ["dpo-lite", "rounds", str(folder / name), *_judge(folder, asked, allow_code)]
    words += ["--rounds", str(count_of(asked))]
    if prompts := _count(asked.prompts, "Prompts a round"):
        words += ["--prompts", str(prompts)]
    return words if str(folder) == "runs" else [*words, "--runs", str(folder)]


def count_of(asked: Asked) -> int:
    """How many rounds. Raises UserError for what is no such number."""
    return _count(asked.rounds, "Rounds") or ROUNDS


def by(asked: Asked) -> str:
    """The judge as `dpo-lite rounds` calls it."""
    return {REWARD: "reward", MODEL: "model", VOTES: "votes"}[asked.judge]


def _judge(folder: Path, asked: Asked, allow_code: bool) -> list[str]:
    if asked.judge == VOTES:
        return ["--judge", "votes"]
    if asked.judge == MODEL:
        if not asked.url.strip() or not asked.model.strip():
            raise UserError("A language model that judges needs its address and its name.")
        if not allow_code:
            raise UserError(
                "This page asks no judge at an address that its visitors name; it was started"
                " without --allow-code."
            )
        own = [f"judge.url={asked.url.strip()}", f"judge.model={asked.model.strip()}"]
        return [*own, "--judge", "model"]
    reward = asked.reward.strip()
    if not reward:
        raise UserError("Which reward? A reward run, its adapter, or file.py:function.")
    if is_function(reward) and not allow_code:
        raise UserError(
            f"{reward} is Python code of its own, which this page does not run; it was started"
            " without --allow-code."
        )
    known = (folder / reward).is_dir() and "/" not in reward
    return ["--reward", str(folder / reward) if known else reward]


def _count(number: float | None, label: str) -> int | None:
    """None where nothing is said, which 0 says too."""
    if not number:
        return None
    if number < 1 or number != int(number):
        raise UserError(f"{label}: a whole number, or nothing.")
    return int(number)
