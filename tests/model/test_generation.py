"""Drawing: the distribution that is scored and no other, whatever the model's own settings are."""

import pytest
import torch
from transformers import GenerationConfig

from dpo_lite.errors import UserError
from dpo_lite.model import roles
from dpo_lite.model.batching import answers_in_batches
from dpo_lite.model.generation import answer_ids, generate, sample_answers
from dpo_lite.recipe import AdapterSection
from dpo_lite.training.sampling import sampled_kl
from tests.model.small_models import random_examples, small_model

BENT = {
    "temperature": 0.01,
    "top_k": 1,
    "top_p": 0.01,
    "min_p": 0.9,
    "typical_p": 0.1,
    "repetition_penalty": 5.0,
    "no_repeat_ngram_size": 1,
    "suppress_tokens": list(range(3, 50)),
    "min_new_tokens": 8,
}


@pytest.fixture
def model():
    return small_model("llama").eval()


def drawn(model, **options):
    torch.manual_seed(3)
    prompts = [example["prompt_ids"] for example in random_examples(4, 1)]
    return answer_ids(model, prompts, max_new_tokens=8, ends=[2], **options)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_models_own_settings_bend_nothing(model, temperature):
    model.generation_config = GenerationConfig()
    plain = drawn(model, temperature=temperature)
    model.generation_config = own = GenerationConfig(**BENT, do_sample=True)
    assert drawn(model, temperature=temperature) == plain
    assert model.generation_config is own


def test_the_models_own_ends_still_end(model):
    model.generation_config = GenerationConfig(eos_token_id=list(range(3, 97)))
    assert all(token < 3 for answer in drawn(model) for token in answer[:-1])


def test_draws_follow_the_distribution_that_is_scored(model):
    """Of 4,000 first tokens the frequencies are the softmax of the logits, within 5 deviations."""
    prompt, count = [5, 6, 7], 4000
    with torch.no_grad():
        expected = model(torch.tensor([prompt])).logits[0, -1].softmax(-1)
    torch.manual_seed(0)
    firsts = [answer[0] for answer in sample_answers(model, prompt, count, max_new_tokens=1)]
    found = torch.bincount(torch.tensor(firsts), minlength=len(expected)) / count
    deviation = (expected * (1 - expected) / count).sqrt() + 1 / count
    assert ((found - expected).abs() < 5 * deviation).all()


def test_a_greedy_answer_does_not_depend_on_the_others(model):
    prompts = [example["prompt_ids"] for example in random_examples(5, 1)]
    together = answer_ids(model, prompts, max_new_tokens=6, temperature=0.0, at_once=3)
    alone = [answer_ids(model, [p], max_new_tokens=6, temperature=0.0)[0] for p in prompts]
    assert together == alone


def test_nothing_asked_nothing_answered(model):
    assert answer_ids(model, [], max_new_tokens=4) == []


class Words:
    def decode(self, ids, **options):
        return " ".join(map(str, ids))


def roomy_for(model, rows, monkeypatch):
    """Let memory run out wherever more rows are drawn at once; returns how many were drawn, in
    which order."""
    drawn, real = [], model.generate

    def tight(input_ids, **options):
        if len(input_ids) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        drawn.append(len(input_ids))
        return real(input_ids=input_ids, **options)

    monkeypatch.setattr(model, "generate", tight)
    return drawn


def test_what_was_drawn_before_memory_ran_out_is_kept(model, monkeypatch):
    """The fourth batch does not fit any more: only its prompts are asked for again."""
    prompts = [example["prompt_ids"] for example in random_examples(150, 1, seed=4)]
    expected = answer_ids(model, prompts, max_new_tokens=3, temperature=0.0)
    policy = roles.add_policy(model, AdapterSection(r=2, alpha=2), seed=0)
    real, rows = model.generate, []

    def tight(input_ids, **options):
        if len(input_ids) > 16 and len(rows) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        rows.append(len(input_ids))
        return real(input_ids=input_ids, **options)

    monkeypatch.setattr(model, "generate", tight)
    shown = []
    answers = generate(
        policy, Words(), prompts, role="reference", max_new_tokens=3, progress=shown.append
    )
    assert answers == [Words().decode(ids) for ids in expected]
    assert rows == [64, 16, 16, 16, 16, 16, 6]
    assert sum(shown) == 150


@pytest.mark.slow
def test_answers_to_one_prompt_are_drawn_in_parts_where_memory_runs_out(model, monkeypatch):
    assert answers_in_batches(model)  # tried once, before the rows are counted
    rows = roomy_for(model, 3, monkeypatch)
    assert len(sample_answers(model, [5, 6, 7], 8, max_new_tokens=4)) == 8
    assert rows == [2, 2, 2, 2]
    policy = roles.add_policy(model, AdapterSection(r=2, alpha=2), seed=0)
    rows.clear()
    kl = sampled_kl(policy, [[5, 6], [7, 8]], max_new_tokens=4, seed=0, answers=16)
    assert kl == pytest.approx(0, abs=1e-5)
    assert sum(rows) == 16
    roomy_for(model, 0, monkeypatch)
    with pytest.raises(UserError, match="no room to draw a single answer"):
        sample_answers(model, [5, 6, 7], 8, max_new_tokens=4)
