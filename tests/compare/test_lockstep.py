"""Columns in lockstep on the builtin 4-bit base: equal to solo runs, equal among equals."""

import pytest
import torch

from dpo_lite.compare.columns import columns
from dpo_lite.compare.lockstep import Sampling, _processors, answer
from dpo_lite.compare.shared_base import ask, load_shared_base
from dpo_lite.compare.token_rewards import token_rewards, token_texts
from dpo_lite.data.tokens import Encoder
from dpo_lite.errors import UserError
from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.model.expert_adapter import BASE
from dpo_lite.model.generation import generate
from dpo_lite.recipe import to_yaml, validate_recipe
from dpo_lite.runs.folder import Run
from dpo_lite.training.method import Objective
from dpo_lite.training.update import evaluate_examples

PROMPT = "Are bats blind?"


def make_run(folder, name, seed, **model):
    """A finished run without the training: an adapter of noise, strong enough to be heard."""
    recipe = validate_recipe(
        {
            "model": {"base": "builtin:myths"} | model,
            "data": {"train": "builtin:myths"},
            "eval": {"prompts": [PROMPT]},
        },
        "test",
    )
    run = Run(folder / name)
    run.path.mkdir(parents=True)
    run.recipe_file.write_text(to_yaml(recipe))
    run.update_status(state="finished")
    model = roles.add_policy(load_base(recipe.model), recipe.adapter, seed)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(seed))
    roles.save_policy(model, run.adapter, recipe.model.base, None)
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {name: make_run(folder, name, seed) for seed, name in enumerate(["one", "two.b"])}


@pytest.fixture(scope="module")
def shared_base(runs):
    return load_shared_base(runs["one"])


@pytest.fixture(scope="module")
def encoder(shared_base):
    return Encoder(shared_base.tokenizer)


def said(shared_base, runs, names, prompt=PROMPT, **sampling):
    run = runs["one"]
    wanted = columns(run, names, run.path.parent)
    return ask(shared_base, run, wanted, prompt, Sampling(max_new_tokens=24, **sampling))


@pytest.mark.slow
def test_each_column_says_what_it_says_alone(shared_base, runs, encoder):
    together = said(shared_base, runs, ["reference", "policy", "two.b"])
    assert [column.label for column in together] == ["reference", "one", "two.b"]
    for column, role in zip(together[:2], ("reference", "policy"), strict=True):
        (alone,) = generate(
            shared_base.model,
            shared_base.tokenizer,
            [encoder.prompt_ids(PROMPT)],
            role=role,
            max_new_tokens=24,
        )
        assert column.text == alone
    other = load_shared_base(runs["two.b"])
    (alone,) = generate(
        other.model, other.tokenizer, [encoder.prompt_ids(PROMPT)], role="policy", max_new_tokens=24
    )
    assert together[2].text == alone
    assert len({column.text for column in together}) == 3


@pytest.mark.slow
def test_equal_models_give_equal_text_at_any_temperature(shared_base, runs):
    for options in ({"temperature": 1.0}, {"temperature": 1.5, "top_k": 40, "top_p": 0.9}):
        first, second, reference = said(
            shared_base, runs, ["policy", "one", "reference"], seed=3, **options
        )
        assert first.text == second.text
        assert first.text != reference.text
        again = said(shared_base, runs, ["policy"], seed=3, **options)[0]
        assert again.text == first.text
        assert said(shared_base, runs, ["policy"], seed=4, **options)[0].text != first.text


@pytest.mark.slow
def test_sampling_draws_from_the_models_distribution():
    """Frequencies over many draws against softmax(logits / T), cut to the likeliest three."""
    logits = torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0]])
    kept = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])
    expected = (logits[0] / 0.7).softmax(-1) * kept
    expected /= expected.sum()
    choose = _processors(Sampling(temperature=0.7, top_k=3))
    ids = torch.zeros(1, 1, dtype=torch.long)
    drawn = torch.zeros(5)
    for _ in range(4000):
        drawn[choose(ids, logits.clone())[0].argmax()] += 1 / 4000
    assert (drawn - expected).abs().sum() / 2 < 0.025  # total variation distance
    assert drawn[3:].sum() == 0


