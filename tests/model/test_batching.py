"""Rows of a batch are answered as each alone, also by a model whose code mixes them."""

import pytest
import torch

from dpo_lite.compare.lockstep import Sampling, answer
from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.model.batching import answers_in_batches
from dpo_lite.model.expert_adapter import BASE
from dpo_lite.model.generation import answer_ids
from dpo_lite.recipe import AdapterSection, ModelSection
from tests.compare.test_mixtures import Ids
from tests.model.small_models import random_examples, small_model


@pytest.mark.parametrize(
    ("kind", "batches"),
    [("llama", True), ("qwen3_5_text", True), ("mamba2", True), ("rwkv", False)],
)
def test_it_is_tried(kind, batches):
    assert answers_in_batches(small_model(kind).eval()) is batches


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_rounding_is_told_from_mixing(dtype):
    assert answers_in_batches(small_model("llama").to(dtype).eval())


def greedy(model, ids, count):
    """Without a cache, one row."""
    row = list(ids)
    for _ in range(count):
        row.append(int(model(torch.tensor([row]), use_cache=False).logits[0, -1].argmax()))
    return row[len(ids) :]


@torch.no_grad()
def test_rwkv_answers_as_it_is_trained(tmp_path):
    """In 4 bits, outside of training too: its code would halve packed weights where it answers."""
    small_model("rwkv").save_pretrained(tmp_path)
    base = load_base(ModelSection(base=str(tmp_path)))
    model = roles.add_policy(base, AdapterSection(r=2), seed=0).eval()
    for parameter in roles.trainable_parameters(model):
        parameter.add_(torch.randn_like(parameter) * 0.1)
    prompts = [example["prompt_ids"] for example in random_examples(4, 1)]
    found = answer_ids(model, prompts, max_new_tokens=5, temperature=0.0)
    for ids, said in zip(prompts, found, strict=True):
        assert said == greedy(model, ids, 5)[: len(said)]
    names, sampling = [BASE, roles.POLICY], Sampling(max_new_tokens=5)
    beside = answer(model, Ids(), prompts[0], names, [], sampling)
    for name, given in zip(names, beside, strict=True):
        (alone,) = answer(model, Ids(), prompts[0], [name], [], sampling)
        assert given.ids == alone.ids
