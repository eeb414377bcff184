"""On-policy rounds: the policy answers, a judge compares, DPO learns, and the new policy answers.

Each round is a file of pairs (dpo_lite.evaluate.own_pairs) and an ordinary run, both in the folder
of the run that the rounds begin with. What is on disk is the memory: a round that is whole is
passed over, one that stopped goes on. Where the judge are votes of yours, a round draws two answers
to each prompt (dpo_lite.compare.ballots) and waits until you have voted on them. Iterative DPO: Xu
et al. 2023, arXiv:2312.16682; Dong et al. 2024, arXiv:2405.07863.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpo_lite.compare.ballots import ENDING, as_lines, pairs_of_votes, read_ballots
from dpo_lite.compare.votes import read_votes
from dpo_lite.errors import UserError, disk_faults_told
from dpo_lite.evaluate.drawn_file import Tally, files_of
from dpo_lite.evaluate.own_pairs import By, Drawing, draw_pairs, load_drawing
from dpo_lite.evaluate.preferences import judging_recipe
from dpo_lite.evaluate.round_recipes import drawing_recipe, recipe_of_pairs
from dpo_lite.files import safe_name, write_text
from dpo_lite.model.adapter_files import trained_adapter
from dpo_lite.model.device_memory import release
from dpo_lite.recipe import Recipe, apply_override, validate_recipe
from dpo_lite.runs.device_lock import device_lock
from dpo_lite.runs.folder import Run
from dpo_lite.runs.progress import Bar
from dpo_lite.studies.steps import refuse_another, take


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
    by: By = "reward"
    judge: Sequence[str] = ()  # keys of the judge, where one is asked


class WaitsForVotes(UserError):
    """A round has drawn, and the votes on what it drew are not there yet."""


@dataclass(frozen=True)
class Round:
    """``drawn``: of the policy that the round began with. ``run`` is None of the last drawing,
    which no round follows."""

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

    A last drawing says what the last round's policy is worth by its rewards, where it has any; it
    becomes the next round's where one more is asked for. Raises UserError where a step fails, and
    WaitsForVotes where it is your turn.
    """
    # All rounds ask its prompts and train as it did.
    recipe = judging_recipe(first, asked.judge)
    folder = first.path.parent
    rounds, policy = [], first
    for number in range(1, asked.rounds + 1):
        name = safe_name(f"{first.name}-round-{number}")
        out = folder / f"{name}.jsonl"
        _take_over(folder / f"{last_drawing(first, number - 1)}.jsonl", out)
        tally = _pairs(recipe, policy, asked, number, out, say, bar)
        if not tally.pairs:
            raise UserError(f"No pair came of round {number}; draw more answers per prompt.")
        training = _training(recipe, trained_adapter(policy), out, name, asked)
        run = Run(Path(training.run.folder) / name)
        refuse_another(run, training)
        say(f"round {number} of {asked.rounds}: training on {tally.pairs} pairs")
        take(run, training)
        rounds.append(Round(number, policy.name, tally, run))
        if run.status()["state"] != "finished":
            return rounds
        policy = run
    if asked.by == "reward":
        out = folder / f"{last_drawing(first, asked.rounds)}.jsonl"
        number = asked.rounds + 1
        if (folder / f"{first.name}-round-{number}.jsonl").is_file():  # of more rounds than now
            out = folder / f"{first.name}-round-{number}.jsonl"
        say("drawing from the last policy, to tell what its answers are worth")
        tally = _drawn(recipe, policy, asked, number, out, say, bar)
        rounds.append(Round(number, policy.name, tally, None))
    return rounds


def last_drawing(first: Run, rounds: int) -> str:
    """What the drawing is called that follows the last round and is none itself."""
    return safe_name(f"{first.name}-after-round-{rounds}")


def _take_over(earlier: Path, out: Path) -> None:
    """The last drawing of fewer rounds is the first thing that one more would do."""
    for old, new in zip(files_of(earlier), files_of(out), strict=True):
        if old.is_file() and not new.exists():
            old.rename(new)


def _pairs(
    recipe: Recipe,
    policy: Run,
    asked: Asked,
    number: int,
    out: Path,
    say: Callable[[str], None],
    bar: Bar,
) -> Tally:
    """The round's pairs, written; of votes those that there are on what it drew."""
    if asked.by != "votes":
        return _drawn(recipe, policy, asked, number, out, say, bar)
    ballots = out.with_name(f"{out.stem}{ENDING}")
    tally = _drawn(recipe, policy, asked, number, ballots, say, bar)
    pairs = list({pair.key: pair for pair in read_ballots(ballots)}.values())
    if not out.is_file():
        rows, left = pairs_of_votes(pairs, read_votes(out.parent), recipe.data.raw)
        if left:
            raise WaitsForVotes(
                f"Round {number} has drawn {len(pairs):,} pairs and {left:,} of them wait for your"
                f" vote: start `dpo-lite ui{_where(out.parent)}`, open Compare, choose"
                f" {policy.name} and press Next drawn pair; then give the same command again."
            )
        with disk_faults_told():
            write_text(out, as_lines(rows))
    kept = out.read_bytes().count(b"\n")  # an answer may hold other ends of lines than this one
    return replace(tally, pairs=kept, alike=len(pairs) - kept)


def _where(folder: Path) -> str:
    return "" if folder == Path("runs") else f" --runs {shlex.quote(str(folder))}"


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
            drawing = load_drawing(asks, asked.prompts, say, number - 1, out, asked.by)
            return _draw(drawing, asked, out, bar)
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
