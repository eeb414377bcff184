"""Whole runs on a tiny base: what they leave, how they stop, resume, and fail."""

import dataclasses
import json
import os
import shutil
import signal
from io import StringIO

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers import TrainingArguments

from dpo_lite.cli import main
from dpo_lite.cli.results import print_results
from dpo_lite.compare.answers import compare_answers
from dpo_lite.compare.lockstep import Sampling
from dpo_lite.errors import UserError
from dpo_lite.files import read_json, write_json
from dpo_lite.jobs import train as job
from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.recipe import (
    RECIPES_FOLDER,
    AdapterSection,
    ModelSection,
    load_recipe,
    to_yaml,
    validate_recipe,
)
from dpo_lite.report.advise import advise_run
from dpo_lite.report.run import memory_rows, write_report
from dpo_lite.runs.folder import Run, list_runs
from dpo_lite.runs.rlhf_steps import first_look
from dpo_lite.training.callbacks import RunRecorder
from tests.cats import write_cats

FILES = (
    "recipe.yaml manifest.json data.json metrics.jsonl status.json samples.jsonl results.json "
    "report.md curves.png adapter/adapter_model.safetensors adapter/adapter_config.json"
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Chosen answers say sat, rejected ones ran; markers tell them apart."""
    folder = tmp_path_factory.mktemp("pairs")
    write_cats(folder, train=range(40), test=range(40, 52))
    return str(folder)


def recipe_for(base, data, folder, **train):
    options = {"lr": 1e-3, "batch_size": 8, "max_steps": 6, "save_steps": 2} | train
    return validate_recipe(
        {
            "model": {"base": base},
            "data": {"train": data},
            "train": options,
            "eval": {"prompts": ["hello <b>[red]"], "max_new_tokens": 4},
            "run": {"folder": str(folder)},
        },
        "test",
    )


CONSOLE = Console(quiet=True)


@pytest.fixture
def console():
    return CONSOLE


@pytest.fixture(scope="module")
def plain(tiny_base, pairs, tmp_path_factory):
    """A run with nothing special about it, which others are held to. Nobody changes its folder."""
    folder = tmp_path_factory.mktemp("plain")
    return job.start(recipe_for(tiny_base, pairs, folder), "plain", CONSOLE)


def weights(run):
    return load_file(run.adapter / "adapter_model.safetensors")


@pytest.mark.slow
def test_a_run_leaves_its_folder(tiny_base, pairs, tmp_path, console, curves):
    run = job.start(recipe_for(tiny_base, pairs, tmp_path, eval_steps=3), "demo", console)
    assert run.name == "demo-1"
    for name in FILES.split():
        assert (run.path / name).stat().st_size > 0, name
    assert run.status()["state"] == "finished"
    steps = [m for m in run.records("metrics.jsonl") if "loss" in m]
    assert [m["step"] for m in steps] == list(range(1, 7))
    assert steps[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert {"rewards/chosen", "rewards/margins", "logps/chosen", "grad_norm"} <= set(steps[0])
    evals = [m for m in run.records("metrics.jsonl") if "eval_test_loss" in m]
    assert [m["step"] for m in evals] == [3, 6]
    held_out = read_json(run.path / "results.json")["sets"]["test"]
    assert held_out["rewards/margins"] > 0
    assert set(held_out["generation"]) == {"reference", "policy"}
    counts = held_out["counts"]
    accuracy = counts["rewards/accuracies"]
    assert accuracy["n"] + accuracy["ties"] == 12
    assert accuracy["successes"] == held_out["rewards/accuracies"] * accuracy["n"]
    for measure in ("likelihood", "generation"):
        for role, count in counts[measure].items():
            assert count["n"] == 12
            assert count["successes"] == held_out[measure][role] * 12
    assert {m.get("pairs") for m in steps} <= {None, 8}  # None where all are ties, as at first
    assert steps[-1]["pairs"] == 8
    assert evals[-1]["eval_test_pairs"] == 12
    assert run.status()["pairs"] == steps[-1]["pairs"]
    samples = run.records("samples.jsonl")
    assert len([s for s in samples if s["when"] == "before"]) == 13
    assert len([s for s in samples if s["when"] == "after"]) == 13
    assert run.manifest()["linear_4bit"] == 14
    assert run.manifest()["reference"] == "base, adapters off"
    assert {w.dtype for w in weights(run).values()} == {torch.float32}
    assert [r.name for r in list_runs(tmp_path)] == ["demo-1"]

    job.evaluate_again(run, console)
    again = read_json(run.path / "results.json")["sets"]["test"]
    assert again["rewards/margins"] == pytest.approx(held_out["rewards/margins"], abs=1e-4)

    sampling = Sampling(max_new_tokens=4)
    (row,) = compare_answers(run, ["reference", "policy"], ["hello"], sampling, tmp_path)
    assert row[0] == "hello"
    assert [said.label for said in row[1]] == ["reference", "demo-1"]


@pytest.mark.parametrize("how", ["selective", True, "offload"])
@pytest.mark.slow
def test_what_is_given_up_for_memory_changes_no_result(
    tiny_base, pairs, plain, tmp_path, console, how
):
    """The same weights after six updates, evaluations and answers in between."""
    asked = recipe_for(tiny_base, pairs, tmp_path, checkpointing=how, eval_steps=3)
    frugal = job.start(asked, "frugal", console)
    expected = weights(plain)
    for name, found in weights(frugal).items():
        assert torch.allclose(found, expected[name], atol=1e-6), name
    assert "optimizer: adamw\n" in frugal.recipe_file.read_text()
    parts = read_json(frugal.path / "results.json")["memory"]
    assert parts["activations"]["measured"] is None
    assert parts["weights"]["measured"] == pytest.approx(parts["weights"]["predicted"], rel=0.05)


@pytest.mark.slow
def test_memory_is_predicted_and_measured_by_part(plain):
    parts = read_json(plain.path / "results.json")["memory"]
    for name in ("weights", "adapter and optimiser", "activations"):
        found = parts[name]
        assert found["measured"] == pytest.approx(found["predicted"], rel=0.1), name
    assert "| activations |" in (plain.path / "report.md").read_text()


@pytest.mark.slow
def test_what_is_predicted_of_the_process_is_comparable_with_its_peak(plain):
    """Without a card: both over Python and its libraries, which are most of so small a run's."""
    parts = read_json(plain.path / "results.json")["memory"]
    libraries, whole = parts["Python and libraries"]["measured"], parts["together"]
    plan = sum(
        parts[n]["predicted"] for n in parts if n not in ("Python and libraries", "together")
    )
    assert whole["predicted"] == libraries + plan
    assert whole["measured"] == read_json(plain.path / "results.json")["peak_memory"]
    assert libraries > 100 * 2**20
    rows = {name: cells for name, *cells in memory_rows(read_json(plain.path / "results.json"))}
    assert "–" not in rows["the whole process"]


def test_the_memory_of_an_older_run(plain):
    """It measured the process and predicted a part of it; neither stands for the other."""
    results = read_json(plain.path / "results.json")
    del results["memory"]["Python and libraries"]
    results["memory"]["together"] = {"predicted": 2**20, "measured": None}
    results["peak_memory"] = 9 * 2**20
    assert memory_rows(results)[-2:] == [
        ("together", "1.0", "–"),
        ("the whole process, with its libraries", "–", "9.0"),
    ]


def test_a_run_of_an_older_version_is_shown_without_numbers(plain, tmp_path):
    """Its results have no counts: report, last screen and advice name the shares alone."""
    run = Run(tmp_path / "old")
    shutil.copytree(plain.path, run.path)
    results = read_json(run.path / "results.json")
    for scores in results["sets"].values():
        del scores["counts"], scores["pairs"]
    write_json(run.path / "results.json", results)
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("pairs", None)
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_report(run)
    report = (run.path / "report.md").read_text()
    assert "| test | reward accuracy | – | 100% |" in report
    assert "Wilson" not in report
    screen = Console(record=True, width=100, file=StringIO())
    print_results(run, screen)
    assert "reward accuracy" in screen.export_text()
    assert advise_run(run)
    new = (plain.path / "report.md").read_text()
    assert "| test | reward accuracy, of 12 | – | 100% (76–100%) |" in new
    assert "In brackets the 95 % interval (Wilson)." in new


@pytest.mark.slow
def test_memory_that_runs_out_in_an_update_loses_nothing(
    tiny_base, pairs, plain, tmp_path, console, monkeypatch
):
    """The budget is halved, then every layer recomputed; the result is that of no fault at all."""
    from dpo_lite.model.recompute import decoder_layers
    from dpo_lite.training import trainer

    real, budgets = trainer.update_gradient, []

    def tight(model, inputs, objective, budget, references, scale):
        budgets.append(budget)
        if not decoder_layers(model)[0].gradient_checkpointing:
            real(model, inputs[:2], objective, budget, references)  # some gradients are there
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(model, inputs, objective, budget, references)

    monkeypatch.setattr(trainer, "update_gradient", tight)
    run = job.start(recipe_for(tiny_base, pairs, tmp_path), "tight", console)
    assert budgets[1] == budgets[0] // 2
    assert run.status()["state"] == "finished"
    for name, found in weights(run).items():
        assert torch.allclose(found, weights(plain)[name], atol=1e-5), name


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("dpo_lite.training.method.load_base", "room in the memory of the GPU for the weights of"),
        ("dpo_lite.memory.of_model.costs_of_model", "tokens through two of the model's layers"),
        ("dpo_lite.model.choosing.true_token_logps", "no room on the GPU to score 64 tokens"),
        ("dpo_lite.jobs.preflight.update_gradient", "The longest examples do not fit"),
        ("dpo_lite.jobs.preflight.libraries_in_use", "The GPU's memory ran out; free the card"),
    ],
    ids=["weights", "costs", "scores", "trial", "elsewhere"],
)
def test_memory_that_runs_out_before_there_is_a_plan_is_one_sentence(
    tiny_base, pairs, tmp_path, monkeypatch, capsys, place, words
):
    """What does not fit, and what helps; in the terminal without a traceback."""

    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4.00 GiB.")

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(to_yaml(recipe_for(tiny_base, pairs, tmp_path)))
    monkeypatch.setattr(place, full)
    with pytest.raises(SystemExit) as end:
        main(["check", str(recipe)])
    said = " ".join(capsys.readouterr().err.split())
    assert end.value.code == 1
    assert words in said
    assert "Traceback" not in said
    assert "Tried to allocate" not in said


