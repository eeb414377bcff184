"""Whole runs of two processes with a part of the base's weights each: what one process leaves."""

from pathlib import Path

import pytest
import torch
from rich.console import Console

from dpo_lite.files import read_json, write_json
from dpo_lite.jobs import train as job
from dpo_lite.model.weights import nbytes
from dpo_lite.runs.folder import Run
from tests.cats import write_cats
from tests.jobs.divided import RUNS
from tests.jobs.side_by_side import CONSOLE, recipe_for, stopped_at
from tests.jobs.test_several import ROUNDING, furthest
from tests.launched import launched
from tests.training.test_divided import FSDP2

# Nine runs, five of them of two processes.
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def what(tiny_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("divided")
    cats = folder / "cats"
    cats.mkdir()
    write_cats(cats, train=range(41), test=range(41, 52))
    return {"base": tiny_base, "cats": str(cats), "folder": str(folder), "reward": str(folder)}


@pytest.fixture(scope="module")
def folder(what):
    return Path(what["folder"])


@pytest.fixture(scope="module")
def alone(what, folder):
    """The same runs in one process, and the bytes of the base's weights there."""
    evaluate, resident = job.evaluate_run, {}

    def seen(run, loaded, *others):
        frozen = [p for p in loaded.model.parameters() if not p.requires_grad]
        resident[run.name] = sum(map(nbytes, frozen))
        return evaluate(run, loaded, *others)

    job.evaluate_run = seen
    try:
        for name, options in RUNS.items():
            job.start(recipe_for(what, folder / "alone", **options), name, CONSOLE)
    finally:
        job.evaluate_run = evaluate
    return {name: (Run(folder / "alone" / f"{name}-1"), resident[f"{name}-1"]) for name in RUNS}


@pytest.fixture(scope="module")
def both(what, folder):
    begun = stopped_at(
        3, lambda: job.start(recipe_for(what, folder, **RUNS["nf4"]), "begun", CONSOLE)
    )
    write_json(folder / "what.json", what | {"begun": str(begun.path)})
    cache = str(folder / "cache")
    ends = launched("tests.jobs.divided", folder, seconds=900, DPO_LITE_CACHE=cache, **FSDP2)
    assert [end.code for end in ends] == [0, 0], ends[0].err + ends[1].err
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_that_of_one_process(both, alone, folder, name):
    run, expected = Run(folder / f"{name}-1"), alone[name][0]
    assert run.status()["state"] == "finished"
    assert furthest(run, expected) < ROUNDING
    mine, theirs = run.records("metrics.jsonl"), expected.records("metrics.jsonl")
    assert len(mine) == len(theirs)
    for found, wanted in zip(mine, theirs, strict=True):
        for key in wanted.keys() - {"memory", "seconds"}:
            assert found[key] == pytest.approx(wanted[key], rel=1e-3, abs=1e-4), key
    results, others = (read_json(r.path / "results.json") for r in (run, expected))
    assert results["sets"]["test"].keys() == others["sets"]["test"].keys()
    assert results.get("mean_reward") == pytest.approx(others.get("mean_reward"), abs=1e-4)
    said = [r.records("samples.jsonl") for r in (run, expected)]
    assert said[0] == said[1]


def test_both_have_one_adapter_and_half_of_the_base(both, alone):
    first, second = both
    assert len(first["trained"]) == len(RUNS) + 1  # and the one that was begun by one process
    for mine, theirs in zip(first["trained"], second["trained"], strict=True):
        assert all(map(torch.equal, mine, theirs))
    for found in both:
        for (name, (_, whole)), part in zip(alone.items(), found["resident"], strict=False):
            # The scales of packed weights are there whole.
            assert 0.49 < part / whole < (0.51 if name == "whole" else 0.54)


def test_a_run_of_one_process_goes_on_in_two(both, alone, folder):
    begun = Run(folder / "begun-1")
    assert begun.status()["state"] == "finished"
    assert begun.manifest()["processes"] == 2
    assert furthest(begun, alone["nf4"][0]) < ROUNDING


def test_a_run_of_two_processes_goes_on_in_one(both, alone, folder, capfd):
    left = Run(folder / "left-1")
    assert left.status()["state"] == "stopped"
    job.resume(left, Console(width=200))
    assert "processes  2 before and 1 from now on" in capfd.readouterr().out
    assert left.status()["state"] == "finished"
    assert furthest(left, alone["nf4"][0]) < ROUNDING


def test_what_is_refused(both, folder):
    for found in both:
        ppo, embeddings = found["refused"]
        assert ppo.startswith("task: ppo is not trained with FSDP")
        assert embeddings.startswith("model.embeddings: cpu does not go with FSDP")
    assert not list(folder.glob("refused-*"))
