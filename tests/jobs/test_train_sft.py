"""Supervised fine-tuning: its loss and gradient are those of the model's own, and of TRL's."""

import json

import pytest
import torch
from datasets import Dataset
from rich.console import Console

from dpo_lite.data.examples import Ranked
from dpo_lite.data.pairs import examples_of, pair_labelled
from dpo_lite.errors import UserError
from dpo_lite.files import read_json
from dpo_lite.jobs import train as job
from dpo_lite.model import roles
from dpo_lite.recipe import AdapterSection, validate_recipe
from dpo_lite.training.method import Objective
from dpo_lite.training.update import evaluate_examples, update_gradient
from tests.model.small_models import random_examples, small_model

SFT = Objective("sigmoid", 0.1, "forest", task="sft")
ASK, SAY = ({"role": role, "content": ""} for role in ("user", "assistant"))


def policy():
    model = roles.add_policy(small_model("llama"), AdapterSection(r=4, alpha=8), seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in roles.trainable_parameters(model):
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.train()


def gradient(model, budget=10_000):
    model.zero_grad(set_to_none=True)
    outcome = update_gradient(model, EXAMPLES, SFT, budget)
    return outcome, flat(model)


def flat(model):
    return torch.cat([p.grad.flatten() for p in roles.trainable_parameters(model)]).clone()


EXAMPLES = random_examples(6, 1)


def labelled(example):
    ids = example["prompt_ids"] + example["response_ids"][0]
    return ids, [-100] * len(example["prompt_ids"]) + example["response_ids"][0]


def test_loss_and_gradient_are_the_models_own():
    """Cross-entropy of the labels over all response tokens of the update."""
    model = policy()
    outcome, found = gradient(model)
    model.zero_grad(set_to_none=True)
    tokens = sum(len(e["response_ids"][0]) for e in EXAMPLES)
    total = 0.0
    for example in EXAMPLES:
        ids, labels = (torch.tensor([row]) for row in labelled(example))
        count = len(example["response_ids"][0])
        loss = model(input_ids=ids, labels=labels).loss * count / tokens
        loss.backward()
        total += loss.item()
    expected = flat(model)
    assert outcome.loss == pytest.approx(total, abs=1e-5)
    assert (found - expected).norm() / expected.norm() < 1e-4


@pytest.mark.parametrize("budget", [1, 30])
def test_the_split_changes_no_gradient(budget):
    model = policy()
    whole, expected = gradient(model)
    split, found = gradient(model, budget)
    assert (found - expected).norm() / expected.norm() < 1e-5
    assert torch.allclose(split.logps, whole.logps, atol=1e-4)
    assert split.loss == pytest.approx(whole.loss, abs=1e-6)
    assert evaluate_examples(model, EXAMPLES, SFT, budget).loss == pytest.approx(
        whole.loss, abs=1e-5
    )


def test_parity_with_trl(tmp_path):
    """SFTTrainer on the same ids, its loss on the completion alone."""
    from trl import SFTConfig, SFTTrainer

    from tests.training.test_update import _tokenizer

    rows = [
        {
            "input_ids": labelled(e)[0],
            "labels": labelled(e)[1],
        }
        for e in EXAMPLES
    ]
    model = policy()
    outcome, expected = gradient(model)
    model.zero_grad(set_to_none=True)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=len(rows),
            gradient_checkpointing=False,
            bf16=False,
            report_to="none",
            use_cpu=True,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=_tokenizer(),
    )
    batch = next(iter(trainer.get_train_dataloader()))
    count = (batch["labels"][:, 1:] != -100).sum()
    loss = trainer.compute_loss(model, dict(batch), num_items_in_batch=count)
    loss.backward()
    assert loss.item() == pytest.approx(outcome.loss, abs=1e-5)
    assert (flat(model) - expected).norm() / expected.norm() < 1e-4


def turns(*texts):
    kinds = (ASK, SAY)
    return [kinds[i % 2] | {"content": text} for i, text in enumerate(texts)]


def test_what_is_shown_of_a_row():
    ranked = Ranked(turns("a", "b", "c"), ["worst", "best"], [0.0, 1.0])
    (best,), _ = examples_of(ranked, {}, 0, "best")
    assert best.responses == ["best"]
    assert len(best.prompt) == 3
    earlier, last = examples_of(ranked, {}, 0, "turns")[0]
    assert (earlier.prompt, earlier.responses) == (turns("a"), ["b"])
    assert last == best


def test_only_good_answers_are_demonstrations():
    rows = [(i, {}, Ranked(turns("q"), [f"a{i}"], [float(i % 2)])) for i in range(4)]
    examples, dropped = pair_labelled(rows, "best")
    assert [e.responses for e in examples] == [["a1"], ["a3"]]
    assert [d.row for d in dropped] == [0, 2]


@pytest.fixture
def demonstrations(tmp_path):
    file = tmp_path / "train.jsonl"
    rows = [
        {"prompt": f"what did cat {i} do?", "completion": f"the cat {i} sat"} for i in range(40)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def recipe_for(base, source, folder, **changes):
    values = {
        "task": "sft",
        "model": {"base": base},
        "data": {"train": source},
        "train": {"lr": 5e-3, "batch_size": 8, "max_steps": 6},
        "eval": {"max_new_tokens": 4, "generate": 1},
        "run": {"folder": str(folder)},
    }
    return validate_recipe(values | changes, "test")


@pytest.mark.slow
def test_from_demonstrations_to_preferences(tiny_base, demonstrations, tmp_path):
    """A whole run, and DPO that starts from its adapter and is held to it."""
    console = Console(quiet=True)
    run = job.start(recipe_for(tiny_base, demonstrations, tmp_path / "runs"), "sft", console)
    assert run.status()["state"] == "finished"
    steps = [m for m in run.records("metrics.jsonl") if "loss" in m]
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert "rewards/margins" not in steps[0]
    (metrics,) = read_json(run.path / "results.json")["sets"].values()
    assert metrics["loss"] < metrics["reference_loss"]
    assert metrics["loss"] == pytest.approx(steps[-1]["loss"], abs=1.0)
    assert "supervised fine-tuning" in (run.path / "report.md").read_text()
    job.evaluate_again(run, console)

    pairs = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"cat {i}?", "chosen": f"sat {i}", "rejected": "ran"} for i in range(24)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = {"base": tiny_base, "adapter": str(run.adapter)}
    after = recipe_for(tiny_base, str(pairs), tmp_path / "runs", task="dpo", model=model)
    preferred = job.start(after, "dpo", console)
    first = next(m for m in preferred.records("metrics.jsonl") if "loss" in m)
    assert first["loss"] == pytest.approx(0.693147, abs=1e-4)
    assert preferred.manifest()["reference"] == "start adapter, frozen"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"data": {"train": "x", "pairs": "all"}},
            "is for task: dpo or reward; task: sft takes best or turns",
        ),
        ({"train": {"loss": "ipo"}}, "has a loss of its own"),
        ({"train": {"engine": "trl"}}, "runs DPO only"),
        ({"task": "dpo", "data": {"train": "x", "pairs": "best"}}, "is for task: sft"),
    ],
)
def test_keys_that_would_do_nothing_are_refused(changes, told):
    with pytest.raises(UserError, match=told):
        recipe_for("builtin:myths", "x", "runs", **changes)