@pytest.mark.slow
def test_resuming_equals_not_stopping(tiny_base, pairs, plain, tmp_path, console, monkeypatch):
    interrupted = RunRecorder.on_step_end

    def stop_at_three(self, args, state, control, **kwargs):
        if state.global_step == 3:
            os.kill(os.getpid(), signal.SIGINT)  # the user's Ctrl-C
        return interrupted(self, args, state, control, **kwargs)

    monkeypatch.setattr(RunRecorder, "on_step_end", stop_at_three)
    run = job.start(recipe_for(tiny_base, pairs, tmp_path), "part", console)
    assert run.status()["state"] == "stopped"
    assert run.last_checkpoint().name == "checkpoint-3"
    assert not run.adapter.exists()
    monkeypatch.undo()

    job.resume(run, console)
    assert run.status()["state"] == "finished"
    expected, found = weights(plain), weights(run)
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
    losses = [[m["loss"] for m in r.records("metrics.jsonl") if "loss" in m] for r in (plain, run)]
    assert losses[0] == losses[1]
    with pytest.raises(UserError, match="is finished"):
        job.resume(run, console)


def see_two_cards(monkeypatch):
    """What Trainer sees where two cards are visible: twice the batch, and copies of the model."""
    set_up = TrainingArguments.__post_init__

    def post_init(arguments):
        set_up(arguments)
        arguments._n_gpu = 2

    monkeypatch.setattr(TrainingArguments, "__post_init__", post_init)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["dpo_lite", "trl"])
