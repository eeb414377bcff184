"""Runs that keep the best of their updates, or end before the last one."""

from io import StringIO

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from dpo_lite.cli.results import print_results
from dpo_lite.errors import UserError
from dpo_lite.files import read_json
from dpo_lite.hub.staging import stage
from dpo_lite.jobs import train as job
from dpo_lite.recipe import validate_recipe
from dpo_lite.training.callbacks import RunRecorder
from dpo_lite.ui import run_files, run_views
from dpo_lite.ui.curves import View
from tests.cats import write_cats, write_contrary

CONSOLE = Console(quiet=True)


@pytest.fixture(scope="module")
def contrary(tmp_path_factory):
    """Every evaluation is worse than the one before."""
    folder = tmp_path_factory.mktemp("contrary")
    write_contrary(folder)
    return str(folder)


def recipe_for(base, data, folder, hub=None, **train):
    options = {"lr": 1e-3, "batch_size": 8, "max_steps": 6, "save_steps": 3, "eval_steps": 2}
    options |= {"scheduler": "constant", "warmup": 0} | train
    return validate_recipe(
        {
            "model": {"base": base},
            "data": {"train": data},
            "train": options,
            "eval": {"prompts": ["hello"], "max_new_tokens": 4},
            "hub": hub or {},
            "run": {"folder": str(folder)},
        },
        "test",
    )


def weights(run):
    return load_file(run.adapter / "adapter_model.safetensors")


def same(run, other):
    mine, theirs = weights(run), weights(other)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


def kept(run):
    return read_json(run.path / "results.json")["kept"]


def updates(run):
    return [record["step"] for record in run.steps()]


@pytest.fixture(scope="module")
def after_two(tiny_base, contrary, tmp_path_factory):
    """The run that others keep: it has no more than two updates."""
    asked = recipe_for(tiny_base, contrary, tmp_path_factory.mktemp("two"), max_steps=2)
    return job.start(asked, "two", CONSOLE)


@pytest.fixture(scope="module")
def best(tiny_base, contrary, tmp_path_factory):
    """Six updates, of which the second is kept. Nobody changes its folder."""
    folder = tmp_path_factory.mktemp("best")
    hub = {"base_id": "someone/tiny"}
    return job.start(recipe_for(tiny_base, contrary, folder, hub, keep="best"), "best", CONSOLE)


@pytest.mark.slow
def test_the_best_is_kept_where_later_ones_are_worse(best, after_two, tmp_path):
    assert same(best, after_two)
    assert updates(best) == [1, 2, 3, 4, 5, 6]
    losses = {
        record["step"]: record["eval_test_loss"]
        for record in best.records("metrics.jsonl")
        if "eval_test_loss" in record
    }
    assert losses[2] < losses[4] < losses[6]
    facts = kept(best)
    assert (facts["step"], facts["trained"], facts["ended"]) == (2, 6, None)
    assert facts["kept"] == {"step": 2, "value": losses[2], "kl": None}
    assert facts["last"] == {"step": 6, "value": losses[6], "kl": None}
    # What is told of the end is told of what was kept.
    held_out = read_json(best.path / "results.json")["sets"]["test"]
    assert held_out["loss"] == pytest.approx(losses[2], abs=1e-5)
    # Rotation spared it, though two newer ones were written.
    assert {path.name for path in best.checkpoints.iterdir()} == {"checkpoint-2", "checkpoint-6"}
    sentence = (
        "The adapter is that of update 2 of 6, whose held-out loss was the lowest of 3 evaluations,"
        f" {losses[2]:.4f} ({losses[6]:.4f} at update 6)."
    )
    assert sentence in (best.path / "report.md").read_text()
    screen = Console(record=True, width=300, file=StringIO())
    print_results(best, screen)
    assert sentence in screen.export_text()
    assert sentence in run_views.detail(
        best.path.parent, run_files.statuses(best.path.parent), [best.name]
    )
    page = run_views.curve_grid(best.path.parent, [best.name], View())
    assert "&quot;kept&quot;:2," in page  # what is read at the pointer says so
    assert 'class="dl-kept" data-run="best-1"' in page
    assert sentence in stage(best, tmp_path, "user/kept").card


@pytest.mark.slow
def test_patience_ends_a_run(tiny_base, contrary, tmp_path, after_two):
    asked = recipe_for(tiny_base, contrary, tmp_path, keep="best", patience=2, max_steps=40)
    run = job.start(asked, "patient", CONSOLE)
    assert updates(run) == [1, 2, 3, 4, 5, 6]
    assert run.status()["state"] == "finished"
    assert same(run, after_two)
    assert (
        "The run ended at update 6 of 40, after 2 evaluations without a better one."
        in (run.path / "report.md").read_text()
    )


