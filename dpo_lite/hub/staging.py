"""A folder that holds exactly what goes up: made from a list of names, never from a whole folder.

What is not listed stays at home: optimiser states, data, and ``training_args.bin``, in which
transformers would keep a token.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpo_lite.errors import UserError
from dpo_lite.files import write_json, write_text
from dpo_lite.hub.card import model_card
from dpo_lite.hub.public_recipe import public_recipe
from dpo_lite.hub.subject import Subject
from dpo_lite.model.adapter_files import REWARD_FILE, TOKENIZER, WEIGHTS, config_of
from dpo_lite.model.adds_nothing import adds_nothing
from dpo_lite.names import is_public
from dpo_lite.recipe import Recipe, load_recipe
from dpo_lite.report.curves import draw_curves
from dpo_lite.report.replay import REPLAY, replay_facts
from dpo_lite.runs.checkpoints import find_checkpoint
from dpo_lite.runs.folder import Run
from dpo_lite.runs.rlhf_steps import refuse_composed
from dpo_lite.tasks import TASKS

REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*\Z")
LONGEST_REPO = 96
TOKEN = re.compile(rb"hf_[A-Za-z0-9]{20,}")


@dataclass(frozen=True)
class Staged:
    """What would be uploaded, and where to."""

    repo: str
    private: bool  # as the recipe or the caller wants a new repository to be
    files: list[tuple[str, int]]  # name, bytes
    card: str
    notes: list[str] = field(default_factory=list)  # what differs from the run's own files


def stage(
    run: Run,
    folder: Path,
    repo: str | None = None,
    base_id: str | None = None,
    checkpoint: str | None = None,
    private: bool | None = None,
    looking: bool = False,
) -> Staged:
    """Fill ``folder`` with what belongs on the Hub. Raises UserError where it must not go there.

    ``checkpoint`` is a number of updates or ``last``; without it the run must have finished.
    ``looking``: nothing goes up, so that an adapter of a base that is not on the Hub may be looked
    at too; a note says why it could not be pushed.
    """
    subject = choose(run, base_id, checkpoint, looking)
    recipe = subject.recipe
    named = repo or recipe.hub.repo
    repo = checked_repo(f"user/{run.name}" if looking and not named else named)
    shutil.copyfile(subject.adapter / WEIGHTS, folder / "adapter_model.safetensors")
    config = config_of(subject.adapter)
    config |= {
        "base_model_name_or_path": subject.base,
        "revision": subject.revision,
        "inference_mode": True,
    }
    write_text(folder / "adapter_config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")
    if (subject.adapter / REWARD_FILE).is_file():
        shutil.copyfile(subject.adapter / REWARD_FILE, folder / REWARD_FILE)
    own_tokenizer = [name for name in TOKENIZER if (run.adapter / name).is_file()]
    for name in own_tokenizer:
        shutil.copyfile(run.adapter / name, folder / name)
    text, notes = public_recipe(recipe, subject.base)
    write_text(folder / "recipe.yaml", text)
    write_json(folder / "metrics.json", subject.results)
    write_json(folder / REPLAY, replay_facts(run))
    if subject.step is None and (run.path / "curves.png").is_file():
        shutil.copyfile(run.path / "curves.png", folder / "curves.png")
    else:
        draw_curves(run, folder / "curves.png")
    if subject.step is None:
        TASKS[recipe.task].draw_pictures(subject.results["sets"], folder)
    card = model_card(subject, repo, own_tokenizer=bool(own_tokenizer))
    write_text(folder / "README.md", card)
    _refuse_secrets(folder)
    files = [(path.name, path.stat().st_size) for path in sorted(folder.iterdir())]
    return Staged(repo, recipe.hub.private if private is None else private, files, card, notes)


def choose(run: Run, base_id: str | None, checkpoint: str | None, looking: bool = False) -> Subject:
    """The finished adapter or a checkpoint, over a base that others can load."""
    refuse_composed(run)
    recipe = load_recipe(run.recipe_file)
    manifest = run.manifest()
    if checkpoint is None:
        state = run.status()["state"]
        if state != "finished":
            raise UserError(
                f"{run.path} is {state}, not finished; go on with `dpo-lite train --resume "
                f"{run.path}`, or publish what there is with --checkpoint last."
            )
        adapter, step = run.adapter, None
        results = run.results()
    else:
        adapter, step = find_checkpoint(run, checkpoint)
        results = _metrics_until(run, step)
    if not (adapter / WEIGHTS).is_file():
        raise UserError(f"{adapter} holds no adapter_model.safetensors; train the run again.")
    if adds_nothing(adapter / WEIGHTS):
        raise UserError(
            f"{adapter} says what the base says (nothing in it was trained), so there is nothing "
            "to publish; train for more updates, or with a higher train.lr."
        )
    base = recipe.model.base if looking and not base_id else public_base(recipe, base_id)
    same = base == recipe.model.base
    revision = manifest.get("base_revision") if same else None
    return Subject(run, recipe, adapter, base, revision, step, results)


def public_base(recipe: Recipe, base_id: str | None = None) -> str:
    """The base's id on the Hub. Raises UserError where others could not load it."""
    base = base_id or recipe.hub.base_id or recipe.model.base
    if not is_public(base):
        raise UserError(
            f"The base {base} is not on the Hub, so nobody could load the adapter; if it is there "
            "under another name, give --base-id user/name (hub.base_id in the recipe)."
        )
    return base


def checked_repo(repo: str | None) -> str:
    """``user/name`` as the Hub takes it. Raises UserError with what is wrong."""
    if not repo:
        raise UserError("Where to? Give --repo user/name, or set hub.repo in the recipe.")
    if "/" not in repo:
        raise UserError(f"--repo {repo} names no owner; write it as user/{repo}.")
    if not REPO.match(repo) or "--" in repo or ".." in repo or repo.endswith((".", "-", ".git")):
        raise UserError(
            f"--repo {repo} is no name of a repository: write user/name with letters, digits, "
            "`-`, `_` and `.`, none of them twice in a row or at an end."
        )
    if len(repo) > LONGEST_REPO:
        raise UserError(f"--repo {repo} has over {LONGEST_REPO} characters; choose a shorter name.")
    return repo


def _metrics_until(run: Run, step: int) -> dict[str, Any]:
    """What was measured up to a checkpoint: its training step and the last held-out scores."""
    measured: dict[str, Any] = {"sets": {}, "step": step}
    for record in run.each("metrics.jsonl"):
        if record.get("step", 0) > step:
            continue
        if "loss" in record:
            measured["training"] = record
        elif any(key.startswith("eval_") for key in record):
            measured["held_out"] = record
    return measured


def _refuse_secrets(folder: Path) -> None:
    """Nothing that reads as a Hub token goes up, wherever it came from."""
    for path in folder.iterdir():
        if path.suffix not in (".safetensors", ".png") and TOKEN.search(path.read_bytes()):
            raise UserError(
                f"{path.name} would hold what reads as a Hub token, so nothing was published; take "
                "it out of the recipe or the samples."
            )
