"""`dpo-lite verify`: the first updates of a run once more, from its recipe, held against its own.

A run's folder has them in metrics.jsonl, a published repository in replay.json. The replay is a
run of its own in a folder that goes away: the same preflight, the same schedule, stopped after so
many updates. Where that is all of them, the adapters are compared as well.
"""

from __future__ import annotations

import datetime
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from dpo_lite.errors import UserError
from dpo_lite.files import read_json, write_text
from dpo_lite.jobs.launch import device
from dpo_lite.jobs.manifest import manifest
from dpo_lite.jobs.train import prepare_run
from dpo_lite.model import roles
from dpo_lite.model.adapter_files import WEIGHTS, start_adapter
from dpo_lite.model.tensor_files import load_tensors
from dpo_lite.names import is_public
from dpo_lite.recipe import Recipe, load_recipe, to_yaml
from dpo_lite.recipe.consent import code_in
from dpo_lite.report.replay import COMPARED, REPLAY, keep_verified, replay_facts
from dpo_lite.report.run import write_report
from dpo_lite.runs.folder import Run, is_run
from dpo_lite.runs.results import are_numbers
from dpo_lite.runs.rlhf_steps import refuse_composed
from dpo_lite.tasks import TASKS
from dpo_lite.training.callbacks import RunRecorder
from dpo_lite.training.reference_cache import open_cache
from dpo_lite.training.reward_source import kept_reward

UPDATES = 10
# What may lie between two replays, as a share of the largest value of its kind in these updates:
# of one machine and versions, and of others, whose numbers round otherwise.
ALIKE, APART = 1e-3, 2e-2
JUDGED_APART = ("loss", "logps/chosen", "logps/rejected")
FETCHED = ["recipe.yaml", REPLAY, WEIGHTS]
Facts = dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """What is replayed: ``run`` where it is one of this machine."""

    folder: Path
    recipe: Recipe
    facts: Facts  # as ``replay_facts`` has them
    adapter: Path
    run: Run | None = None


def claim_of(name: str, runs: str | Path) -> Claim:
    """A run by name or folder, or a published repository by folder or Hub id.

    Raises UserError where there is nothing to hold a replay against, or it would run foreign code.
    """
    for path in (Path(name), Path(runs) / name):
        if is_run(path) and not (path / REPLAY).is_file():
            run = Run(path)
            refuse_composed(run)
            recipe = load_recipe(run.recipe_file)
            recipe.model.adapter = start_adapter(run, recipe)
            recipe.ppo.reward = kept_reward(run, recipe)
            return Claim(path, recipe, replay_facts(run, None), run.adapter, run)
    folder = Path(name) if Path(name).is_dir() else _fetched(name)
    facts = read_json(folder / REPLAY)
    if facts is None or not (folder / "recipe.yaml").is_file():
        raise UserError(
            f"{name} has no {REPLAY} with what its updates measured, so a replay has nothing to be"
            " held against; runs that are pushed from now on have it."
        )
    if not _is_whole(facts):
        raise UserError(f"{folder / REPLAY} is damaged; fetch it again, or have it pushed anew.")
    recipe = load_recipe(folder / "recipe.yaml")
    if key := code_in(recipe):
        raise UserError(
            f"The recipe of {name} runs Python code that is not ours ({key}); read it, and train"
            " by the recipe yourself if you trust it."
        )
    recipe.model.revision = recipe.model.revision or facts.get("base_revision")
    return Claim(folder, recipe, facts, folder)


def _is_whole(facts: Facts) -> bool:
    """Whether it is as ``report.replay.replay_facts`` writes it."""
    first, data = facts.get("first"), facts.get("data")
    if not isinstance(first, list) or not isinstance(data, dict) or "device" not in facts:
        return False
    steps = all(are_numbers(step) and type(step.get("step")) is int for step in first)
    numbers = steps and all(None not in step.values() for step in first)
    texts = [data.get("fingerprint"), facts.get("base_revision")]
    named = all(isinstance(text, str | None) for text in texts) and "versions" in facts
    return numbers and named and type(facts.get("updates")) is int


