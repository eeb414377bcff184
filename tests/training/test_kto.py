"""KTO's update: its reference point, its split, its reference's numbers, and TRL as the oracle."""

import pytest
import torch
from datasets import Dataset

from dpo_lite.errors import UserError
from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.recipe import AdapterSection, ModelSection, validate_recipe
from dpo_lite.training.kto import KTO
from dpo_lite.training.method import Objective
from dpo_lite.training.reference_cache import ReferenceCache
from dpo_lite.training.update import evaluate_examples, update_gradient
from tests.model.small_models import random_examples, small_model
from tests.training.side_by_side import labelled
from tests.training.test_update import _tokenizer, relative, stir

WEIGHTS = {"desirable_weight": 1.0, "undesirable_weight": 1.5}
OURS = Objective("sigmoid", 0.5, "forest", task="kto", **WEIGHTS)


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    small_model("llama", hidden_size=64).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def fresh(base_folder):
    base = load_base(ModelSection(base=base_folder, quantization="none"))
    return roles.add_policy(base, AdapterSection(r=4, alpha=8), seed=0).train()


@pytest.fixture
def model(fresh):
    """A policy that has moved away from its reference, to where mismatched answers are likelier."""
    return stir(fresh)


def gradient(model, examples, objective=OURS, budget=10_000, references=None):
    model.zero_grad(set_to_none=True)
    outcome = update_gradient(model, examples, objective, budget, references)
    return outcome, torch.cat([p.grad.flatten() for p in roles.trainable_parameters(model)])


def by_hand(model, examples):
    """z0 of the examples, from the model's own logits, one row after the other."""

    def logp(example, answer):
        ids = torch.tensor([example["prompt_ids"] + answer])
        start = len(example["prompt_ids"])
        logits = model(ids).logits[0, start - 1 : -1].log_softmax(-1)
        return logits.gather(-1, ids[0, start:, None]).sum().item()

    ratios = []
    for example in examples:
        with torch.no_grad():
            policy = logp(example, example["mismatched_ids"])
            with roles.reference(model):
                ratios.append(policy - logp(example, example["mismatched_ids"]))
    return max(0.0, sum(ratios) / len(ratios))


def above_zero(model, number):
    """Examples of whose mismatched pairs z0 is above 0, so that it matters."""
    for seed in range(20):
        examples = labelled(random_examples(number, 1, seed=seed))
        if by_hand(model, examples) > 0.05:
            return examples
    raise AssertionError("no such examples")


def test_the_reference_point_is_that_of_the_mismatched_pairs(model):
    examples = above_zero(model, 6)
    outcome, _ = gradient(model, examples)
    assert outcome.points.tolist() == pytest.approx([by_hand(model, examples)] * 6, abs=1e-4)
    assert outcome.metrics()["kl"] == pytest.approx(outcome.points[0].item())


def test_one_example_has_its_own_reference_point(model):
    examples = above_zero(model, 1)
    outcome, found = gradient(model, examples)
    point = by_hand(model, examples)
    assert outcome.points.item() == pytest.approx(point, abs=1e-4)
    reward = 0.5 * (outcome.policy - outcome.reference)
    assert outcome.losses.item() == pytest.approx(
        1 - torch.sigmoid(reward - 0.5 * point).item(), abs=1e-5
    )
    assert found.norm() > 0
    assert "rewards/rejected" not in outcome.metrics()
    assert "rewards/margins" not in outcome.metrics()


@pytest.mark.parametrize("budget", [1, 40, 90])
def test_the_split_changes_no_gradient(model, budget):
    examples = above_zero(model, 8)
    whole, expected = gradient(model, examples)
    split, found = gradient(model, examples, budget=budget)
    assert relative(found, expected) < 1e-5
    assert torch.allclose(split.losses, whole.losses, atol=1e-5)
    assert torch.allclose(split.points, whole.points, atol=1e-5)
    assert len({point.item() for point in split.points}) == 1


@pytest.mark.parametrize("way", ["separate", "plain"])
def test_packed_rows_are_separate_ones(model, way):
    examples = above_zero(model, 6)
    whole, expected = gradient(model, examples)
    other = Objective("sigmoid", 0.5, way, task="kto", **WEIGHTS)
    apart, found = gradient(model, examples, other)
    assert relative(found, expected) < 1e-4
    assert torch.allclose(apart.points, whole.points, atol=1e-4)


