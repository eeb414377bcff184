"""The reward model's scores, loss and gradient: exact, and those of TRL's RewardTrainer."""

import math

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from torch.nn.functional import logsigmoid, softplus
from transformers import AutoModelForSequenceClassification

from dpo_lite.model import roles
from dpo_lite.model.layers import decoder_of
from dpo_lite.model.scoring import lay_out, response_scores, scoring_context
from dpo_lite.recipe import AdapterSection
from dpo_lite.training.method import Objective
from dpo_lite.training.reward_model import rewards_of
from dpo_lite.training.update import evaluate_examples, update_gradient
from tests.model.small_models import FOREST, RECURRENT, random_examples, small_model
from tests.training.test_update import _tokenizer

MARGINS = [0.5, 0.0, 2.0, None, 0.25, 1.0]


def reward_model(kind="llama", stirred=True):
    targets = ["in_proj"] if kind in ("falcon_h1", "mamba") else "all-linear"  # as PEFT allows
    section = AdapterSection(r=4, alpha=8, targets=targets)
    model = roles.add_policy(small_model(kind), section, seed=0, head=True)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in roles.trainable_parameters(model) if stirred else ():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.train()


def objective(way="forest", **changes):
    return Objective("sigmoid", 0.1, way, task="reward", **changes)


def gradients(model, examples, wanted, budget=10_000):
    model.zero_grad(set_to_none=True)
    outcome = update_gradient(model, examples, wanted, budget)
    named = model.named_parameters()
    return outcome, {name: p.grad.clone() for name, p in named if p.requires_grad}


def relative_error(found, expected):
    difference = sum(((found[name] - expected[name]) ** 2).sum() for name in expected)
    return (difference / sum((g**2).sum() for g in expected.values())).sqrt().item()


def with_margins(examples):
    return [e | {"margin": m} for e, m in zip(examples, MARGINS, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*FOREST, *RECURRENT])
def test_packed_scores_are_those_of_single_rows(kind):
    """Recurrent models are never packed; their padded rows are held to the same truth."""
    model = reward_model(kind).eval()
    examples = random_examples(3, 3)
    way = "forest" if kind in FOREST else "separate"
    rows = rewards_of(model, examples, way, torch.float32, 10_000)
    for example, found in zip(examples, rows, strict=True):
        for answer, reward in zip(example["response_ids"], found, strict=True):
            ids = torch.tensor([example["prompt_ids"] + answer])
            with torch.no_grad():
                lm = model.get_base_model()
                alone = lm.score(decoder_of(lm)(input_ids=ids).last_hidden_state[0, -1]).item()
            assert reward == pytest.approx(alone, abs=1e-4)
    assert max(map(max, rows)) - min(map(min, rows)) > 0.01


@pytest.mark.parametrize("budget", [1, 40])
def test_the_split_changes_no_gradient(budget):
    model, examples = reward_model(), with_margins(random_examples(6, 2))
    wanted = objective(centering=0.1)
    whole, expected = gradients(model, examples, wanted)
    split, found = gradients(model, examples, wanted, budget)
    assert relative_error(found, expected) < 1e-5
    assert torch.allclose(split.losses, whole.losses, atol=1e-5)
    assert torch.allclose(split.rewards_first, whole.rewards_first, atol=1e-5)


def test_before_the_first_update():
    """A zero head: all rewards are 0 and the loss is ln 2, or that of the margin asked for."""
    model, examples = reward_model(stirred=False), random_examples(6, 2)
    outcome, found = gradients(model, examples, objective(centering=0.1))
    assert outcome.rewards_first.abs().max() == outcome.rewards_last.abs().max() == 0
    assert outcome.loss == pytest.approx(math.log(2), abs=1e-6)
    assert "rewards/accuracies" not in outcome.metrics()
    assert sum(gradient.norm() for gradient in found.values()) > 0
    asked = evaluate_examples(model, with_margins(examples), objective(), 10_000)
    expected = softplus(torch.tensor([m or 0.0 for m in MARGINS]))
    assert torch.allclose(asked.losses, expected, atol=1e-6)


def test_the_loss_by_hand():
    model, examples = reward_model(), with_margins(random_examples(6, 2))
    outcome = evaluate_examples(model, examples, objective(), 10_000)
    margins = torch.tensor([m or 0.0 for m in MARGINS])
    expected = -logsigmoid(outcome.rewards_first - outcome.rewards_last - margins)
    assert torch.allclose(outcome.losses, expected, atol=1e-6)


def test_two_responses_in_a_ranking_are_a_pair():
    model, examples = reward_model(), random_examples(5, 2)
    pair, expected = gradients(model, examples, objective())
    ranking = Objective("plackett_luce", 0.1, "forest", task="reward")
    ranked, found = gradients(model, examples, ranking)
    assert torch.allclose(ranked.losses, pair.losses, atol=1e-6)
    assert relative_error(found, expected) < 1e-5


def test_the_head_stays_in_fp32_under_autocast():
    model = reward_model()
    batch = lay_out(random_examples(2, 2), "forest")
    with scoring_context(model, batch, torch.bfloat16):
        scores = response_scores(model, batch)
        scores.sum().backward()
    head = model.get_base_model().score.weight
    assert scores.dtype == head.dtype == head.grad.dtype == torch.float32


@pytest.mark.parametrize("margins", [False, True], ids=["plain", "margins"])
@pytest.mark.parametrize("centering", [0.0, 0.1])
def test_parity_with_trl(tmp_path, margins, centering):
    """RewardTrainer on the same ids and weights: its sequence classifier with our adapter."""
    from trl import RewardConfig, RewardTrainer

    small_model("llama").save_pretrained(tmp_path / "base")
    ours = reward_model()
    roles.save_policy(ours, tmp_path / "adapter", str(tmp_path / "base"), None)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=1)
    theirs = PeftModel.from_pretrained(theirs, tmp_path / "adapter", is_trainable=True)
    examples = random_examples(6, 2)
    rows = [
        {
            "chosen_ids": e["prompt_ids"] + e["response_ids"][0],
            "rejected_ids": e["prompt_ids"] + e["response_ids"][1],
        }
        for e in examples
    ]
    if margins:
        examples = with_margins(examples)
        rows = [row | {"margin": m or 0.0} for row, m in zip(rows, MARGINS, strict=True)]
    trainer = RewardTrainer(
        model=theirs,
        args=RewardConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=len(rows),
            center_rewards_coefficient=centering or None,
            gradient_checkpointing=False,
            bf16=False,
            report_to="none",
            use_cpu=True,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=_tokenizer(),
    )
    loss = trainer.compute_loss(theirs.train(), trainer.data_collator(rows))
    loss.backward()
    expected = {n: p.grad.clone() for n, p in theirs.named_parameters() if p.requires_grad}
    outcome, found = gradients(ours, examples, objective(centering=centering))
    penalty = ((outcome.rewards_first + outcome.rewards_last) ** 2).mean().item()
    assert outcome.loss + centering * penalty == pytest.approx(loss.item(), abs=1e-5)
    assert found.keys() == expected.keys()
    assert relative_error(found, expected) < 1e-4
