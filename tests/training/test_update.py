"""The gradient of an update: its split, its reference, NF4, and TRL as the oracle."""

import math

import pytest
import torch
from datasets import Dataset

from dpo_lite.errors import UserError
from dpo_lite.model import roles
from dpo_lite.model.base import count_4bit, load_base
from dpo_lite.objectives.losses import LOSSES
from dpo_lite.recipe import AdapterSection, ModelSection
from dpo_lite.training import dpo
from dpo_lite.training.dpo import check_identity
from dpo_lite.training.method import Objective
from dpo_lite.training.update import evaluate_examples, update_gradient
from tests.model.small_models import random_examples, small_model

DPO = Objective("sigmoid", 0.5, "forest")


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    """A small Llama on disk, as a user's local base."""
    folder = tmp_path_factory.mktemp("base")
    small_model("llama", hidden_size=128, intermediate_size=128).save_pretrained(folder)
    return str(folder)


def load(base_folder, quantization="none"):
    base = load_base(ModelSection(base=base_folder, quantization=quantization))
    return roles.add_policy(base, AdapterSection(r=4, alpha=8), seed=0).train()


def stir(model, scale=0.05):
    """Move the policy away from the reference."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in roles.trainable_parameters(model):
            parameter.add_(torch.randn_like(parameter) * scale)
    return model


def gradient(model, examples, objective=DPO, budget=10_000):
    model.zero_grad(set_to_none=True)
    outcome = update_gradient(model, examples, objective, budget)
    vector = torch.cat([p.grad.flatten() for p in roles.trainable_parameters(model)])
    return outcome, vector.clone()


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("budget", [1, 40, 90])
def test_the_split_changes_no_gradient(base_folder, quantization, budget):
    model = stir(load(base_folder, quantization))
    examples = random_examples(8, 2)
    whole, expected = gradient(model, examples)
    split, found = gradient(model, examples, budget=budget)
    assert relative(found, expected) < 1e-5
    assert torch.allclose(split.losses, whole.losses, atol=1e-5)
    assert torch.allclose(split.policy_first, whole.policy_first, atol=1e-4)


def test_the_order_changes_no_gradient(base_folder):
    model = stir(load(base_folder))
    examples = random_examples(8, 2)
    _, expected = gradient(model, examples)
    assert relative(gradient(model, examples[::-1])[1], expected) < 1e-5


@pytest.mark.parametrize("way", ["separate", "plain"])
def test_ways_agree_on_the_gradient(base_folder, way):
    model = stir(load(base_folder))
    examples = random_examples(6, 2)
    _, expected = gradient(model, examples)
    assert relative(gradient(model, examples, Objective("sigmoid", 0.5, way))[1], expected) < 1e-4


@pytest.mark.parametrize("loss", [name for name, loss in LOSSES.items() if not loss.listwise])
def test_every_loss_is_the_same_packed_or_separate_whole_or_split(base_folder, loss):
    model, own = stir(load(base_folder)), LOSSES[loss]
    examples = random_examples(6, 2)
    smoothing = 0.1 if own.smoothing == "required" else 0.0

    def of(way):
        return Objective(loss, own.beta, way, torch.float32, own.sft_weight, smoothing)

    outcome, expected = gradient(model, examples, of("separate"))
    packed, found = gradient(model, examples, of("forest"), budget=60)
    assert relative(found, expected) < 1e-4
    assert torch.allclose(packed.losses, outcome.losses, atol=1e-4)
    if own.reference_free:
        assert not outcome.reference_first.any()
        assert (
            "reference"
            not in dpo.DPO().measured_beside(model, [], of("plain"), 1, outcome)["likelihood"]
        )


def test_the_sft_term_adds_its_gradient(base_folder):
    """Its gradient is that of -log pi(y_w) / |y_w|, measured on the chosen responses alone."""
    model = stir(load(base_folder))
    examples = random_examples(5, 2)
    _, plain = gradient(model, examples)
    _, both = gradient(model, examples, Objective("sigmoid", 0.5, "forest", sft_weight=0.3))
    model.zero_grad(set_to_none=True)
    for example in examples:
        ids = torch.tensor([example["prompt_ids"] + example["response_ids"][0]])
        start = len(example["prompt_ids"])
        logits = model(ids).logits[0, start - 1 : -1].log_softmax(-1)
        picked = logits.gather(-1, ids[0, start:, None])
        (-picked.mean() / len(examples)).backward()
    sft = torch.cat([p.grad.flatten() for p in roles.trainable_parameters(model)])
    assert relative(both, plain + 0.3 * sft) < 1e-4


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_step_zero_identity(base_folder, quantization):
    model = load(base_folder, quantization)
    outcome, _ = gradient(model, random_examples(6, 2))
    assert torch.allclose(outcome.losses, torch.full((6,), math.log(2)), atol=1e-5)
    metrics = outcome.metrics()
    assert abs(metrics["rewards/chosen"]) < 1e-5
    assert abs(metrics["rewards/rejected"]) < 1e-5
    check_identity(metrics["loss"], DPO, random_examples(6, 2))


def test_a_wrong_reference_is_caught(base_folder):
    model = stir(load(base_folder))
    examples = random_examples(6, 2)
    outcome, _ = gradient(model, examples)
    with pytest.raises(UserError, match="reference is wrong"):
        check_identity(outcome.losses.mean().item(), DPO, examples)


def test_evaluation_leaves_nf4_gradients_right(base_folder):
    """bitsandbytes repacks 4-bit weights in eval mode on some CPUs; ours must not."""
    examples = random_examples(8, 2)
    model = stir(load(base_folder, "nf4"))
    assert count_4bit(model) == 21
    _, expected = gradient(model, examples)
    evaluate_examples(model, examples, DPO, 10_000)
    assert model.training
    assert relative(gradient(model, examples)[1], expected) < 1e-6


def test_reference_is_the_bare_base(base_folder):
    model = stir(load(base_folder, "nf4"))
    examples = random_examples(4, 2)
    outcome = evaluate_examples(model, examples, DPO, 10_000)
    bare = load(base_folder, "nf4")  # B = 0: policy is the base
    expected = evaluate_examples(bare, examples, DPO, 10_000)
    assert torch.allclose(outcome.reference_first, expected.policy_first, atol=1e-4)
    assert not torch.allclose(outcome.policy_first, outcome.reference_first, atol=1e-2)


def test_roles_restore_after_an_error(base_folder):
    model = load(base_folder)
    trained = len(roles.trainable_parameters(model))
    with pytest.raises(ZeroDivisionError), roles.reference(model):
        raise ZeroDivisionError(len(roles.trainable_parameters(model)))
    assert len(roles.trainable_parameters(model)) == trained > 0


@pytest.mark.slow
def test_adapters_are_fp32_and_all_of_a_moves(base_folder):
    """At lr 5e-6 a bf16 master would keep most of A where it was."""
    model = load(base_folder, "nf4")
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    assert {p.dtype for p in before.values()} == {torch.float32}
    optimizer = torch.optim.AdamW(roles.trainable_parameters(model), lr=5e-6, weight_decay=0.0)
    moved = {n: torch.zeros_like(p, dtype=torch.bool) for n, p in before.items()}
    for step in range(20):
        update_gradient(model, random_examples(8, 2, seed=step), DPO, 10_000)
        optimizer.step()
        optimizer.zero_grad()
        for name, parameter in model.named_parameters():
            if name in moved:
                moved[name] |= parameter != before[name]
    assert all(mask.all() for name, mask in moved.items() if "lora_A" in name)


def test_base_weights_do_not_move(base_folder):
    model = load(base_folder, "nf4")
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.AdamW(roles.trainable_parameters(model), lr=1e-2)
    update_gradient(model, random_examples(4, 2), DPO, 10_000)
    optimizer.step()
    evaluate_examples(model, random_examples(4, 2), DPO, 10_000)
    for name, parameter in model.named_parameters():
        if name in frozen:
            assert torch.equal(parameter, frozen[name]), name


def test_saved_adapter_loads_with_plain_peft(base_folder, tmp_path):
    from peft import PeftModel

    model = stir(load(base_folder, "nf4"))
    examples = random_examples(4, 2)
    expected = evaluate_examples(model, examples, DPO, 10_000)
    roles.save_policy(model, tmp_path / "adapter", "some/base", "abc")
    fresh = load_base(ModelSection(base=base_folder))
    loaded = PeftModel.from_pretrained(fresh, tmp_path / "adapter")
    assert loaded.peft_config["default"].base_model_name_or_path == "some/base"
    found = evaluate_examples(loaded, examples, DPO, 10_000)
    assert torch.allclose(found.policy_first, expected.policy_first, atol=1e-4)
    assert torch.allclose(found.policy_last, expected.policy_last, atol=1e-4)


def test_continue_from_an_adapter(base_folder, tmp_path):
    """reference: start holds the policy to a frozen copy, reference: base to the bare base."""
    first = stir(load(base_folder))
    examples = random_examples(4, 2)
    roles.save_policy(first, tmp_path, base_folder, None)
    trained = len(roles.trainable_parameters(first))

    base = load_base(ModelSection(base=base_folder, quantization="none"))
    model = roles.continue_policy(base, str(tmp_path), "start")
    outcome, before = gradient(model, examples)
    assert torch.allclose(outcome.losses, torch.full((4,), math.log(2)), atol=1e-5)
    assert len(roles.trainable_parameters(model)) == trained
    stir(model)
    again, _ = gradient(model, examples)
    assert torch.allclose(again.reference_first, outcome.policy_first, atol=1e-4)
    assert not torch.allclose(again.policy_first, outcome.policy_first, atol=1e-2)
    assert before.norm() > 0

    base = load_base(ModelSection(base=base_folder, quantization="none"))
    model = roles.continue_policy(base, str(tmp_path), "base")
    apart, _ = gradient(model, examples)
    bare = evaluate_examples(load(base_folder), examples, DPO, 10_000)
    assert torch.allclose(apart.reference_first, bare.policy_first, atol=1e-4)
    assert torch.allclose(apart.policy_first, outcome.policy_first, atol=1e-4)


@pytest.mark.parametrize(
    ("loss", "label_smoothing"),
    [
        ("sigmoid", 0.0),
        ("hinge", 0.0),
        ("ipo", 0.0),
        ("robust", 0.2),
        ("sigmoid_norm", 0.0),
        ("apo_zero", 0.0),
        ("apo_down", 0.0),
        ("bco_pair", 0.0),
    ],
)
def test_parity_with_trl(base_folder, tmp_path, loss, label_smoothing):
    """One batch through TRL's DPOTrainer and through ours: the same loss, the same gradient."""
    objective = Objective(loss, 0.5, "forest", label_smoothing=label_smoothing)
    settings = {"loss_type": [loss], "label_smoothing": label_smoothing}
    same_as_trl(load(base_folder), random_examples(4, 2), objective, settings, tmp_path)


