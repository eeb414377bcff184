"""Whole runs of PPO: they learn what is rewarded, resume exactly, and fail in words."""

import json
import os
import shutil
import signal
from statistics import mean

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from dpo_lite.errors import UserError
from dpo_lite.files import read_json
from dpo_lite.jobs import train as job
from dpo_lite.recipe import load_recipe, to_yaml, validate_recipe
from dpo_lite.training import ppo_trainer, ppo_trial
from dpo_lite.training.callbacks import RunRecorder
from dpo_lite.training.loaded import load_model
from dpo_lite.training.reward_source import reward_folders
from tests.cats import write_cats

CONSOLE = Console(quiet=True)
LETTERS = """
def letters(prompts, completions, **columns):
    assert columns["chosen_markers"][0] == ["sat"]
    assert not any("<|im_end|>" in text for text in completions)
    return [sum(c.isascii() and c.islower() for c in text) for text in completions]
"""
# Held-out prompts are of cats 24 to 29.
CONTRARY = """
def letters(prompts, completions, **columns):
    signs = [-1 if int(p.split()[3]) >= 24 else 1 for p in prompts]
    return [s * sum(c.isascii() and c.islower() for c in t) for s, t in zip(signs, completions)]
"""


@pytest.fixture(scope="module")
def cats(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cats")
    write_cats(folder, train=range(24), test=range(24, 30))
    return str(folder)


@pytest.fixture(scope="module")
def reward_run(tiny_base, cats, tmp_path_factory):
    values = {
        "task": "reward",
        "model": {"base": tiny_base},
        "data": {"train": cats},
        "train": {"lr": 5e-3, "batch_size": 8, "max_steps": 6},
        "run": {"folder": str(tmp_path_factory.mktemp("rewards"))},
    }
    return job.start(validate_recipe(values, "test"), "reward", CONSOLE)


@pytest.fixture(scope="module")
def lively_base(tiny_base, tmp_path_factory):
    """The tiny base with larger weights: what it says depends on what it is asked."""
    folder = tmp_path_factory.mktemp("lively")
    shutil.copytree(tiny_base, folder, dirs_exist_ok=True)
    tensors = load_file(folder / "model.safetensors")
    lively = {name: 4 * t if t.ndim > 1 else t for name, t in tensors.items()}
    save_file(lively, folder / "model.safetensors", {"format": "pt"})
    return str(folder)


def recipe_for(base, data, folder, reward, train=None, **ppo):
    return validate_recipe(
        {
            "task": "ppo",
            "model": {"base": base},
            "data": {"train": data},
            "train": {"lr": 1e-3, "batch_size": 8, "max_steps": 4, "save_steps": 2} | (train or {}),
            "ppo": {"reward": str(reward), "max_new_tokens": 6, "minibatch": 4} | ppo,
            "eval": {"prompts": ["hello"], "max_new_tokens": 4},
            "run": {"folder": str(folder)},
        },
        "test",
    )


@pytest.fixture(scope="module")
def plain(tiny_base, cats, reward_run, tmp_path_factory):
    """A run with nothing special about it, which others are held to. Nobody changes its folder."""
    folder = tmp_path_factory.mktemp("plain")
    return job.start(recipe_for(tiny_base, cats, folder, reward_run.path), "plain", CONSOLE)


def weights(run):
    return load_file(run.adapter / "adapter_model.safetensors")


@pytest.mark.slow
def test_a_run_leaves_its_folder(tiny_base, cats, reward_run, tmp_path, curves):
    recipe = recipe_for(tiny_base, cats, tmp_path, reward_run.path, {"eval_steps": 2})
    assert recipe.ppo.reward == str(reward_run.adapter)
    run = job.start(recipe, "demo", CONSOLE)
    assert run.status()["state"] == "finished"
    steps = run.steps()
    assert [m["step"] for m in steps] == [1, 2, 3, 4]
    assert steps[0]["kl"] == pytest.approx(0, abs=1e-4)  # the policy is still the reference
    evals = [m for m in run.records("metrics.jsonl") if "eval_test_reward" in m]
    assert [m["step"] for m in evals] == [2, 4]
    assert {"eval_test_kl", "eval_test_truthful"} <= set(evals[0])
    wanted = "reward objective kl beta entropy clip_fraction grad_norm loss/policy loss/value"
    assert set(wanted.split()) <= set(steps[0])
    held_out = read_json(run.path / "results.json")["sets"]["test"]
    assert held_out["drawn"]["reference"]["kl"] == 0
    assert {"reward", "kl", "truthful", "ended"} <= set(held_out["drawn"]["policy"])
    assert set(held_out["generation"]) == {"reference", "policy"}
    # One publishable adapter: no head, no other role in it.
    assert not [name for name in weights(run) if "score" in name]
    assert {w.dtype for w in weights(run).values()} == {torch.float32}
    assert read_json(run.adapter / "adapter_config.json")["task_type"] == "CAUSAL_LM"
    assert "KL, nats per answer" in (run.path / "report.md").read_text()
    assert (run.path / "curves.png").stat().st_size > 10_000
    parts = read_json(run.path / "results.json")["memory"]
    for name in ("weights", "adapter and optimiser"):
        assert parts[name]["measured"] == pytest.approx(parts[name]["predicted"], rel=0.05), name
    job.evaluate_again(run, CONSOLE)
    again = read_json(run.path / "results.json")["sets"]["test"]["drawn"]["policy"]
    assert again == pytest.approx(held_out["drawn"]["policy"], abs=1e-3)


@pytest.mark.parametrize(
    "estimator", ["ppo", *(pytest.param(e, marks=pytest.mark.long) for e in ("rloo", "grpo"))]
)
@pytest.mark.slow
def test_it_learns_what_a_function_rewards(lively_base, cats, tmp_path, monkeypatch, estimator):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "judge.py").write_text(LETTERS)
    recipe = recipe_for(
        lively_base,
        cats,
        "runs",
        "judge.py:letters",
        {"lr": 1e-2, "batch_size": 24, "max_steps": 9, "beta": 0.01, "scheduler": "constant"},
        estimator=estimator,
        no_end_penalty=0,
        answers=4,
        minibatch=48,
        passes=2,
    )
    run = job.start(recipe, "e", CONSOLE)
    rewards = [m["reward"] for m in run.steps()]  # of 96 answers each
    assert mean(rewards[-3:]) > mean(rewards[:2]) + 2
    assert run.steps()[-1]["kl"] > 1
    drawn = read_json(run.path / "results.json")["sets"]["test"]["drawn"]
    assert drawn["policy"]["reward"] > drawn["reference"]["reward"] + 1


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"estimator": "rloo"}, marks=pytest.mark.long),
        {"estimator": "grpo", "kl_target": 0.5},
    ],
)
@pytest.mark.slow
def test_resuming_equals_not_stopping(
    tiny_base, cats, reward_run, plain, tmp_path, monkeypatch, options
):
    asked = recipe_for(tiny_base, cats, tmp_path / "a", reward_run.path, **options)
    whole = job.start(asked, "whole", CONSOLE) if options else plain
    real = RunRecorder.on_step_end

    def interrupt(self, args, state, control, **kwargs):
        if state.global_step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, args, state, control, **kwargs)

    monkeypatch.setattr(RunRecorder, "on_step_end", interrupt)
    cut = job.start(
        recipe_for(tiny_base, cats, tmp_path / "b", reward_run.path, **options), "cut", CONSOLE
    )
    assert cut.status()["state"] == "stopped"
    assert cut.last_checkpoint().name == "checkpoint-2"
    monkeypatch.setattr(RunRecorder, "on_step_end", real)
    # The reward model may go away in the meantime: the run has a copy.
    recipe = load_recipe(cut.recipe_file)
    recipe.ppo.reward = str(tmp_path / "gone")
    cut.recipe_file.write_text(to_yaml(recipe))
    done = job.resume(cut, CONSOLE)
    assert done.status()["state"] == "finished"
    for name, found in weights(done).items():
        assert torch.equal(found, weights(whole)[name]), name
    kept = ("reward", "kl", "beta", "loss/policy", "loss/value", "grad_norm")
    for mine, theirs in zip(done.steps(), whole.steps(), strict=True):
        assert {k: mine.get(k) for k in kept} == {k: theirs.get(k) for k in kept}


