"""Columns on mixtures of experts: shared experts in one pass, trained experts in one each."""

import pytest
import torch

from dpo_lite.compare.adapter_rows import together
from dpo_lite.compare.lockstep import Sampling, answer
from dpo_lite.compare.token_rewards import token_rewards
from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.model.expert_adapter import BASE
from dpo_lite.model.saved_adapter import add_saved
from dpo_lite.model.scoring import lay_out, response_token_logps
from dpo_lite.recipe import AdapterSection, ModelSection
from tests.model.small_experts import save_mixture

PROMPT, ANSWERS = [5, 6, 7, 8], [[9, 10, 11], [12, 13]]


class Ids:
    """Says tokens as their numbers."""

    pad_token_id = 0

    def decode(self, ids, skip_special_tokens=False):
        return " ".join(map(str, ids))


@pytest.fixture(
    scope="module",
    params=[("deepseek_v3", False), ("qwen3_5_moe_text", False), ("mixtral", True)],
    ids=["shared expert", "gated shared expert", "experts"],
)
def case(request, tmp_path_factory):
    kind, experts = request.param
    folder = save_mixture(kind, tmp_path_factory.mktemp(kind))
    model = roles.add_policy(
        load_base(ModelSection(base=folder)), AdapterSection(r=2, experts=experts), seed=0
    )
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in roles.parameters(model, roles.POLICY):
            parameter.add_(torch.randn_like(parameter) * 0.1)
    roles.save_policy(model, (path := tmp_path_factory.mktemp("adapter")), folder, None)
    add_saved(model, path, "other", head=False, trained=False)
    with torch.no_grad():
        for parameter in roles.parameters(model, "other"):
            parameter.mul_(-1.5)
    return model.eval(), experts


def alone(model, name):
    """Log-probabilities of the answers' tokens by one adapter, worn as a run wears it."""
    batch = lay_out([{"prompt_ids": PROMPT, "response_ids": ANSWERS}], "separate")
    with torch.no_grad():
        if name == BASE:
            with model.disable_adapter():
                return response_token_logps(model, batch, "plain")
        with roles._worn(model, name, frozen=True):
            return response_token_logps(model, batch, "plain")


def test_whether_columns_share_a_pass_is_seen_from_the_adapters(case):
    model, experts = case
    assert together(model, [roles.POLICY, "other"]) is not experts
    assert together(model, [roles.POLICY] * 3)


def test_rewards_are_those_of_each_adapter_alone(case):
    model, _ = case
    found = token_rewards(model, PROMPT, ANSWERS, roles.POLICY, "other", 0.5)
    expected = 0.5 * (alone(model, roles.POLICY) - alone(model, "other"))
    assert torch.tensor(found[0] + found[1]) == pytest.approx(expected.numpy(), abs=1e-4)
    assert expected.abs().max() > 1e-2


def test_answers_are_those_of_each_adapter_alone(case):
    model, _ = case
    names, shown = [BASE, roles.POLICY, "other"], []
    sampling = Sampling(max_new_tokens=6, temperature=1.0, seed=3)
    found = answer(model, Ids(), PROMPT, names, [], sampling, lambda texts: shown.append(texts))
    for name, given in zip(names, found, strict=True):
        (solo,) = answer(model, Ids(), PROMPT, [name], [], sampling)
        assert given.ids == solo.ids
    assert len({tuple(a.ids) for a in found}) > 1
    assert all(len(texts) == 3 for texts in shown)