@pytest.mark.slow
def test_rewards_per_token_sum_to_the_implicit_reward(shared_base, runs, encoder):
    together = said(shared_base, runs, ["reference", "policy"], temperature=1.0)
    ids = encoder.prompt_ids(PROMPT)
    answers = answer(
        shared_base.model,
        shared_base.tokenizer,
        ids,
        [BASE, roles.POLICY],
        [encoder.end_id],
        Sampling(temperature=1.0, max_new_tokens=24),
    )
    found = evaluate_examples(
        shared_base.model,
        [{"prompt_ids": ids, "response_ids": [a.ids for a in answers]}],
        Objective("sigmoid", 0.1, "plain"),
        budget=2048,
    )
    expected = [
        0.1 * (found.policy_first - found.reference_first).item(),
        0.1 * (found.policy_last - found.reference_last).item(),
    ]
    assert [column.reward for column in together] == pytest.approx(expected, abs=1e-4)
    assert abs(expected[0] - expected[1]) > 0.1
    for column in together:
        joined = "".join(text for text, _ in column.tokens)
        assert joined.removesuffix("<|im_end|>").strip() == column.text


def test_an_empty_answer_has_no_rewards(shared_base, encoder):
    ids = encoder.prompt_ids(PROMPT)
    rewards = token_rewards(shared_base.model, ids, [[], ids[:2]], roles.POLICY, BASE, 0.1)
    assert [len(r) for r in rewards] == [0, 2]
    assert token_rewards(shared_base.model, ids, [[]], roles.POLICY, BASE, 0.1) == [[]]


def test_stopping_ends_within_a_token_and_leaves_the_model_as_it_was(shared_base, runs, encoder):
    ids = encoder.prompt_ids(PROMPT)
    shown = []
    answers = answer(
        shared_base.model,
        shared_base.tokenizer,
        ids,
        [BASE, roles.POLICY],
        [],
        Sampling(max_new_tokens=200, temperature=1.0),
        show=shown.append,
        stop=lambda: len(shown) >= 3,
    )
    assert len(shown) <= 4
    assert {len(a.ids) for a in answers} == {len(shown)}
    with pytest.raises(ZeroDivisionError):  # whatever goes wrong, PEFT's hooks are gone after it
        answer(
            shared_base.model,
            shared_base.tokenizer,
            ids,
            [BASE, roles.POLICY],
            [],
            Sampling(),
            show=lambda texts: 1 / 0,
        )
    assert said(shared_base, runs, ["reference"])[0].text


def test_a_column_stops_at_its_own_end(shared_base, encoder):
    ids = encoder.prompt_ids(PROMPT)
    answers = answer(
        shared_base.model,
        shared_base.tokenizer,
        ids,
        [BASE, roles.POLICY],
        [encoder.end_id],
        Sampling(max_new_tokens=60),
    )
    for given in answers:
        assert given.ids.count(encoder.end_id) == int(given.ended)
    assert answers[0].ended
    assert "<|im_end|>" not in answers[0].text


def test_adapters_that_are_not_used_are_forgotten(shared_base, runs, monkeypatch):
    monkeypatch.setattr("dpo_lite.compare.shared_base.MOST_ADAPTERS", 1)
    before = said(shared_base, runs, ["two.b"])[0].text
    said(shared_base, runs, ["policy"])
    assert list(shared_base.model.peft_config) == [roles.POLICY]
    assert said(shared_base, runs, ["two.b"])[0].text == before


def test_the_text_of_each_token(chat_tokenizer):
    text = "the cat 🐈 é"
    ids = chat_tokenizer(text)["input_ids"]
    pieces = token_texts(chat_tokenizer, ids)
    assert "".join(pieces) == text
    assert len(pieces) == len(ids)
    assert any("🐈" in piece for piece in pieces)


def test_runs_that_cannot_stand_side_by_side(runs, tmp_path):
    folder = runs["one"].path.parent
    other = make_run(tmp_path, "wide", 0, quantization="none")
    with pytest.raises(UserError, match=r"model\.quantization is none, not nf4"):
        columns(runs["one"], [str(other.path)], folder)
    with pytest.raises(UserError, match="There is no run x"):
        columns(runs["one"], ["x"], folder)
    unfinished = Run(tmp_path / "young")
    unfinished.path.mkdir()
    unfinished.recipe_file.write_text(runs["one"].recipe_file.read_text())
    with pytest.raises(UserError, match="has no adapter yet"):
        columns(unfinished, ["policy"], folder)
    found = columns(runs["one"], ["policy", "one", "reference", "two.b"], folder)
    assert len({column.fingerprint for column in found}) == 3


@pytest.mark.slow
def test_a_prompt_that_is_being_read_is_stopped_and_the_model_stays_as_it_was(shared_base, runs):
    before = said(shared_base, runs, ["reference", "policy"])
    run, asked = runs["one"], []

    def stop():
        asked.append(1)
        return len(asked) > 2

    wanted = columns(run, ["reference", "policy"], run.path.parent)
    shown = []
    assert ask(shared_base, run, wanted, PROMPT, Sampling(), shown.append, stop) == []
    assert shown == []  # not a token was drawn
    assert len(asked) == 4  # two layers, the one that was not computed, and the end
    assert said(shared_base, runs, ["reference", "policy"]) == before