@pytest.mark.slow
def test_the_trl_engine_does_the_same(tiny_base, contrary, tmp_path, best):
    asked = recipe_for(
        tiny_base, contrary, tmp_path, keep="best", patience=2, max_steps=40, engine="trl"
    )
    run = job.start(asked, "trl", CONSOLE)
    assert updates(run) == [1, 2, 3, 4, 5, 6]
    assert kept(run)["step"] == 2
    assert kept(run)["ended"] == "patience"
    for look in ("kept", "last"):
        assert kept(run)[look]["value"] == pytest.approx(kept(best)[look]["value"], abs=2e-4)
    two = recipe_for(tiny_base, contrary, tmp_path, max_steps=2, engine="trl")
    assert same(run, job.start(two, "two", CONSOLE))


@pytest.mark.slow
def test_a_kl_budget_ends_a_run_within_one_evaluation(tiny_base, contrary, tmp_path):
    """Measured with a budget that is never reached, and then with one between two looks."""
    fast = {"lr": 3e-2, "max_steps": 8}
    wide = job.start(
        recipe_for(tiny_base, contrary, tmp_path, kl_budget=1e6, **fast), "wide", CONSOLE
    )
    kls = {r["step"]: r["kl"] for r in wide.records("metrics.jsonl") if "kl" in r}
    assert list(kls) == [2, 4, 6, 8]
    over = next(step for step in (4, 6, 8) if kls[step] > kls[2])
    assert kept(wide)["step"] == 8
    budget = max(kls[step] for step in kls if step < over)
    asked = recipe_for(tiny_base, contrary, tmp_path, kl_budget=budget, **fast)
    run = job.start(asked, "narrow", CONSOLE)
    assert updates(run) == list(range(1, over + 1))
    facts = kept(run)
    assert (facts["step"], facts["ended"]) == (over - 2, "kl_budget")
    assert facts["kept"]["kl"] == kls[over - 2] <= budget < facts["last"]["kl"] == kls[over]
    assert run.last_checkpoint().name in {f"checkpoint-{over - 2}", f"checkpoint-{over - 1}"}
    words = (run.path / "report.md").read_text()
    assert f"whose KL was {kls[over - 2]:.2f} nats per answer, within the budget" in words
    assert f"ended at update {over} of 8, beyond its budget." in words
    with pytest.raises(UserError, match="and no evaluation before has left an adapter to keep"):
        job.start(recipe_for(tiny_base, contrary, tmp_path, kl_budget=1e-6, **fast), "no", CONSOLE)


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", [3, pytest.param(5, marks=pytest.mark.long)])
@pytest.mark.parametrize("engine", ["dpo_lite", "trl"])
def test_a_killed_run_goes_on_to_the_same_end(
    tiny_base, contrary, tmp_path, best, monkeypatch, killed_at, engine
):
    """Killed before a checkpoint newer than the best one was there, and behind one."""
    real = RunRecorder.on_step_end

    def kill(self, args, state, control, **kwargs):
        if state.global_step == killed_at:
            raise RuntimeError("killed")
        return real(self, args, state, control, **kwargs)

    whole = best
    if engine == "trl":
        asked = recipe_for(tiny_base, contrary, tmp_path, keep="best", engine=engine)
        whole = job.start(asked, "whole", CONSOLE)
    monkeypatch.setattr(RunRecorder, "on_step_end", kill)
    with pytest.raises(RuntimeError, match="killed"):
        job.start(
            recipe_for(tiny_base, contrary, tmp_path, keep="best", engine=engine), "cut", CONSOLE
        )
    monkeypatch.undo()
    run = job.Run(tmp_path / "cut-1")
    assert run.last_checkpoint().name == f"checkpoint-{2 if killed_at == 3 else 3}"
    job.resume(run, CONSOLE)
    assert same(run, whole)
    assert kept(run) == kept(whole)
    last = [load_file(r.last_checkpoint() / "adapter_model.safetensors") for r in (run, whole)]
    assert all(torch.equal(last[0][name], last[1][name]) for name in last[0])


@pytest.mark.slow
def test_a_run_that_was_cut_off_behind_its_last_update_makes_no_other_one(
    tiny_base, contrary, tmp_path, best, monkeypatch
):
    """Its last update lies within an epoch, of which Trainer would go on with the rest."""

    def kill(*arguments):
        raise RuntimeError("killed")

    monkeypatch.setattr(job, "evaluate_run", kill)
    with pytest.raises(RuntimeError, match="killed"):
        job.start(recipe_for(tiny_base, contrary, tmp_path, keep="best"), "cut", CONSOLE)
    monkeypatch.undo()
    run = job.resume(job.Run(tmp_path / "cut-1"), CONSOLE)
    assert updates(run) == [1, 2, 3, 4, 5, 6]
    assert same(run, best)
    assert kept(run) == kept(best)


def test_without_held_out_rows_nothing_can_be_chosen(tiny_base, tmp_path):
    write_cats(tmp_path, train=range(1))
    for keys in ({"keep": "best"}, {"kl_budget": 5.0}):
        asked = recipe_for(tiny_base, str(tmp_path), tmp_path / "runs", batch_size=1, **keys)
        with pytest.raises(UserError, match="look at held-out data, and there are none"):
            job.start(asked, "none", CONSOLE)