@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
@pytest.mark.parametrize("ld_alpha", [0.0, 0.4, 1.0])
def test_parity_with_trl_of_tokens_that_count_for_less(base_folder, tmp_path, loss, ld_alpha):
    objective = Objective(loss, 0.5, "forest", ld_alpha=ld_alpha)
    settings = {"loss_type": [loss], "ld_alpha": ld_alpha}
    same_as_trl(load(base_folder), random_examples(4, 2), objective, settings, tmp_path)


def test_parity_with_trl_of_a_sum(base_folder, tmp_path):
    """MPO's three terms. TRL's SFT term is a mean over the batch's tokens, ours of each answer's
    and then over answers; of one example they are the same."""
    objective = Objective("0.8 sigmoid + 0.2 bco_pair", 0.5, "forest", sft_weight=1.5)
    settings = {"loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.5]}
    same_as_trl(load(base_folder), random_examples(1, 2), objective, settings, tmp_path)
    objective = Objective("0.5 sigmoid + 2 hinge + 0.1 apo_zero", 0.5, "forest")
    settings = {"loss_type": ["sigmoid", "hinge", "apo_zero"], "loss_weights": [0.5, 2.0, 0.1]}
    same_as_trl(load(base_folder), random_examples(4, 2), objective, settings, tmp_path)


def same_as_trl(model, examples, objective, settings, folder):
    from trl import DPOConfig

    from dpo_lite.training.trl_engine import TokenisedDPOTrainer, to_trl

    config = DPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=len(examples),
        beta=objective.beta,
        **settings,
        max_length=None,
        report_to="none",
        use_cpu=True,
        gradient_checkpointing=False,
        bf16=False,
    )
    tokenizer = _tokenizer()
    theirs = TokenisedDPOTrainer(
        model=model,
        args=config,
        train_dataset=to_trl(Dataset.from_list(examples)),
        processing_class=tokenizer,
    )
    stir(model)  # after TRL has copied its reference: policy and reference differ
    model.zero_grad(set_to_none=True)
    inputs = theirs.data_collator(list(theirs.train_dataset))
    their_loss = theirs.compute_loss(model, inputs)
    their_loss.backward()
    expected = torch.cat([p.grad.flatten() for p in roles.trainable_parameters(model)]).clone()
    ours, found = gradient(model, examples, objective)
    sft = (-ours.policy_first / chosen_lengths(examples)).mean().item()
    loss = ours.losses.mean().item() + objective.sft_weight * sft
    assert loss == pytest.approx(their_loss.item(), abs=1e-5)
    assert relative(found, expected) < 1e-4


def chosen_lengths(examples):
    return torch.tensor([len(example["response_ids"][0]) for example in examples])


def test_rewards_per_token_are_what_the_loss_compares(base_folder):
    """Of equal sums the shorter response has the higher reward; TRL logs the sums."""
    model, examples = stir(load(base_folder)), random_examples(6, 2)
    found = evaluate_examples(model, examples, Objective("sigmoid_norm", 5.0, "forest"), 10_000)
    first = torch.tensor([len(example["response_ids"][0]) for example in examples])
    expected = 5.0 * (found.policy_first - found.reference_first) / first
    assert torch.allclose(found.rewards_first, expected)
    margins = found.rewards_first - found.rewards_last
    assert torch.allclose(found.losses, -torch.nn.functional.logsigmoid(margins), atol=1e-6)
    assert found.metrics()["rewards/margins"] == pytest.approx(margins.mean().item())


def _tokenizer():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {f"w{i}": i for i in range(97)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w3")),
        pad_token="w0",
        bos_token="w1",
        eos_token="w2",
    )
