"""Whole runs of two processes: what one process would leave, stopped, resumed, and broken off."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from dpo_lite.files import read_json, write_json
from dpo_lite.jobs import train as job
from dpo_lite.recipe import to_yaml
from dpo_lite.runs.folder import Run
from tests.cats import write_cats, write_contrary
from tests.jobs.side_by_side import CONSOLE, KEPT, recipe_for, stopped_at
from tests.launched import ROOT, launched

# An update of two processes is tried in tests/training/test_ranks.py; these are ten runs of two.
pytestmark = pytest.mark.long

# Gradients agree to 1e-6 of their length (tests/training/test_ranks.py). Adam divides each number
# by its own size, so where a gradient is next to nothing a step of up to lr = 1e-3 follows from
# rounding alone; after six updates that moves a weight by far less than one such step.
ROUNDING = 2e-5


@pytest.fixture(scope="module")
def what(tiny_base, tmp_path_factory):
    """Base, data, a reward model and a run that one process began, in a folder for them all."""
    folder = tmp_path_factory.mktemp("several")
    cats = folder / "cats"
    cats.mkdir()
    write_cats(cats, train=range(41), test=range(41, 52))
    contrary = folder / "contrary"
    contrary.mkdir()
    write_contrary(contrary)
    found = {"base": tiny_base, "cats": str(cats), "contrary": str(contrary)}
    rewards = job.start(recipe_for(found, folder / "alone", "reward", 3), "reward", CONSOLE)
    found |= {"reward": str(rewards.path), "folder": str(folder)}
    begun = stopped_at(3, lambda: job.start(recipe_for(found, folder), "begun", CONSOLE))
    found["begun"] = str(begun.path)
    write_json(folder / "what.json", found)
    plain = recipe_for(found, folder, train={"eval_steps": 3}, eval={"sample_steps": 3})
    for name in ("dpo", "told"):
        (folder / f"{name}.yaml").write_text(to_yaml(plain))
    return found


@pytest.fixture(scope="module")
def folder(what):
    return Path(what["folder"])


@pytest.fixture(scope="module")
def alone(what, folder):
    """The same runs in one process."""

    def start(name, *options, **named):
        return job.start(recipe_for(what, folder / "alone", *options, **named), name, CONSOLE)

    return {
        "dpo": start("dpo", train={"eval_steps": 3}, eval={"sample_steps": 3}),
        "sft": start("sft", "sft", 3),
        "reward": Run(folder / "alone" / "reward-1"),
    }


@pytest.fixture(scope="module")
def both(what, folder):
    ends = launched("tests.jobs.side_by_side", folder, DPO_LITE_CACHE=str(folder / "cache"))
    assert [end.code for end in ends] == [0, 9], ends[0].err + ends[1].err
    return [torch.load(folder / f"{rank}.pt") | vars(end) for rank, end in enumerate(ends)]


def weights(run):
    return load_file(run.adapter / "adapter_model.safetensors")


def furthest(run, other):
    found, expected = weights(run), weights(other)
    assert found.keys() == expected.keys()
    return max((found[name] - expected[name]).abs().max().item() for name in expected)


@pytest.mark.parametrize("task", ["dpo", "sft", "reward"])
def test_a_run_is_that_of_one_process(both, alone, folder, task):
    run, expected = Run(folder / f"{task}-1"), alone[task]
    assert run.status()["state"] == "finished"
    assert run.manifest()["processes"] == 2
    assert furthest(run, expected) < ROUNDING
    mine, theirs = run.records("metrics.jsonl"), expected.records("metrics.jsonl")
    assert len(mine) == len(theirs)  # written once
    for found, wanted in zip(mine, theirs, strict=True):
        for key in wanted.keys() - {"memory", "seconds"}:
            assert found[key] == pytest.approx(wanted[key], rel=1e-3, abs=1e-4), key
    results, others = (read_json(r.path / "results.json")["sets"]["test"] for r in (run, expected))
    assert results.keys() == others.keys()
    for key in {"loss", "rewards/margins", "rewards/accuracies", "reference_loss"} & set(others):
        assert results[key] == pytest.approx(others[key], rel=1e-3, abs=1e-4), key
    assert results.get("counts") == others.get("counts")
    said = [run.records("samples.jsonl"), expected.records("samples.jsonl")]
    assert said[0] == said[1]


def test_all_processes_have_the_same_adapter(both):
    first, second = (found["trained"] for found in both)
    assert len(first) == len(second) == 9  # runs that came to their end
    for mine, theirs in zip(first, second, strict=True):
        assert all(map(torch.equal, mine, theirs))


def test_resuming_equals_not_stopping(both, folder):
    """The wish to stop came to the second process alone."""
    cut, whole = Run(folder / "cut-1"), Run(folder / "dpo-1")
    assert cut.status()["state"] == "finished"
    assert furthest(cut, whole) == 0
    assert [m["loss"] for m in cut.steps()] == [m["loss"] for m in whole.steps()]
    assert furthest(Run(folder / "ppo-cut-1"), Run(folder / "ppo-1")) == 0


def test_a_run_goes_on_in_another_number_of_processes(both, alone, folder, capfd):
    begun = Run(folder / "begun-1")
    assert begun.status()["state"] == "finished"
    assert begun.manifest()["processes"] == 2
    assert furthest(begun, alone["dpo"]) < ROUNDING
    left = Run(folder / "left-1")
    assert left.status()["state"] == "stopped"
    job.resume(left, Console(width=200))
    assert "processes  2 before and 1 from now on" in capfd.readouterr().out
    assert left.manifest()["processes"] == 1
    assert furthest(left, alone["dpo"]) < ROUNDING


def test_both_wear_the_update_that_is_kept(both, folder):
    """The first process loads it and gives it to the other."""
    run = Run(folder / "kept-1")
    kept = read_json(run.path / "results.json")["kept"]
    assert (kept["step"], kept["trained"], kept["evaluations"]) == (2, 4, 2)
    assert kept["kept"]["kl"] is not None
    saved = load_file(run.checkpoints / "checkpoint-2" / "adapter_model.safetensors")
    worn = [found["trained"][KEPT] for found in both]
    assert all(map(torch.equal, *worn))
    assert sorted(t.sum().item() for t in worn[0]) == sorted(t.sum().item() for t in saved.values())
    assert all(torch.equal(found, saved[name]) for name, found in weights(run).items())


def test_memory_that_runs_out_in_one_is_given_up_in_both(both, alone, folder):
    assert Run(folder / "tight-1").status()["state"] == "finished"
    assert furthest(Run(folder / "tight-1"), alone["dpo"]) < ROUNDING


def test_all_plan_for_the_card_with_the_least_room(both):
    """The first process has a terabyte, the other next to nothing."""
    assert both[0]["plan"] == both[1]["plan"]
    assert both[0]["plan"].endswith("every layer recomputed, optimiser in 8 bits")


def test_ppo_draws_its_answers_together(both, folder):
    run = Run(folder / "ppo-1")
    assert run.status()["state"] == "finished"
    assert [step["step"] for step in run.steps()] == [1, 2, 3]
    assert run.steps()[0]["kl"] == pytest.approx(0, abs=1e-4)  # the policy is still the reference
    held_out = read_json(run.path / "results.json")["sets"]["test"]["drawn"]
    assert held_out["policy"]["answers"] == held_out["reference"]["answers"] == 11


def test_the_other_engine_is_refused(both, folder):
    for found in both:
        assert found["refused"].startswith("train.engine: trl trains in one process here")
    assert not list(folder.glob("trl-*"))


def test_a_process_that_is_gone_ends_the_run(both, folder):
    status = Run(folder / "killed-1").status()
    assert status["state"] == "failed"
    assert status["error"].startswith("Another process of this launch ended without a word")


def test_the_first_process_prints(both):
    first, second = (found["out"] for found in both)
    assert first.count("step 0     loss 0.6931") == 1
    assert "processes  2, each with its share of an update's examples" in first
    assert first.count("reward accuracy, of 11") == 1
    assert second.strip() == ""


def test_a_fault_in_one_process_ends_all_with_one_sentence(what, folder):
    """Of the command line under torchrun, whose agent then tells which process failed."""
    launcher = "torch.distributed.run --standalone --nproc-per-node 2 -m".split()
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "tests.jobs.side_by_side", str(folder), "told"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
    )
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert said.count("error  row 7 is broken.") == said.count("row 7") == 1, said
    status = Run(folder / "told").status()
    assert (status["state"], status["error"]) == ("failed", "row 7 is broken.")