def _fetched(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError

    if not is_public(name):
        raise UserError(f"There is no run, folder or repository {name}.")
    try:
        return Path(snapshot_download(name, allow_patterns=FETCHED))
    except (HTTPError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{name} could not be fetched from the Hub ({reason}).") from None


def verify(
    claim: Claim, console: Console, updates: int = UPDATES, say: Callable[[str], None] = print
) -> Facts:
    """Replay the first updates; returns the verdict, which stays in a run of this machine."""
    first = claim.facts["first"]
    if not first:
        raise UserError(f"{claim.folder} logged no update, so there is nothing to compare.")
    count = min(updates, len(first))
    recipe = claim.recipe
    recipe.run.report_to, recipe.run.report_adapter = [], False
    with tempfile.TemporaryDirectory() as place, device("dpo-lite verify", say):
        run = Run(Path(place))
        write_text(run.recipe_file, to_yaml(recipe))
        now, adapter = _replayed(run, recipe, claim, count, console)
    verdict = judged(claim.facts, now, count) | {"adapter": adapter}
    limit = ALIKE if verdict["alike"] else APART
    if adapter is not None and not adapter <= limit and verdict["reproduced"]:
        why = f"the adapters lie {adapter:.1g} of their largest weight apart"
        verdict |= {"reproduced": False, "why": why}
    if claim.run:
        keep_verified(claim.run, verdict)
        if (claim.run.path / "report.md").is_file():
            write_report(claim.run)
    return verdict


def _replayed(
    run: Run, recipe: Recipe, claim: Claim, count: int, console: Console
) -> tuple[Facts, float | None]:
    """The facts of the replay, and how far the adapters lie apart, where it went to the end."""
    loaded, report, objective = prepare_run(recipe, console)
    wanted = claim.facts["data"]["fingerprint"]
    if wanted and loaded.data.fingerprint != wanted:
        raise UserError(
            "The data are not those of the run (their fingerprint is"
            f" {loaded.data.fingerprint[:12]}, not {wanted[:12]}), so its updates cannot be"
            " replayed; find the data as they were."
        )
    facts = manifest(loaded, report)
    recorder = Few(run, console, count)
    trainer = TASKS[recipe.task].mechanics.trainer(
        loaded,
        objective,
        report.plan.budget,
        run.checkpoints,
        recorder,
        open_cache(recipe, loaded.model, objective),
        {},
        report.rehearsal,
    )
    try:
        trainer.train()
    finally:
        recorder.close()
    now = {
        "device": facts["device"],
        "versions": {"dpo_lite": facts["dpo_lite"], **facts["versions"]},
        "first": run.steps(),
    }
    whole = count == claim.facts["updates"] and not recipe.train.looks
    if not whole or not (claim.adapter / WEIGHTS).is_file():
        return now, None
    roles.save_policy(loaded.model, run.adapter, recipe.model.base, recipe.model.revision)
    return now, apart(load_tensors(claim.adapter / WEIGHTS), load_tensors(run.adapter / WEIGHTS))


class Few(RunRecorder):
    """Stops after so many updates."""

    def __init__(self, run: Run, console: Console, count: int):
        super().__init__(run, console)
        self.count = count

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step >= self.count:
            control.should_training_stop = True
        return control


def apart(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """The largest difference of two adapters' weights, as a share of the largest weight."""
    if ours.keys() != theirs.keys():
        return float("inf")
    largest = max(tensor.abs().max().item() for tensor in ours.values())
    return max((ours[n] - theirs[n]).abs().max().item() for n in ours) / largest


def judged(claimed: Facts, now: Facts, count: int) -> Facts:
    """Whether the first ``count`` updates of two runs measured the same, and how far apart."""
    alike = all(claimed[key] == now[key] for key in ("device", "versions"))
    keys = COMPARED if alike else JUDGED_APART
    before = {step["step"]: step for step in claimed["first"][:count]}
    after = {step["step"]: step for step in now["first"]}
    distances, why = {}, None
    for key in COMPARED:
        pairs = [(b[key], after.get(s, {}).get(key)) for s, b in before.items() if key in b]
        if not pairs:
            continue
        if any(new is None for _, new in pairs):
            why = why or f"the replay logged no {key}"
            continue
        gaps = [abs(old - new) for old, new in pairs]
        distances[key] = max(gaps) if all(map(math.isfinite, gaps)) else math.inf
        scale = max(abs(old) for old, _ in pairs)
        if key in keys and not distances[key] <= (ALIKE if alike else APART) * scale + 1e-5:
            why = why or f"{key} differs by {distances[key]:.2g}"
    return {
        "reproduced": why is None,
        "why": why,
        "alike": alike,
        "updates": count,
        "of": claimed["updates"],
        "apart": distances,
        "date": datetime.date.today().isoformat(),
        "device": now["device"],
        "versions": now["versions"],
    }
