"""Whole runs on the checkpoint: DPO against one that is stopped and resumed, a reward model, PPO.

They go the way of `dpo-lite train`, with its preflight, evaluation and answers, in this process.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from rich.console import Console
from safetensors.torch import load_file

from benchmarks.model_zoo.case import Case, Cell, Missed
from benchmarks.model_zoo.checkpoint import rows
from dpo_lite.data.tokens import encoder_of
from dpo_lite.evaluate.judge import judge_recipe, load_judge
from dpo_lite.evaluate.scores import encode_rows, score_source
from dpo_lite.files import read_json
from dpo_lite.jobs import train as job
from dpo_lite.model.adapter_files import WEIGHTS
from dpo_lite.model.base import load_tokenizer
from dpo_lite.recipe import Recipe, validate_recipe
from dpo_lite.runs.folder import Run
from dpo_lite.training.callbacks import RunRecorder

UPDATES, STOP_AFTER = 2, 1
QUIET = Console(quiet=True)


def resumes(case: Case) -> Cell:
    """A run that is stopped half-way and resumed ends at the same bits."""
    whole = _whole(case)
    with stopped_after(STOP_AFTER):
        part = job.start(recipe_of(case), "part", QUIET)
    if (state := part.status()["state"]) != "stopped":
        raise Missed(f"the run to be stopped is {state}")
    job.resume(part, QUIET)
    expected, found = (load_file(run.adapter / WEIGHTS) for run in (whole, part))
    other = [name for name, tensor in expected.items() if not torch.equal(tensor, found[name])]
    if other:
        off = max((expected[name] - found[name]).abs().max().item() for name in other)
        raise Missed(f"{len(other)} of {len(expected)} tensors differ by up to {off:.0e}")
    losses = [[m["loss"] for m in run.steps() if "loss" in m] for run in (whole, part)]
    if losses[0] != losses[1]:
        raise Missed("other losses")
    if not losses[0][-1] < losses[0][0]:
        raise Missed(f"the loss does not fall: {losses[0][0]:.4f} → {losses[0][-1]:.4f}")
    return {"updates": len(losses[0]), "loss": losses[0]}


def scores(case: Case) -> Cell:
    """`dpo-lite score` of held-out rows gives the margin that the run's evaluation found."""
    run = _whole(case)
    expected = (read_json(run.path / "results.json") or {})["sets"]["test"]["rewards/margins"]
    found = _scored(run, case)
    if not abs(found - expected) < 1e-3:
        raise Missed(f"a margin of {found:.4f}, in the run's evaluation {expected:.4f}")
    return {"margin": found, "differs": abs(found - expected)}


def reward_model(case: Case) -> Cell:
    """A reward model is trained, and as a judge ranks as its run did."""
    run = _reward(case)
    expected = (read_json(run.path / "results.json") or {})["sets"]["test"]["rewards/margins"]
    found = _scored(run, case)
    if not abs(found - expected) < 1e-3:
        raise Missed(f"a margin of {found:.4f}, in the run's evaluation {expected:.4f}")
    return {"margin": found, "differs": abs(found - expected)}


def ppo(case: Case) -> Cell:
    """Two rounds of PPO with that reward model; the policy starts as the reference."""
    reward = _reward(case)
    options = {"ppo": {"reward": str(reward.path), "max_new_tokens": 4, "minibatch": 4}}
    run = job.start(recipe_of(case, {"max_steps": 2}, task="ppo", **options), "ppo", QUIET)
    steps = run.steps()
    if not abs(steps[0]["kl"]) < 1e-3:
        raise Missed(f"at its start it is {steps[0]['kl']:.0e} away from the reference")
    return {"rounds": len(steps), "kl": [m["kl"] for m in steps]}


def _whole(case: Case) -> Run:
    return _once(case, "whole", lambda: recipe_of(case))


def _reward(case: Case) -> Run:
    return _once(case, "reward", lambda: recipe_of(case, task="reward", eval={}))


def _once(case: Case, name: str, recipe: Callable[[], Recipe]) -> Run:
    """The run of this name, trained where another column has not done so."""
    run = Run(case.folder / "runs" / f"{name}-1")
    return run if run.adapter.is_dir() else job.start(recipe(), name, QUIET)


def recipe_of(case: Case, train: dict[str, Any] | None = None, **sections: Any) -> Recipe:
    options = {"lr": 1e-3, "batch_size": 4, "max_steps": UPDATES, "save_steps": STOP_AFTER}
    options["warmup"] = 0  # else the first update changes nothing
    values = {
        "model": {"base": case.base},
        "adapter": {"r": 4},
        "data": {"train": rows(case.folder / "rows")},
        "train": options | (train or {}),
        "eval": {"prompts": ["hello"], "max_new_tokens": 3},
        "run": {"folder": str(case.folder / "runs")},
    }
    return validate_recipe(values | sections, "zoo")


def _scored(run: Run, case: Case) -> float:
    """The mean margin of the held-out rows by the run's adapter, loaded as a judge."""
    recipe, adapter = judge_recipe(
        str(run.path), str(Path(rows(case.folder / "rows")) / "test.jsonl")
    )
    judge = load_judge(recipe, adapter)
    encoder = encoder_of(load_tokenizer(recipe.model), recipe.data)
    source = encode_rows(recipe, encoder, lambda text: None)
    return float(score_source(judge, source).margins().mean())


@contextmanager
def stopped_after(update: int) -> Iterator[None]:
    """Inside, the user presses Ctrl-C in this update."""
    unstopped = RunRecorder.on_step_end

    def stop(self, args, state, control, **options):
        if state.global_step == update:
            os.kill(os.getpid(), signal.SIGINT)
        return unstopped(self, args, state, control, **options)

    with patch.object(RunRecorder, "on_step_end", stop):
        yield


COLUMNS = {"resumes": resumes, "scores": scores, "reward model": reward_model, "ppo": ppo}