def test_no_gradient_goes_through_the_reference_point(model):
    """Other mismatched answers with the same z0 leave the gradient as it is."""
    examples = above_zero(model, 4)
    point = by_hand(model, examples)
    _, expected = gradient(model, examples)
    model.zero_grad(set_to_none=True)
    rows = []
    for example in examples:
        ids = torch.tensor([example["prompt_ids"] + example["response_ids"][0]])
        start = len(example["prompt_ids"])
        logits = model(ids).logits[0, start - 1 : -1].log_softmax(-1)
        policy = logits.gather(-1, ids[0, start:, None]).sum()
        with torch.no_grad(), roles.reference(model):
            logits = model(ids).logits[0, start - 1 : -1].log_softmax(-1)
            reference = logits.gather(-1, ids[0, start:, None]).sum()
        gain = 0.5 * (policy - reference) - 0.5 * point
        good = example["desirable"]
        rows.append((1.0 if good else 1.5) * (1 - torch.sigmoid(gain if good else -gain)))
    (sum(rows) / len(rows)).backward()
    found = torch.cat([p.grad.flatten() for p in roles.trainable_parameters(model)])
    assert relative(expected, found) < 1e-4


def test_the_references_numbers_are_kept(model, tmp_path, monkeypatch):
    examples = above_zero(model, 6)
    plain, expected = gradient(model, examples, budget=60)
    references = ReferenceCache(tmp_path)
    _, found = gradient(model, examples, budget=60, references=references)
    assert torch.equal(found, expected)
    assert len(references.known) == 12  # answers, and answers to other prompts

    def computed(model):
        raise AssertionError("the reference was computed again")

    monkeypatch.setattr(roles, "reference", computed)
    again, found = gradient(model, examples, references=ReferenceCache(tmp_path))
    assert relative(found, expected) < 1e-5
    assert torch.allclose(again.losses, plain.losses, atol=1e-5)


def test_step_zero_identity(fresh):
    examples = labelled(random_examples(6, 1))
    outcome, _ = gradient(fresh, examples)
    assert torch.allclose(outcome.losses, torch.tensor([0.5, 0.75] * 3), atol=1e-5)
    metrics = outcome.metrics()
    assert metrics["kl"] == pytest.approx(0, abs=1e-5)
    assert metrics["rewards/margins"] == pytest.approx(0, abs=1e-5)
    recipe = validate_recipe(
        {"task": "kto", "model": {"base": "x"}, "data": {"train": "y"}}, "test"
    )
    KTO().check_start(recipe, OURS, outcome.loss, examples)
    moved, _ = gradient(stir(fresh), examples)
    with pytest.raises(UserError, match=r"not 0.625000: .* the reference is wrong"):
        KTO().check_start(recipe, OURS, moved.loss, examples)


def test_an_evaluation_has_one_reference_point_and_counts_sides(model):
    examples = above_zero(model, 7)
    found = evaluate_examples(model, examples, OURS, 40)
    trained, _ = gradient(model, examples)
    assert torch.allclose(found.losses, trained.losses, atol=1e-5)
    sides = found.rewards > 0.5 * found.points
    right = int((sides == found.desirable).sum())
    assert found.counts() == {"successes": right, "n": 7, "ties": 0}
    metrics = found.metrics()
    assert metrics["rewards/accuracies"] == pytest.approx(right / 7)
    good = found.rewards[found.desirable].mean() - found.rewards[~found.desirable].mean()
    assert metrics["rewards/margins"] == pytest.approx(good.item(), abs=1e-6)


def test_parity_with_trl(fresh, tmp_path):
    """One batch through TRL's KTOTrainer and through ours, with the same mismatched answers."""
    from trl import KTOConfig, KTOTrainer

    class Tokenised(KTOTrainer):
        def _prepare_dataset(self, dataset, *args, **kwargs):
            return dataset

    def rows(examples):
        return [
            {
                "prompt_ids": example["prompt_ids"],
                "completion_ids": example["response_ids"][0],
                "KL_completion_ids": example["mismatched_ids"],
                "label": example["desirable"],
            }
            for example in examples
        ]

    config = KTOConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=6,
        beta=0.5,
        max_length=None,
        report_to="none",
        use_cpu=True,
        gradient_checkpointing=False,
        bf16=False,
        **WEIGHTS,
    )
    theirs = Tokenised(
        model=fresh,
        args=config,
        train_dataset=Dataset.from_list(rows(labelled(random_examples(6, 1)))),
        processing_class=_tokenizer(),
    )
    model = stir(fresh)  # after TRL has copied its reference
    examples = above_zero(model, 6)
    model.zero_grad(set_to_none=True)
    their_loss = theirs.compute_loss(model, theirs.data_collator(rows(examples)))
    their_loss.backward()
    expected = torch.cat([p.grad.flatten() for p in roles.trainable_parameters(model)]).clone()
    logged = {key: values[-1] for key, values in theirs._metrics["train"].items()}
    ours, found = gradient(model, examples)
    assert ours.loss == pytest.approx(their_loss.item(), abs=1e-5)
    assert relative(found, expected) < 1e-4
    metrics = ours.metrics()
    assert metrics["kl"] > 0.05
    for name in ("kl", "rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected"):
        assert metrics[name] == pytest.approx(logged[name], abs=1e-3), name
