"""The check of the scores on a small card: no more logits than are scored, shorter if it must."""

import inspect

import pytest
import torch

from dpo_lite.data.packing import pad
from dpo_lite.errors import UserError
from dpo_lite.model import choosing
from dpo_lite.model.choosing import choose_way, true_token_logps
from dpo_lite.model.scoring import response_token_logps
from tests.model.small_models import random_examples, small_model

EXAMPLES = [{"prompt_ids": list(range(3, 90)), "response_ids": [[5, 6, 7], [8, 9]]}] * 2


@pytest.mark.parametrize("kind", ["llama", "gemma2", "mistral"])
def test_the_truth_makes_logits_of_scored_places_alone(kind):
    """By the model's own head, scales and caps: the numbers are those of all logits."""
    model, shapes = small_model(kind), []
    model.lm_head.register_forward_hook(lambda m, i, out: shapes.append(out.shape[:2].numel()))
    truth = true_token_logps(model, EXAMPLES)
    assert shapes == [3, 2, 3, 2]
    for example, own in zip(EXAMPLES, truth.split(5), strict=True):
        for answer, found in zip(example["response_ids"], own.split([3, 2]), strict=True):
            ids = example["prompt_ids"] + answer
            logits = model(torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
            expected = logits[-len(answer) - 1 : -1].gather(-1, torch.tensor(answer)[:, None])
            assert torch.allclose(found, expected[:, 0], atol=1e-6)


def test_a_model_that_makes_all_logits_is_scored_all_the_same(monkeypatch):
    model, batch = small_model("llama"), pad(random_examples(1, 1))
    expected = response_token_logps(model, batch, "plain")
    forward = type(model).forward

    def old(self, input_ids=None, attention_mask=None, use_cache=None):
        return forward(self, input_ids, attention_mask, use_cache=use_cache)

    monkeypatch.setattr(type(model), "forward", old)
    assert "logits_to_keep" not in inspect.signature(type(model).forward).parameters
    assert torch.allclose(response_token_logps(model, batch, "plain"), expected, atol=1e-6)


def roomy_for(model, tokens):
    """Let memory run out wherever a row, or a pack of rows, has more tokens."""

    def check(module, inputs, options):
        if options["input_ids"].numel() > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    model.register_forward_pre_hook(check, with_kwargs=True)
    model.base_model.register_forward_pre_hook(check, with_kwargs=True)
    return model


def test_where_memory_runs_out_the_check_takes_shorter_examples(monkeypatch):
    monkeypatch.setattr(choosing, "SHORTEST", 8)
    scored = []
    real = choosing.true_token_logps

    def watched(model, examples):
        scored.append(len(examples[0]["prompt_ids"]))
        return real(model, examples)

    monkeypatch.setattr(choosing, "true_token_logps", watched)
    assert choose_way(roomy_for(small_model("llama"), 60), EXAMPLES).way == "forest"
    assert scored == [87, 43, 21]


def test_where_nothing_fits_it_says_so():
    with pytest.raises(UserError, match="no room on the GPU to score 64 tokens beside"):
        choose_way(roomy_for(small_model("llama"), 10), EXAMPLES)
