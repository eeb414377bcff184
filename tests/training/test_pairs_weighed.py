"""LD-DPO with remembered references, and a beta that follows an update's pairs."""

from dataclasses import replace

import pytest
import torch
from datasets import Dataset

from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.objectives.preference import moved_beta, moved_mean
from dpo_lite.recipe import AdapterSection, ModelSection, validate_recipe
from dpo_lite.training import dpo
from dpo_lite.training.method import Objective
from dpo_lite.training.reference_cache import ReferenceCache
from dpo_lite.training.trainer import MOVING_FILE, PreferenceTrainer
from dpo_lite.training.update import evaluate_examples, update_gradient
from tests.model.small_models import random_examples, small_model


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    small_model("llama", hidden_size=64).save_pretrained(folder)
    return str(folder)


def policy(base_folder, scale=0.05):
    base = load_base(ModelSection(base=base_folder, quantization="none"))
    model = roles.add_policy(base, AdapterSection(r=4, alpha=8), seed=0).train()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in roles.trainable_parameters(model):
            parameter.add_(torch.randn_like(parameter) * scale)
    return model


def gradient(model, examples, objective, budget=10_000, references=None):
    model.zero_grad(set_to_none=True)
    outcome = update_gradient(model, examples, objective, budget, references)
    return outcome, torch.cat([p.grad.flatten() for p in roles.trainable_parameters(model)])


# --- LD-DPO ---------------------------------------------------------------------------------------

LD = Objective("sigmoid", 0.5, "forest", ld_alpha=0.3)


@pytest.mark.parametrize("way", ["forest", "separate"])
def test_rewards_are_those_of_the_tokens_weighed(base_folder, way):
    """log pi of the answers and of their common beginning, scored apart, put together by hand."""
    model, examples = policy(base_folder), random_examples(5, 2)
    whole = evaluate_examples(model, examples, replace(LD, ld_alpha=None), 10_000)
    heads = [
        {
            "prompt_ids": e["prompt_ids"],
            "response_ids": [a[: min(map(len, e["response_ids"]))] for a in e["response_ids"]],
        }
        for e in examples
    ]
    head = evaluate_examples(model, heads, replace(LD, ld_alpha=None), 10_000)
    found = evaluate_examples(model, examples, replace(LD, way=way), 10_000)
    for end in ("first", "last"):
        whole_ratio, head_ratio = (
            getattr(o, f"policy_{end}") - getattr(o, f"reference_{end}") for o in (whole, head)
        )
        expected = 0.5 * (0.7 * head_ratio + 0.3 * whole_ratio)
        assert torch.allclose(getattr(found, f"rewards_{end}"), expected, atol=1e-4)
        logps = getattr(found, f"policy_{end}")  # of the whole answer, as ever
        assert torch.allclose(logps, getattr(whole, f"policy_{end}"), atol=1e-4)


def test_remembered_references_give_the_same_whatever_they_were_remembered_for(
    base_folder, tmp_path, monkeypatch
):
    model, examples = policy(base_folder), random_examples(6, 2)
    expected, direction = gradient(model, examples, LD)
    (tmp_path / "kept").mkdir()
    cache = ReferenceCache(tmp_path / "kept")
    evaluate_examples(model, examples, replace(LD, ld_alpha=None), 10_000, references=cache)
    found, same = gradient(model, examples, LD, budget=60, references=cache)
    assert torch.allclose(found.losses, expected.losses, atol=1e-5)
    assert ((same - direction).norm() / direction.norm()).item() < 1e-4
    passes = []
    honest = roles.reference
    monkeypatch.setattr(roles, "reference", lambda model: (passes.append(1), honest(model))[1])
    for alpha in (0.3, 0.9, None):  # another alpha needs no number anew, nor does plain DPO
        evaluate_examples(model, examples, replace(LD, ld_alpha=alpha), 10_000, references=cache)
    assert not passes
    again = evaluate_examples(model, examples, LD, 10_000, references=cache)
    assert torch.allclose(again.losses, expected.losses, atol=1e-5)


