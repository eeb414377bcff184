"""Whole runs of a reward model: what they leave, how they resume, load back and judge."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from peft import PeftModel
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from dpo_lite.compare.columns import columns
from dpo_lite.data.examples import Example, Ranked
from dpo_lite.data.pairs import examples_of
from dpo_lite.data.prepare import prepare
from dpo_lite.errors import UserError
from dpo_lite.evaluate.best_of import best_of
from dpo_lite.evaluate.judge import judge_recipe, load_judge
from dpo_lite.evaluate.scores import encode_rows, score_source
from dpo_lite.export.run import merge_run
from dpo_lite.files import read_json
from dpo_lite.jobs import train as job
from dpo_lite.model import roles
from dpo_lite.model.adapter_files import is_reward
from dpo_lite.model.base import load_base
from dpo_lite.model.heads import read_mean
from dpo_lite.rates import Rate
from dpo_lite.recipe import validate_recipe
from dpo_lite.training.callbacks import RunRecorder
from dpo_lite.training.loaded import load_model
from dpo_lite.training.reward_model import check_margins, rewards_of
from tests.cats import write_cats
from tests.model.small_models import random_examples

CONSOLE = Console(quiet=True)
EXAMPLES = random_examples(4, 2)


def recipe_for(base, data, folder, **sections):
    values = {
        "task": "reward",
        "model": {"base": base},
        "data": {"train": data},
        "train": {"lr": 5e-3, "batch_size": 8, "max_steps": 6, "save_steps": 2},
        "eval": {"max_new_tokens": 4},
        "run": {"folder": str(folder)},
    }
    return validate_recipe(values | sections, "test")


def trained(recipe, name):
    return job.start(recipe, name, CONSOLE)


def weights(run):
    return load_file(run.adapter / "adapter_model.safetensors")


def scores(model, role=roles.policy):
    return rewards_of(model.eval(), EXAMPLES, "forest", torch.float32, 10_000, role=role)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    write_cats(folder, train=range(40), test=range(40, 52))
    return str(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(tiny_base, pairs, place):
    """A finished run over a base without quantisation, which plain transformers can load."""
    model = {"base": tiny_base, "quantization": "none"}
    return trained(recipe_for(tiny_base, pairs, place, model=model), "judge")


@pytest.mark.slow
def test_a_run_says_nothing_and_leaves_its_facts(run, curves):
    assert run.status()["state"] == "finished"
    steps = [m for m in run.records("metrics.jsonl") if "loss" in m]
    assert steps[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert steps[-1]["loss"] < 0.6
    assert not (run.path / "samples.jsonl").exists()
    results = read_json(run.path / "results.json")
    assert run.results() == results
    held_out = results["sets"]["test"]
    assert held_out["rewards/accuracies"] == 1.0
    assert set(held_out) >= {"loss", "rewards/margins", "calibration"}
    assert "generation" not in held_out
    assert held_out["calibration"]["pairs"] == 12
    mean = read_json(run.adapter / "reward.json")
    assert results["mean_reward"] == mean
    assert mean["responses"] == 80
    assert run.manifest()["reference"] == "none"
    report = (run.path / "report.md").read_text()
    assert "calibration.png" in report
    assert "80 responses" in report
    assert "reference" not in report

    job.evaluate_again(run, CONSOLE)
    again = read_json(run.path / "results.json")
    assert again["sets"]["test"]["loss"] == pytest.approx(held_out["loss"], abs=1e-6)
    assert again["mean_reward"] == mean
    for name in ("calibration.png", "curves.png"):
        assert (run.path / name).stat().st_size > 0


@pytest.mark.slow
def test_resuming_equals_not_stopping(tiny_base, pairs, tmp_path, monkeypatch):
    """To the last bit: the head is in the checkpoint."""
    whole = trained(recipe_for(tiny_base, pairs, tmp_path / "a"), "whole")
    interrupted = RunRecorder.on_step_end

    def stop_at_three(self, args, state, control, **kwargs):
        if state.global_step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return interrupted(self, args, state, control, **kwargs)

    monkeypatch.setattr(RunRecorder, "on_step_end", stop_at_three)
    run = trained(recipe_for(tiny_base, pairs, tmp_path / "b"), "part")
    assert run.status()["state"] == "stopped"
    monkeypatch.undo()
    job.resume(run, CONSOLE)
    expected, found = weights(whole), weights(run)
    assert any("score.weight" in name for name in expected)
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
    assert read_json(run.adapter / "reward.json") == read_json(whole.adapter / "reward.json")


def test_plain_transformers_and_peft_give_the_same_scores(run, tiny_base):
    ours = scores(roles.load_policy(load_base(recipe_of(run).model), run.adapter, head=True))
    base = AutoModelForSequenceClassification.from_pretrained(tiny_base, num_labels=1)
    plain = PeftModel.from_pretrained(base, run.adapter).eval()
    plain.config.pad_token_id = 0
    for example, rewards in zip(EXAMPLES, ours, strict=True):
        rows = [example["prompt_ids"] + answer for answer in example["response_ids"]]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        with torch.no_grad():
            found = plain(input_ids=ids, attention_mask=(ids != 0).long()).logits.squeeze(-1)
        assert torch.allclose(found, torch.tensor(rewards), atol=1e-5)


def recipe_of(run):
    from dpo_lite.recipe import load_recipe

    return load_recipe(run.recipe_file)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_beside_a_policy_it_says_the_same(run, tiny_base, quantization):
    """Also through 4 bits, and with a policy that was trained beside it."""
    model = recipe_for(tiny_base, "-", "-", model={"base": tiny_base, "quantization": quantization})
    alone = scores(roles.load_policy(load_base(model.model), run.adapter, head=True))
    both = roles.add_policy(load_base(model.model), model.adapter, seed=1)
    with torch.no_grad():
        for parameter in roles.trainable_parameters(both):
            parameter.add_(0.05)
    roles.add_reward(both, run.adapter)
    roles.add_value(both, model.adapter, run.adapter)
    assert np.allclose(scores(both, roles.reward), alone, atol=1e-6)
    assert np.allclose(scores(both, roles.value), alone, atol=1e-6)
    assert np.ptp(alone) > 0.01
    trained_ones = roles.trainable_parameters(both)
    assert all("reward" not in n for n, p in both.named_parameters() if p.requires_grad)
    assert {p.dtype for p in trained_ones} == {torch.float32}


@pytest.mark.parametrize("by", ["name", "folder"])
def test_it_judges_centred(run, pairs, place, by):
    name = "judge-1" if by == "name" else str(run.adapter)
    overrides = [] if by == "name" else ["model.quantization=none"]
    recipe, adapter = judge_recipe(name, f"{pairs}/test.jsonl", overrides, place)
    assert recipe.task == "reward"
    judge = load_judge(recipe, adapter)
    found = score_source(judge, encode_rows(recipe, judge.encoder, print))
    assert found.accuracy() == Rate(1.0, 12)
    assert "reward model" in judge.words
    rows = found.source.table.to_list()
    raw = rewards_of(judge.model, rows, "forest", torch.float32, 10_000)
    assert np.allclose(np.array(found.rewards), np.array(raw) - read_mean(run.adapter), atol=1e-5)


def test_best_of_ranks_the_bases_answers(run, place, monkeypatch):
    """Guarded by what the base that the head stands on says of them."""
    recipe, adapter = judge_recipe("judge-1", None, (), place)
    judge = load_judge(recipe, adapter)
    how = {"max_new_tokens": 6, "temperature": 1.5}
    ranked = best_of(judge, "what did cat 3 do?", 6, guard=False, **how)
    rewards = [answer.reward for answer in ranked]
    assert rewards == sorted(rewards, reverse=True)
    assert rewards[0] > rewards[-1]
    monkeypatch.setattr("dpo_lite.evaluate.guard.surprise_limit", lambda usual: 0.0)
    ranked = best_of(judge, "what did cat 3 do?", 6, **how)
    assert [answer.aside.kind for answer in ranked] == ["unlikely"] * len(rewards)
    assert [answer.reward for answer in ranked] == pytest.approx(rewards)


def test_the_mean_over_the_training_data_is_taken_off(run, pairs, place):
    """So the centred rewards of the training data have mean 0."""
    recipe, adapter = judge_recipe("judge-1", f"{pairs}/train.jsonl", (), place)
    judge = load_judge(recipe, adapter)
    found = score_source(judge, encode_rows(recipe, judge.encoder, print))
    assert np.concatenate(found.rewards).mean() == pytest.approx(0, abs=1e-5)


@pytest.mark.slow
def test_from_demonstrations_and_on_from_a_reward_model(tiny_base, pairs, tmp_path):
    model = {"base": tiny_base}
    sft = recipe_for(tiny_base, pairs, tmp_path, task="sft")
    sft = trained(sft, "sft")
    model = {"base": tiny_base, "adapter": str(sft.adapter)}
    first = trained(recipe_for(tiny_base, pairs, tmp_path, model=model), "first")
    assert is_reward(first.adapter)
    loss = [m["loss"] for m in first.records("metrics.jsonl") if "loss" in m]
    assert loss[0] == pytest.approx(0.693147, abs=1e-5)

    model = {"base": tiny_base, "adapter": str(first.adapter)}
    onward = recipe_for(tiny_base, pairs, tmp_path, model=model)
    assert np.allclose(scores(load_model(onward)), scores_of(first), atol=1e-5)
    second = trained(onward, "second")
    losses = [m["loss"] for m in second.records("metrics.jsonl") if "loss" in m]
    assert losses[0] == pytest.approx(loss[-1], abs=0.1)
    recipe, adapter = judge_recipe("first-1", None, (), tmp_path)
    assert roles.START in load_judge(recipe, adapter).model.peft_config  # who answers in best-of
    recipe, adapter = judge_recipe("second-1", None, (), tmp_path)
    assert roles.START not in load_judge(recipe, adapter).model.peft_config

    wider = recipe_for(tiny_base, pairs, tmp_path, model=model, adapter={"extra_r": 4})
    assert np.allclose(scores(load_model(wider)), scores_of(first), atol=1e-5)


def scores_of(run):
    return scores(roles.load_policy(load_base(recipe_of(run).model), run.adapter, head=True))


@pytest.mark.slow
def test_what_it_cannot_do_is_refused(run, tiny_base, pairs, place, tmp_path):
    with pytest.raises(UserError, match="judges answers and gives none"):
        columns(run, ["policy"], place)
    policy = recipe_for(tiny_base, pairs, tmp_path, task="dpo", model={"base": tiny_base})
    policy = trained(policy, "policy")
    with pytest.raises(UserError, match="judge-1 is a reward model"):
        columns(policy, ["reference", str(run.path)], place)
    with pytest.raises(UserError, match="judge-1 is a reward model"):
        merge_run(run, tmp_path / "merged")
    for task in ("dpo", "sft"):
        model = {"base": tiny_base, "adapter": str(run.adapter)}
        with pytest.raises(UserError, match="name the adapter of a policy"):
            trained(recipe_for(tiny_base, pairs, tmp_path, task=task, model=model), task)


def test_what_the_card_tells_to_do_gives_our_score(run, tiny_base, capsys):
    """The lines of the card, with folders for names and words for dots."""
    from dpo_lite.data.tokens import Encoder
    from dpo_lite.model.base import load_tokenizer
    from dpo_lite.tasks.card import Facts
    from dpo_lite.tasks.reward_card import RewardCard

    recipe = recipe_of(run)
    facts = Facts(recipe, {}, tiny_base)
    use = RewardCard().use(facts, str(run.adapter), tiny_base)
    code = use.split("```")[1].removeprefix("python")
    words = iter(["what did cat 3 do?", "the cat 3 sat"])
    for _ in range(2):
        code = code.replace('"..."', repr(next(words)), 1)
    capsys.readouterr()
    exec(code, {})
    encoder = Encoder(load_tokenizer(recipe.model))
    row = Example([{"role": "user", "content": "what did cat 3 do?"}], ["the cat 3 sat"], 0)
    (ids,) = encoder.tokenise([encoder.render(row)])
    example = {"prompt_ids": list(ids.prompt_ids), "response_ids": [list(ids.response_ids[0])]}
    model = roles.load_policy(load_base(recipe.model), run.adapter, head=True).eval()
    ((expected,),) = rewards_of(model, [example], "forest", torch.float32, 1000)
    assert float(capsys.readouterr().out) == pytest.approx(expected, abs=1e-5)


def test_margins_of_the_data_reach_the_loss(tiny_base, tmp_path):
    """Numbers, numbers as text and empty cells; what is no lead is refused by its row."""
    rows = [
        {"prompt": f"cat {i}?", "chosen": f"sat {i}", "rejected": "ran", "margin": margin}
        for i, margin in enumerate([1.0, None, "2.5", 0])
    ]
    file = tmp_path / "pairs.jsonl"

    def prepared(last):
        rows[-1]["margin"] = last
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        other = tmp_path / "other.jsonl"
        other.write_text(json.dumps({"prompt": "dog?", "chosen": "sat", "rejected": "ran"}))
        recipe = recipe_for(tiny_base, str(other), tmp_path)
        recipe.data.eval = str(file)
        return prepare(recipe.data, None)

    data = prepared(0).evals["pairs"]
    assert data["margin"] == [1.0, None, 2.5, 0.0]
    check_margins("data.train", data)
    for wrong, told in ((-0.5, r"row 3 is negative \(-0.5\)"), ("slightly", "row 3 is no number")):
        with pytest.raises(UserError, match=told):
            check_margins("data.train", prepared(wrong).evals["pairs"])


def test_a_ranking_has_no_margin():
    found = Ranked([{"role": "user", "content": "q"}], ["a", "b", "c"], [1.0, 2.0, 3.0])
    for pairs in ("keep", "all"):
        examples, _ = examples_of(found, {"margin": 1.0}, 0, pairs)
        assert {example.margin for example in examples} == {None}
