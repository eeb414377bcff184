"""What test_several.py has two processes do: whole runs of every task, stopped, resumed, broken.

Run as `python -m tests.jobs.side_by_side FOLDER` with what.json in it; with `told` behind it, a
run of the command line has a fault in the second process.
"""

import contextlib
import os
import signal
import sys
from pathlib import Path

import torch
from rich.console import Console

from dpo_lite.cli import main as command
from dpo_lite.errors import UserError
from dpo_lite.files import read_json
from dpo_lite.jobs import preflight
from dpo_lite.jobs import train as job
from dpo_lite.model import roles
from dpo_lite.recipe import validate_recipe
from dpo_lite.report import run as report
from dpo_lite.runs.folder import Run
from dpo_lite.training import ranks
from dpo_lite.training.callbacks import RunRecorder
from dpo_lite.training.dpo import DPO

CONSOLE = Console(quiet=True)
KEPT = 6  # which of the runs that come to their end keeps another update than its last


def recipe_for(what, folder, task="dpo", steps=6, train=None, **sections):
    """41 examples in updates of 8: the last one of an epoch has a single example."""
    options = {"lr": 1e-3, "batch_size": 8, "max_steps": steps, "save_steps": 2}
    values = {
        "task": task,
        "model": {"base": what["base"]},
        "data": {"train": what["cats"]},
        "train": options | (train or {}),
        "eval": {} if task == "reward" else {"prompts": ["hello"], "max_new_tokens": 4},
        "run": {"folder": str(folder)},
    }
    if task == "ppo":
        values["ppo"] = {"reward": what["reward"], "max_new_tokens": 6, "minibatch": 4}
    for name, section in sections.items():
        values[name] = values.get(name, {}) | section
    return validate_recipe(values, "test")


def stopped_at(step, work, in_process=None):
    """Do the work, which is asked to stop after that update: in one process of all, or in each."""
    real = RunRecorder.on_step_end

    def interrupt(self, args, state, control, **kwargs):
        if state.global_step == step and in_process in (None, ranks.rank()):
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, args, state, control, **kwargs)

    RunRecorder.on_step_end = interrupt
    try:
        return work()
    finally:
        RunRecorder.on_step_end = real


def out_of_memory_over(tokens, work):
    """Do the work; in the second process memory runs out in batches of more tokens."""
    real = DPO.score

    def score(self, model, examples, objective, references=None, backward_over=None):
        found = real(self, model, examples, objective, references, backward_over)
        size = sum(len(e["prompt_ids"]) + sum(map(len, e["response_ids"])) for e in examples)
        if references is not None and backward_over and mine == 1 and size > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return found

    mine = ranks.rank()
    DPO.score = score
    try:
        return work()
    finally:
        DPO.score = real


def main(folder):
    what = read_json(folder / "what.json")
    ranks.join()
    ranks.leave = report.draw_curves = lambda *run: None
    evaluate, trained = job.evaluate_run, []

    def seen(run, loaded, *others):
        trained.append([p.detach().clone() for p in roles.trainable_parameters(loaded.model)])
        return evaluate(run, loaded, *others)

    job.evaluate_run = seen

    def start(name, *options, **named):
        return job.start(recipe_for(what, folder, *options, **named), name, CONSOLE)

    with contextlib.suppress(SystemExit):  # the others come behind it
        command(["train", str(folder / "dpo.yaml")])
    cut = stopped_at(3, lambda: start("cut"), in_process=1)
    job.resume(cut, CONSOLE)
    job.resume(Run(Path(what["begun"])), CONSOLE)
    out_of_memory_over(60, lambda: start("tight"))
    start("sft", "sft", 3)
    start("reward", "reward", 3)
    assert len(trained) == KEPT
    looks = {"eval_steps": 2, "keep": "best", "kl_budget": 1e6, "save_steps": 3}
    start("kept", "dpo", 4, train=looks, data={"train": what["contrary"]})
    start("ppo", "ppo", 3)
    job.resume(stopped_at(1, lambda: start("ppo-cut", "ppo", 3)), CONSOLE)
    stopped_at(2, lambda: start("left"))  # for one process to go on with
    free, preflight.free_memory = preflight.free_memory, lambda device: (1e12, 1.0)[ranks.rank()]
    _, plans, _ = job.prepare_run(recipe_for(what, folder), CONSOLE)
    preflight.free_memory = free
    refused = None
    try:
        start("trl", train={"engine": "trl"})
    except UserError as error:
        refused = str(error)
    found = {"trained": trained, "refused": refused, "plan": plans.plan.words()}
    torch.save(found, folder / f"{ranks.rank()}.pt")
    strike(lambda: os._exit(9))
    with contextlib.suppress(UserError):
        start("killed")


def strike(fault):
    """In the second process have the third update end in a fault."""
    real, updates = DPO.score, []
    mine = int(os.environ.get("RANK") or ranks.rank())

    def score(self, model, examples, objective, references=None, backward_over=None):
        if references is not None and backward_over and mine == 1:
            updates.append(1)
            if len(updates) == 3:
                fault()
        return real(self, model, examples, objective, references, backward_over)

    DPO.score = score


def row_7():
    raise UserError("row 7 is broken.")


def told(folder):
    """`dpo-lite train` of a run with a fault."""
    strike(row_7)
    command(["train", str(folder / "told.yaml"), "run.name=told"])


if __name__ == "__main__":
    (told if sys.argv[2:] else main)(Path(sys.argv[1]))