def test_alpha_of_one_is_dpo(base_folder):
    model, examples = policy(base_folder), random_examples(5, 2)
    plain = evaluate_examples(model, examples, replace(LD, ld_alpha=None), 10_000)
    one = evaluate_examples(model, examples, replace(LD, ld_alpha=1.0), 10_000)
    assert torch.allclose(one.losses, plain.losses, atol=1e-6)


# --- a beta that moves ----------------------------------------------------------------------------

MOVING = Objective("sigmoid", 0.5, "forest", dynamic_beta=0.6, mean_margin=0.2)


def test_beta_is_of_the_whole_update(base_folder):
    """It is the formula's, and no split changes it or the gradient."""
    model, examples = policy(base_folder), random_examples(6, 2)
    still = evaluate_examples(model, examples, MOVING, 10_000)
    assert set(still.betas.tolist()) == {0.5}  # nothing is learned, so it stays
    margin = (still.rewards_first - still.rewards_last).mean().item()
    beta = moved_beta(0.5, 0.6, margin, 0.2)
    assert beta != pytest.approx(0.5, rel=1e-3)
    whole, expected = gradient(model, examples, MOVING)
    assert whole.betas.tolist() == pytest.approx([beta] * 6, rel=1e-5)
    assert whole.margin(0.5) == pytest.approx(margin, abs=1e-5)
    split, found = gradient(model, examples, MOVING, budget=40)
    assert split.betas.tolist() == pytest.approx([beta] * 6, rel=1e-5)
    assert ((found - expected).norm() / expected.norm()).item() < 1e-4
    fixed = replace(MOVING, dynamic_beta=0.0, beta=beta)
    assert torch.allclose(gradient(model, examples, fixed)[1], expected, atol=1e-6)


def trainer(base_folder, folder):
    recipe = validate_recipe(
        {
            "model": {"base": base_folder},
            "data": {"train": "x"},
            "train": {
                "dynamic_beta": 0.6,
                "beta": 0.5,
                "lr": 1e-2,
                "batch_size": 3,
                "max_steps": 5,
                "save_steps": 3,
                "optimizer": "adamw",
            },
        },
        "test",
    )
    return PreferenceTrainer(
        model=policy(base_folder),
        recipe=recipe,
        objective=Objective.of(recipe, "forest", torch.float32),
        budget=60,
        folder=folder,
        train=Dataset.from_list(random_examples(15, 2)),
        evals={},
        callbacks=[],
        say=print,
    )


def test_a_beta_that_moves_goes_on_to_the_bit(base_folder, tmp_path):
    whole = trainer(base_folder, tmp_path / "whole")
    whole.train()
    kept = tmp_path / "whole" / "checkpoint-3"
    assert (kept / MOVING_FILE).exists()
    part = trainer(base_folder, tmp_path / "part")
    part.train(resume_from_checkpoint=str(kept))
    assert part.objective.mean_margin == whole.objective.mean_margin != 0
    betas = [[log["beta"] for log in t.state.log_history if "beta" in log] for t in (whole, part)]
    assert betas[0] == betas[1]
    assert len(set(betas[0])) == 5
    for one, other in zip(
        *(roles.trainable_parameters(t.model) for t in (whole, part)), strict=True
    ):
        assert torch.equal(one, other)
    mean = 0.0
    for log in whole.state.log_history:
        if "beta" in log:
            mean = moved_mean(mean, log["rewards/margins"] * 0.5 / log["beta"])
    assert whole.objective.mean_margin == pytest.approx(mean, abs=1e-5)


def test_a_checkpoint_without_it_is_not_whole():
    recipe = validate_recipe(
        {"model": {"base": "x"}, "data": {"train": "y"}, "train": {"dynamic_beta": 0.6}}, "test"
    )
    assert MOVING_FILE in dpo.DPO().checkpoint_files(recipe)
    recipe.train.dynamic_beta = None
    assert MOVING_FILE not in dpo.DPO().checkpoint_files(recipe)
