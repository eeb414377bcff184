"""docs/theory-methods.md: SimPO, KTO, BCO and GRPO end where the formulas say."""

import re
from pathlib import Path

import pytest
import torch

from dpo_lite.objectives.preference import simpo_loss
from scripts.theory.document import tables_in
from scripts.theory.identities import EXACT
from scripts.theory.methods import (
    ascent_of,
    expected_bco,
    expected_kto,
    grpo_gradient,
    grpo_optimum,
    kto_closed,
    methods_tables,
    simpo_margin,
    simpo_optimum,
    train_grpo,
    train_simpo,
    votes_table,
    weights_table,
)
from scripts.theory.toy import (
    LENGTH,
    all_pairs,
    make_world,
    optimal_policy,
    preferences,
    total_variation,
)
from tests.theory.test_document import NUMBER, numbers

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "theory-methods.md"
GOOD = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)


# --- SimPO ----------------------------------------------------------------------------------------


def test_simpos_optimum_has_the_preferences_of_the_reward():
    world, pairs = make_world(), all_pairs()
    implied = 2.0 * simpo_optimum(world, 2.0) / LENGTH
    assert (preferences(implied, pairs) - preferences(world.reward, pairs)).abs().max() < EXACT


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_a_pair_rests_at_simpos_margin(gamma):
    """The gradient of the expected loss vanishes there; and by hand: p = 1/2 at margin 0."""
    margins = simpo_margin(GOOD, gamma).requires_grad_()
    both = torch.stack([margins, torch.zeros_like(margins)], -1)
    loss = GOOD * simpo_loss(both, gamma) + (1 - GOOD) * simpo_loss(both.flip(-1), gamma)
    (slope,) = torch.autograd.grad(loss.sum(), margins)
    assert slope.abs().max() < EXACT
    odds = torch.logit(GOOD)
    if gamma == 0:
        assert torch.allclose(margins, odds)
    else:
        apart = GOOD != 0.5
        assert (margins.abs() > odds.abs())[apart].all()
        assert margins[~apart].abs().max() < 1e-9


@pytest.mark.long
def test_simpo_forgets_its_reference():
    world = make_world()
    assert total_variation(train_simpo(world, 2.0, 0.0).logps, simpo_optimum(world, 2.0)) < 0.01
    assert total_variation(world.reference, simpo_optimum(world, 2.0)) > 0.5


# --- KTO and BCO ----------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 1.5)])
def test_kto_is_one_sigmoid_of_the_vote(weights):
    rewards = torch.linspace(-4, 4, 19, dtype=torch.float64)
    for reward in rewards:
        some = reward.expand(19).clone().requires_grad_()
        found = expected_kto(some, GOOD, 0.3, weights)
        assert (found - kto_closed(some, GOOD, 0.3, weights)).abs().max() < EXACT
        (slope,) = torch.autograd.grad(found.sum(), some)
        odds = GOOD / (1 - GOOD) - weights[1] / weights[0]
        told = odds.abs() > 1e-9
        assert (slope.sign() == -odds.sign())[told].all()  # wherever the reward is


def test_bco_rests_at_the_log_odds():
    rewards = torch.logit(GOOD).requires_grad_()
    (slope,) = torch.autograd.grad(expected_bco(rewards, GOOD).sum(), rewards)
    assert slope.abs().max() < EXACT
    entropy = -GOOD * GOOD.log() - (1 - GOOD) * (1 - GOOD).log()
    assert (expected_bco(rewards, GOOD) - entropy).abs().max() < EXACT


# --- GRPO -----------------------------------------------------------------------------------------


@pytest.fixture
def drawn():
    generator = torch.Generator().manual_seed(5)
    logits, rewards = torch.randn(2, 12, generator=generator, dtype=torch.float64)
    return logits, rewards


def test_a_group_of_two_climbs_half_the_reward(drawn):
    logits, rewards = drawn
    expected = ascent_of(logits, lambda logps: (logps.exp() * rewards).sum())
    assert (grpo_gradient(logits, rewards, "none") - expected / 2).abs().max() < EXACT


def test_divided_by_the_deviation_two_answers_are_a_preference(drawn):
    """What the rewards are does not matter, but for the 1e-4 that keeps the division from 0."""
    logits, rewards = drawn
    found = grpo_gradient(logits, rewards, "group")
    stretched = grpo_gradient(logits, rewards.exp() * 10, "group")
    assert (found - stretched).abs().max() < 5e-3 * found.abs().max()
    order = (rewards[:, None] - rewards).sign() / 2**0.5

    def duels(logps):
        chances = (logps[:, None] + logps).exp().detach()
        return (chances * order * logps[:, None]).sum()

    assert (found - ascent_of(logits, duels)).abs().max() < 5e-3 * found.abs().max()


def test_the_deviation_climbs_the_arcsine(drawn):
    """Of rewards 0 and 1: advantages with the exact mean and deviation, and 2 arcsin sqrt(p)."""
    logits, rewards = drawn
    right = (rewards > 0.3).double()
    chance = (logits.softmax(-1) * right).sum()
    advantages = (right - chance) / (chance * (1 - chance)).sqrt()

    def surrogate(logps):
        return (logps.detach().exp() * advantages * logps).sum()

    expected = ascent_of(logits, lambda logps: 2 * (logps.exp() * right).sum().sqrt().arcsin())
    assert (ascent_of(logits, surrogate) - expected).abs().max() < EXACT


def test_a_kl_in_the_loss_goes_further_than_one_in_the_reward():
    world = make_world()
    rests, star = (
        grpo_optimum(world, 0.5, False),
        optimal_policy(world.reward, world.reference, 0.5),
    )
    assert total_variation(rests, star) > 0.3
    assert torch.allclose(rests.exp().sum(-1), torch.ones(4, dtype=torch.float64))


@pytest.mark.long
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_grpo_rests_at_its_closed_form(beta, scaled):
    world = make_world()
    trained, rests = train_grpo(world, beta, scaled).logps, grpo_optimum(world, beta, scaled)
    assert total_variation(world.reference, rests) > 0.1
    assert total_variation(trained, rests) < 0.012


# --- the document ---------------------------------------------------------------------------------


def same(shown, table):
    assert [row[0] for row in shown] == [row[0] for row in table]
    for there, here in zip(shown, table, strict=True):
        for old, new in zip(there, here, strict=True):
            assert NUMBER.sub("", old) == NUMBER.sub("", new)
            assert numbers(old) == pytest.approx(numbers(new), rel=0.03, abs=0.011)


def test_the_document_shows_the_formulas_numbers():
    shown = tables_in(DOCUMENT.read_text("utf-8"))
    assert shown.keys() == {"votes", "prompts", "methods"}
    same(shown["votes"], votes_table())
    same(shown["prompts"], weights_table())


@pytest.mark.long
def test_the_document_shows_the_trained_policies():
    same(tables_in(DOCUMENT.read_text("utf-8"))["methods"], methods_tables(make_world())["methods"])


def test_every_function_the_document_names_is_there():
    links = re.findall(r"\[`(\w+)`\]\(\.\./([\w/]+\.py)\)", DOCUMENT.read_text("utf-8"))
    assert len(links) >= 6
    for function, path in links:
        assert f"def {function}(" in (ROOT / path).read_text("utf-8"), (function, path)