def test_a_second_visible_card_changes_nothing(
    engine, tiny_base, pairs, tmp_path, console, monkeypatch
):
    def trained(name):
        asked = recipe_for(tiny_base, pairs, tmp_path, max_steps=2, engine=engine)
        return job.start(asked, name, console)

    alone = trained("alone")
    see_two_cards(monkeypatch)
    beside = trained("beside")
    weights = [load_file(run.adapter / "adapter_model.safetensors") for run in (alone, beside)]
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())


@pytest.mark.slow
def test_the_trl_engine_gives_the_same_training(tiny_base, pairs, tmp_path, console):
    ours = job.start(recipe_for(tiny_base, pairs, tmp_path, max_steps=4), "ours", console)
    theirs = job.start(
        recipe_for(tiny_base, pairs, tmp_path, max_steps=4, engine="trl"), "theirs", console
    )
    losses = [
        [m["loss"] for m in run.records("metrics.jsonl") if "loss" in m] for run in (ours, theirs)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=2e-4)
    assert losses[0][0] != losses[0][-1]


def test_no_update_after_a_failed_preflight(tiny_base, pairs, tmp_path, console, monkeypatch):
    """A reference that is not the policy's start stops the run before it has a folder."""
    honest = job.load_model

    def broken(recipe, **options):
        model = honest(recipe, **options)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.add_(0.1)
        return model

    monkeypatch.setattr(job, "load_model", broken)
    with pytest.raises(UserError, match="the reference is wrong"):
        job.start(recipe_for(tiny_base, pairs, tmp_path), "bad", console)
    assert list_runs(tmp_path) == []


