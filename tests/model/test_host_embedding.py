"""The embedding on the host: the same scores and gradients, and nobody moves it back."""

import pytest
import torch

from dpo_lite.errors import UserError
from dpo_lite.model import roles
from dpo_lite.model.host_embedding import HostEmbedding, park_embedding, parkable, return_embedding
from dpo_lite.model.precision import to_fp32
from dpo_lite.model.scoring import lay_out, response_logps
from dpo_lite.recipe import AdapterSection
from dpo_lite.training.method import Objective
from dpo_lite.training.update import update_gradient
from tests.model.small_models import random_examples, small_model
from tests.model.small_towers import small_tower
from tests.model.test_architectures import relative_error


def gradient(model):
    model.zero_grad(set_to_none=True)
    update_gradient(model, random_examples(4, 2), Objective("sigmoid", 0.5, "forest"), 10_000)
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}


def test_gradients_are_the_same_there_and_back():
    lm = small_model("llama")
    model = roles.add_policy(lm, AdapterSection(r=4, alpha=8), seed=0)
    expected = gradient(model)
    size = lm.get_input_embeddings().weight.numel()
    before = sum(p.numel() for p in lm.parameters())
    park_embedding(lm)
    park_embedding(lm)  # a second time changes nothing
    assert sum(p.numel() for p in lm.parameters()) == before - size
    assert relative_error(gradient(model), expected) < 1e-6
    return_embedding(lm)
    assert sum(p.numel() for p in lm.parameters()) == before
    assert relative_error(gradient(model), expected) < 1e-6


def test_a_model_turned_to_fp32_takes_it_along():
    lm = small_model("llama").half()
    park_embedding(lm)
    to_fp32(lm)
    assert lm.get_input_embeddings().weight.dtype == torch.float32
    return_embedding(lm)
    assert {p.dtype for p in lm.parameters()} == {torch.float32}


def test_it_stays_on_the_host_and_answers_on_the_device():
    """The meta device stands in for a card."""
    embedding = torch.nn.Embedding(10, 4)
    parked = HostEmbedding(embedding)
    parked.device = torch.device("meta")
    parked.to("meta")
    assert parked.weight.device.type == "cpu"
    assert embedding.weight.numel() == 0
    assert parked(torch.tensor([[1, 2, 3]])).device.type == "meta"


def test_a_tied_embedding_stays():
    lm = small_model("llama", tie_word_embeddings=True)
    assert not parkable(lm)
    with pytest.raises(UserError, match="gains nothing"):
        park_embedding(lm)
    assert not parkable(small_model("gemma2"))


def test_an_embedding_for_the_layers_waits_too():
    """Gemma 4's small models: a second one, scaled, while the first is also the head."""
    lm = small_tower("gemma4").train()
    model = roles.add_policy(lm, AdapterSection(r=4, alpha=8), seed=0)
    rows = lay_out(random_examples(3, 2), "separate")
    with torch.no_grad():
        expected = response_logps(model, rows, "separate")
    assert list(parkable(lm)) == ["embed_tokens_per_layer"]
    before = lm.num_parameters()
    park_embedding(lm)
    assert before - lm.num_parameters() == 97 * 4 * 8
    with torch.no_grad():
        assert torch.equal(response_logps(model, rows, "separate"), expected)
    return_embedding(lm)
    assert lm.num_parameters() == before


class Shifted(torch.nn.Embedding):
    embed_scale = torch.tensor(1.0)

    def forward(self, ids):
        return super().forward(ids) + 1


def test_what_does_more_than_look_up_is_refused_and_left_as_it_was():
    lm = small_model("llama")
    lm.model.embed_tokens = Shifted(97, 64)
    with pytest.raises(UserError, match="embed_tokens of this base does more than look up rows"):
        park_embedding(lm)
    assert isinstance(lm.model.embed_tokens, Shifted)
    assert lm.model.embed_tokens.weight.shape == (97, 64)
