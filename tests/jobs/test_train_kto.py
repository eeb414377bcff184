"""A whole run of KTO: from rows with a thumb up or down to an adapter, also stopped and resumed."""

import json
import os
import signal
from io import StringIO

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from dpo_lite.cli.results import print_results
from dpo_lite.files import read_json
from dpo_lite.hub.staging import stage
from dpo_lite.jobs import train as job
from dpo_lite.jobs.forecast import forecast
from dpo_lite.recipe import load_recipe, validate_recipe
from dpo_lite.report.advise import advise_run
from dpo_lite.training.callbacks import RunRecorder


@pytest.fixture(scope="module")
def console():
    return Console(quiet=True)


@pytest.fixture(scope="module")
def thumbs(tmp_path_factory):
    """Cats sat, they never ran; one answer to each question, two of three of them bad."""
    folder = tmp_path_factory.mktemp("thumbs")
    for split, numbers in (("train", range(30)), ("test", range(30, 36))):
        rows = [
            {
                "prompt": f"what did cat {i} do?",
                "completion": f"the cat {i} {'ran' if i % 3 else 'sat'}",
                "label": i % 3 == 0,
                "chosen_markers": ["sat"],
                "rejected_markers": ["ran"],
            }
            for i in numbers
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(folder)


def recipe_for(base, data, folder, **train):
    train = {"lr": 2e-3, "batch_size": 7, "epochs": 2, "save_steps": 2} | train
    return validate_recipe(
        {
            "task": "kto",
            "model": {"base": base},
            "data": {"train": data},
            "train": train,
            "eval": {"max_new_tokens": 4, "sample_steps": 5},
            "run": {"folder": str(folder / "runs")},
        },
        "test",
    )


@pytest.fixture(scope="module")
def plain(tiny_base, thumbs, tmp_path_factory, console):
    return job.start(
        recipe_for(tiny_base, thumbs, tmp_path_factory.mktemp("plain")), "kto", console
    )


@pytest.mark.slow
def test_a_run_tells_good_from_bad(plain):
    steps = plain.steps()
    assert steps[0]["loss"] == pytest.approx(0.5, abs=0.3)
    margins = [step["rewards/margins"] for step in steps if "rewards/margins" in step]
    assert margins[0] == 0
    assert margins[-1] > 0.2
    assert all(step["kl"] >= 0 for step in steps)
    assert {"rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected"} <= set(steps[0])
    measured = read_json(plain.path / "results.json")["sets"]["test"]
    counts = measured["counts"]["rewards/accuracies"]
    assert counts["n"] == 6
    assert measured["rewards/accuracies"] == counts["successes"] / 6
    assert [record["kl/sampled"] for record in plain.records("metrics.jsonl") if len(record) == 2]


@pytest.mark.slow
def test_the_weights_follow_from_the_labels(plain):
    """10 good answers and 20 bad ones: a good one counts twice."""
    recipe = load_recipe(plain.recipe_file)
    assert (recipe.train.desirable_weight, recipe.train.undesirable_weight) == (2, 1)
    data = read_json(plain.path / "data.json")
    assert data["labels"] == {"good": 10, "bad": 20, "of_pairs": 0}
    first = plain.steps()[0]
    assert first["rewards/chosen"] == first["rewards/rejected"] == first["rewards/margins"] == 0


@pytest.mark.slow
def test_who_looks_at_the_run(plain, tmp_path, monkeypatch):
    monkeypatch.setattr("dpo_lite.hub.card_metadata.base_licence", lambda base: {})
    report = (plain.path / "report.md").read_text()
    assert "kto, beta 0.1, good and bad answers weigh 2 and 1" in report
    assert "answers on their side of z0, of 6" in report
    screen = Console(record=True, width=200, file=StringIO())
    print_results(plain, screen)
    assert "answers on their side of z0" in screen.export_text()
    said = " ".join(advice.text for advice in advise_run(plain))
    assert "answers" in said
    assert "pairs" not in said
    staged = tmp_path / "staged"
    staged.mkdir()
    card = stage(plain, staged, repo="me/kto", base_id="someone/tiny").card
    assert "Kahneman-Tversky" in card
    assert "arXiv:2402.01306" in card
    assert "weights λ" in card
    assert "- kto" in card


@pytest.mark.slow
def test_resuming_equals_not_stopping(tiny_base, thumbs, plain, tmp_path, console, monkeypatch):
    as_before = RunRecorder.on_step_end

    def stop_at_three(self, args, state, control, **kwargs):
        if state.global_step == 3:
            os.kill(os.getpid(), signal.SIGINT)  # the user's Ctrl-C
        return as_before(self, args, state, control, **kwargs)

    monkeypatch.setattr(RunRecorder, "on_step_end", stop_at_three)
    run = job.start(recipe_for(tiny_base, thumbs, tmp_path), "part", console)
    assert run.status()["state"] == "stopped"
    monkeypatch.undo()
    job.resume(run, console)
    expected, found = (load_file(r.adapter / "adapter_model.safetensors") for r in (plain, run))
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    assert [s["loss"] for s in run.steps()] == [s["loss"] for s in plain.steps()]
    assert [s["kl"] for s in run.steps()] == [s["kl"] for s in plain.steps()]


@pytest.mark.slow
def test_one_answer_per_update(tiny_base, thumbs, tmp_path, console):
    recipe = recipe_for(tiny_base, thumbs, tmp_path, batch_size=1, max_steps=6)
    steps = job.start(recipe, "one", console).steps()
    assert all(("rewards/chosen" in step) != ("rewards/rejected" in step) for step in steps)
    assert max(step["kl"] for step in steps) > 0


@pytest.mark.slow
def test_a_plan_counts_the_passes_over_mismatched_pairs(tiny_base, thumbs, tmp_path, monkeypatch):
    monkeypatch.setattr("dpo_lite.jobs.forecast.speed_here", lambda device: 1e9)
    recipe = recipe_for(tiny_base, thumbs, tmp_path)
    with_kto = forecast(recipe).epochs[""]
    monkeypatch.setattr("dpo_lite.training.kto.KTO.passes_beside", 0)
    without = forecast(recipe).epochs[""]
    # Five forward passes' worth instead of three, of the head as well.
    assert with_kto[0] / without[0] == pytest.approx(5 / 3)


@pytest.mark.long  # trains the shipped quickstart on half of its data
def test_the_quickstarts_world_is_learned(tmp_path, console):
    overrides = ["train.epochs=2", "eval.limit=40", f"run.folder={tmp_path}", "eval.prompts=[]"]
    run = job.start(load_recipe("kto-quickstart", overrides), "quick", console)
    sets = read_json(run.path / "results.json")["sets"]
    for name in ("phrasings", "topics"):
        assert sets[name]["generation"]["reference"] < 0.2
        assert sets[name]["generation"]["policy"] > 0.7
        assert sets[name]["rewards/accuracies"] > 0.7