@pytest.mark.real
@pytest.mark.slow
def test_the_real_hh_file_trains(tiny_base, hh_file, tmp_path, console):
    recipe = recipe_for(tiny_base, str(hh_file), tmp_path, max_steps=2)
    recipe.data.max_length = 300
    recipe.eval.limit = 8
    run = job.start(recipe, "hh", console)
    assert run.status()["state"] == "finished"
    assert read_json(run.path / "data.json")["format"] == "hh-rlhf"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"base": "./nowhere"}}, "there is no folder ./nowhere"),
        ({"model": {"base": "builtin:facts"}}, "there is no builtin:facts"),
        ({"data": {"train": "missing.jsonl"}}, "there is no file missing.jsonl"),
        ({"data": {"max_length": 100_000}}, "over the base's limit of 512"),
        ({"data": {"max_length": 8}}, "no row of 40 is left"),
        ({"adapter": {"targets": ["nothing"]}}, "adapter.targets"),
        ({"model": {"adapter": "./nowhere"}}, "model.adapter"),
    ],
)
def test_bad_input_is_one_sentence(tiny_base, pairs, tmp_path, console, change, message):
    values = recipe_for(tiny_base, pairs, tmp_path).model_dump()
    for section, keys in change.items():
        values[section] |= keys
    if "adapter" in change.get("model", {}):
        values["reference"] = None
    with pytest.raises(UserError, match=message) as caught:
        job.start(validate_recipe(values, "test"), "bad", console)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def reward_adapter(tiny_base, tmp_path_factory):
    """A reward model with random numbers."""
    folder = tmp_path_factory.mktemp("reward")
    section = ModelSection(base=tiny_base)
    model = roles.add_policy(load_base(section), AdapterSection(r=4), seed=0, head=True)
    with torch.no_grad():
        for parameter in roles.trainable_parameters(model):
            parameter.add_(torch.randn_like(parameter) * 0.1)
    roles.save_policy(model, folder, tiny_base, None)
    return str(folder)


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(RECIPES_FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_pass_the_preflight(path, tiny_base, pairs, reward_adapter, console):
    """Each recipe's own numbers, on a base and data that are at hand here."""
    stand_ins = [f"model.base={tiny_base}", f"data.train={pairs}", "data.eval=test"]
    stand_ins += ["model.adapter=null", "reference=null", "data.max_length=auto"]
    if load_recipe(path).task == "ppo":
        stand_ins.append(f"ppo.reward={reward_adapter}")
    recipe, _ = first_look(load_recipe(path, stand_ins), path.stem)
    _, report, objective = job.prepare_run(recipe, console)
    assert report.linear_4bit == 14
    assert objective.way == "forest"
    assert report.plan.budget >= report.trial.tokens > 0
    assert not any("pip install" in line for line in report.lines())
    slow = dataclasses.replace(report, faster=("causal-conv1d", "mamba-ssm"))  # on a card
    assert any("`pip install causal-conv1d mamba-ssm`" in line for line in slow.lines())
    if objective.task == "dpo":
        assert report.start_loss == pytest.approx(0.693147, abs=1e-5)
        assert any("policy equals reference" in line for line in report.lines())