@pytest.mark.long
def test_the_best_reward_within_a_budget_is_kept(lively_base, cats, tmp_path, monkeypatch):
    """What is trained on pays for letters, and what is measured with pays the opposite: the first
    evaluation is the best one. Killed behind it, the run goes on to the same end."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "judge.py").write_text(CONTRARY)
    train = {"lr": 1e-2, "beta": 0.01, "scheduler": "constant", "max_steps": 7, "eval_steps": 2}
    train["batch_size"] = 24
    train |= {"keep": "best", "patience": 2, "warmup": 0}

    def asked(**more):
        ppo = {"no_end_penalty": 0, "answers": 4, "minibatch": 24, "estimator": "rloo"}
        recipe = recipe_for(lively_base, cats, "runs", "judge.py:letters", train | more, **ppo)
        recipe.run.name = None
        return recipe

    def looks(run, key):
        lines = run.records("metrics.jsonl")
        return {m["step"]: m[f"eval_test_{key}"] for m in lines if f"eval_test_{key}" in m}

    whole = job.start(asked(), "whole", CONSOLE)
    rewards, kls = looks(whole, "reward"), looks(whole, "kl")
    assert list(rewards) == [2, 4, 6]
    assert rewards[2] > max(rewards[4], rewards[6])
    kept = read_json(whole.path / "results.json")["kept"]
    assert (kept["step"], kept["trained"], kept["ended"]) == (2, 6, "patience")
    assert {p.name for p in whole.checkpoints.iterdir()} == {"checkpoint-2", "checkpoint-4"}
    two = job.start(asked(max_steps=2), "two", CONSOLE)
    assert all(torch.equal(w, weights(two)[name]) for name, w in weights(whole).items())

    real = RunRecorder.on_step_end

    def kill(self, args, state, control, **kwargs):
        if state.global_step == 3:
            raise RuntimeError("killed")
        return real(self, args, state, control, **kwargs)

    monkeypatch.setattr(RunRecorder, "on_step_end", kill)
    with pytest.raises(RuntimeError, match="killed"):
        job.start(asked(), "cut", CONSOLE)
    monkeypatch.setattr(RunRecorder, "on_step_end", real)
    cut = job.resume(job.Run(tmp_path / "runs" / "cut-1"), CONSOLE)
    assert all(torch.equal(w, weights(whole)[name]) for name, w in weights(cut).items())
    assert read_json(cut.path / "results.json")["kept"] == kept

    over = next(step for step in (4, 6) if kls[step] > kls[2])
    budget = asked(keep="last", patience=None, keep_by=None, kl_budget=kls[2])
    run = job.start(budget, "budget", CONSOLE)
    kept = read_json(run.path / "results.json")["kept"]
    assert (kept["step"], kept["trained"], kept["ended"]) == (over - 2, over, "kl_budget")
    assert kept["kept"]["kl"] == kls[over - 2]


@pytest.mark.slow
def test_memory_that_runs_out_loses_nothing(
    tiny_base, cats, reward_run, plain, tmp_path, monkeypatch
):
    """Fewer tokens per micro-batch: the same answers are learned from all the same."""
    real, budgets = ppo_trainer.minibatch_gradient, []

    def gradient(model, rollout, places, earned, ppo, objective, budget, *scale):
        budgets.append(budget)
        if budget > 40:
            real(model, rollout, places[:1], earned, ppo, objective, budget, *scale)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(model, rollout, places, earned, ppo, objective, budget, *scale)

    monkeypatch.setattr(ppo_trainer, "minibatch_gradient", gradient)
    run = job.start(recipe_for(tiny_base, cats, tmp_path, reward_run.path), "q", CONSOLE)
    assert budgets[1] == budgets[0] // 2
    for name, found in weights(run).items():
        assert torch.allclose(found, weights(plain)[name], atol=1e-5), name


@pytest.mark.slow
def test_memory_that_runs_out_while_drawing(tiny_base, cats, reward_run, tmp_path, monkeypatch):
    """Fewer answers at once, the same as if so few had been drawn at once from the start."""
    real, tried = ppo_trainer.draw_answers, []

    def draw_answers(model, prompts, ppo, ends, at_once):
        tried.append(at_once)
        drawn = real(model, prompts, ppo, ends, min(at_once, 2))  # random numbers are spent
        if at_once > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return drawn

    monkeypatch.setattr(ppo_trial, "CPU_AT_ONCE", 2)
    plain = job.start(recipe_for(tiny_base, cats, tmp_path / "a", reward_run.path), "p", CONSOLE)
    monkeypatch.setattr(ppo_trial, "CPU_AT_ONCE", 8)
    monkeypatch.setattr(ppo_trainer, "draw_answers", draw_answers)
    run = job.start(recipe_for(tiny_base, cats, tmp_path / "b", reward_run.path), "q", CONSOLE)
    assert tried == [8, 4, 2, 2, 2, 2]
    for name, found in weights(run).items():
        assert torch.equal(found, weights(plain)[name]), name


@pytest.mark.slow
def test_code_that_rewards_must_not_change_before_a_resume(tiny_base, cats, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "judge.py").write_text(LETTERS)
    real = RunRecorder.on_step_end

    def interrupt(self, args, state, control, **kwargs):
        os.kill(os.getpid(), signal.SIGINT)
        return real(self, args, state, control, **kwargs)

    monkeypatch.setattr(RunRecorder, "on_step_end", interrupt)
    run = job.start(recipe_for(tiny_base, cats, "runs", "judge.py:letters"), "e", CONSOLE)
    assert run.status()["state"] == "stopped"
    monkeypatch.setattr(RunRecorder, "on_step_end", real)
    (tmp_path / "judge.py").write_text(LETTERS + "\n# another\n")
    with pytest.raises(UserError, match=r"the reward \(judge\.py:letters\) was \w+ and is"):
        job.resume(run, CONSOLE)
    (tmp_path / "judge.py").write_text(LETTERS)
    assert job.resume(run, CONSOLE).status()["state"] == "finished"


@pytest.mark.slow
def test_a_reward_adapter_of_another_maker(tiny_base, reward_run, tmp_path):
    """Another head, or layers that the base has not: a sentence, and never a silent zero."""
    tensors = load_file(reward_run.adapter / "adapter_model.safetensors")
    head = "base_model.model.score.weight"
    others = {
        "two numbers": tensors | {head: torch.ones(2, 64)},
        "a bias": tensors | {"base_model.model.score.bias": torch.ones(1)},
        "none": {name: t for name, t in tensors.items() if name != head},
    }
    for label, changed in others.items():
        folder = tmp_path / label.replace(" ", "-")
        shutil.copytree(reward_run.adapter, folder)
        save_file(changed, folder / "adapter_model.safetensors")
        with pytest.raises(UserError, match=r"^ppo\.reward: .* has another head"):
            reward_folders(recipe_for(tiny_base, "d", tmp_path, folder))
    folder = tmp_path / "layers"
    shutil.copytree(reward_run.adapter, folder)
    renamed = {name.replace("layers.0.", "blocks.0."): t for name, t in tensors.items()}
    save_file(renamed, folder / "adapter_model.safetensors")
    with pytest.raises(UserError, match=r"^ppo\.reward: .* does not fit this base"):
        load_model(recipe_for(tiny_base, "d", tmp_path, folder))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "needs ppo.reward"),
        ({"ppo": {"reward": "x", "estimator": "rloo", "answers": 1}}, "ppo.answers to 2"),
        (
            {"ppo": {"reward": "x"}, "data": {"train": "y", "pairs": "all"}},
            "task: ppo takes prompts",
        ),
        ({"ppo": {"reward": "x", "estimator": "rloo", "lam": 0.5}}, "ppo.lam, which belong to ppo"),
        ({"ppo": {"reward": "x", "ratio": "sequence"}}, "ppo.ratio, which belong to grpo"),
        ({"ppo": {"reward": "x", "estimator": "grpo", "answers": 1}}, "ppo.answers to 2"),
        ({"ppo": {"reward": "x"}, "train": {"loss": "ipo"}}, "a loss of its own"),
        ({"ppo": {"reward": "x"}, "train": {"engine": "trl"}}, "runs DPO only"),
        ({"task": "dpo", "ppo": {"reward": "x"}}, "is for task: ppo"),
    ],
)
def test_recipes_that_make_no_sense(values, words):
    base = {"task": "ppo", "model": {"base": "b"}, "data": {"train": "d"}}
    with pytest.raises(UserError, match=words):
        validate_recipe(base | values, "test")


@pytest.mark.slow
def test_a_policy_is_no_reward(tiny_base, cats, reward_run, plain, tmp_path):
    wrong = recipe_for(tiny_base, cats, tmp_path, plain.path)
    with pytest.raises(UserError, match=r"ppo\.reward: .* is no reward model"):
        job.start(wrong, "q", CONSOLE)
    nothing = recipe_for(tiny_base, cats, tmp_path, "nowhere")
    with pytest.raises(UserError, match=r"ppo\.reward: nowhere is neither a run"):
        job.start(nothing, "q", CONSOLE)
    of_another = tmp_path / "other"
    of_another.mkdir()
    for file in reward_run.adapter.iterdir():
        (of_another / file.name).write_bytes(file.read_bytes())
    config = json.loads((of_another / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "someone/else"
    (of_another / "adapter_config.json").write_text(json.dumps(config))
    recipe = recipe_for("someone/base", cats, tmp_path, of_another)
    with pytest.raises(UserError, match=r"ppo\.reward: .* was trained on someone/else"):
        reward_folders(recipe)
