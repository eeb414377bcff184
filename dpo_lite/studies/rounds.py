"""On-policy rounds: the policy answers, a judge compares, DPO learns, and the new policy answers.

Each round is a file of pairs (dpo_lite.evaluate.own_pairs) and an ordinary run, both in the folder
of the run that the rounds begin with. What is on disk is the memory: a round that is whole is
passed over, one that stopped goes on. Iterative DPO: Xu et al. 2023, arXiv:2312.16682; Dong et al.
2024, arXiv:2405.07863.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lite.errors import UserError
from dpo_lite.evaluate.own_pairs import (
    Drawing,
    Tally,
    draw_pairs,
    drawing_recipe,
    load_drawing,
    recipe_of_pairs,
)
from dpo_lite.files import safe_name
from dpo_lite.model.adapter_files import trained_adapter
from dpo_lite.model.device_memory import release
from dpo_lite.rates import rate_at
from dpo_lite.recipe import Recipe, apply_override, load_recipe, validate_recipe
from dpo_lite.runs.device_lock import device_lock
from dpo_lite.runs.folder import Run
from dpo_lite.studies.steps import refuse_another, take

Bar = Callable[[str, int], Callable[[int], None]]  # what is done and of how many: what advances it


@dataclass(frozen=True)
class Asked:
    """``section``: reward, answers and max_new_tokens, as keys of ppo. ``prompts``: how many a
    round takes, each the next ones, None for all. ``changes``: keys of each round's training."""

    rounds: int
    section: dict[str, Any]
    prompts: int | None
    margin: float
    seed: int
    changes: Sequence[str] = ()


@dataclass(frozen=True)
class Round:
    """``drawn``: of the policy that the round began with. ``run`` is None of the last drawing."""

    number: int
    policy: str
    drawn: Tally
    run: Run | None


def go(
    first: Run,
    asked: Asked,
    say: Callable[[str], None],
    bar: Bar,
) -> list[Round]:
    """Take the rounds that are not done; the last one's ``run`` is None or stopped where it was
    stopped. ``bar(what, count)`` shows progress and returns what advances it.

    A last drawing says what the last round's policy is worth. Raises UserError where a step fails.
    """
    recipe = load_recipe(first.recipe_file)  # all rounds ask its prompts and train as it did
    rounds, policy = [], first
    for number in range(1, asked.rounds + 2):
        name = safe_name(f"{first.name}-round-{number}")
        out = first.path.parent / f"{name}.jsonl"
        tally = _drawn(recipe, policy, asked, number, out, say, bar)
        if number > asked.rounds:
            rounds.append(Round(number, policy.name, tally, None))
            break
        if not tally.pairs:
            raise UserError(f"No pair came of round {number}; draw more answers per prompt.")
        training = _training(recipe, trained_adapter(policy), out, name, asked)
        run = Run(Path(training.run.folder) / name)
        refuse_another(run, training)
        say(f"round {number} of {asked.rounds}: training on {tally.pairs} pairs")
        take(run, training)
        rounds.append(Round(number, policy.name, tally, run))
        if run.status()["state"] != "finished":
            break
        policy = run
    return rounds


def _drawn(
    recipe: Recipe,
    policy: Run,
    asked: Asked,
    number: int,
    out: Path,
    say: Callable[[str], None],
    bar: Bar,
) -> Tally:
    """The pairs of a round, each round from random numbers of its own."""
    asks = drawing_recipe(recipe, trained_adapter(policy), asked.section, asked.seed + number - 1)
    try:
        with device_lock("drawing", say=say):
            return _draw(load_drawing(asks, asked.prompts, say, number - 1), asked, out, bar)
    finally:  # the training is another process and needs the room
        release()


def _draw(drawing: Drawing, asked: Asked, out: Path, bar: Bar) -> Tally:
    return draw_pairs(drawing, out, asked.margin, bar("drawing", len(drawing.prompts)))


def _training(recipe: Recipe, adapter: Path, out: Path, name: str, asked: Asked) -> Recipe:
    values = recipe_of_pairs(recipe, adapter, out).model_dump(exclude_unset=True)
    values["run"] = values.get("run", {}) | {"name": name}
    for change in asked.changes:
        apply_override(values, change)
    return validate_recipe(values, "a round")


def held_out_words(run: Run) -> str:
    """What a finished round's held-out sets say: the claims of its answers where the data can tell
    them apart, else how often the reward agrees."""
    words = []
    for name, measured in run.results()["sets"].items():
        said = rate_at(measured, "generation", "policy") or rate_at(measured, "rewards/accuracies")
        words.append(f"{name} {said.words()}" if said else name)
    return ", ".join(words)
