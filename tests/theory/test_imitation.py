"""A reward model by Eq. 2, and SFT on chosen answers: where they end."""

import pytest
import torch

from dpo_lite.objectives.preference import centering_penalties
from scripts.theory.frontier import place, shortfall
from scripts.theory.imitation import (
    chosen_policy,
    rounds_of,
    train_on_chosen,
    train_on_drawn_pairs,
)
from scripts.theory.learners import pair_loss
from scripts.theory.reward_model import fit_rewards
from scripts.theory.toy import (
    World,
    all_pairs,
    make_world,
    optimal_policy,
    preferences,
    total_variation,
)

BETA = 0.5


def spread(values: torch.Tensor) -> float:
    """By how much it varies within a prompt: 0 for a function of x alone."""
    return (values - values.mean(-1, keepdim=True)).abs().max().item()


@pytest.mark.slow
def test_eq_2_finds_the_reward_up_to_a_level_of_each_prompt():
    world = make_world()
    before, fitted = fit_rewards(world, updates=0), fit_rewards(world)
    assert spread(before) == 0
    assert spread(fitted - world.reward) < 1e-3
    assert fitted.mean(-1).abs().max() > 1  # about where it began: Adam's steps move it a little
    best = optimal_policy(world.reward, world.reference, BETA)
    assert total_variation(optimal_policy(fitted, world.reference, BETA), best) < 1e-3


def test_no_comparison_pulls_at_the_level():
    """The gradients of Eq. 2 cancel at every prompt; those of the penalty do not."""
    world, pairs = make_world(), all_pairs()
    rewards = (world.reference + 3).requires_grad_()
    loss = pair_loss(rewards, pairs, preferences(world.reward, pairs))
    (free,) = torch.autograd.grad(loss, rewards)
    assert free.abs().max() > 1e-4
    assert free.sum(-1).abs().max() < 1e-15
    both = rewards[:, pairs].flatten()
    (held,) = torch.autograd.grad(centering_penalties(both, [2] * (len(both) // 2)).sum(), rewards)
    assert held.sum(-1).abs().min() > 1


@pytest.mark.slow
def test_the_penalty_centres_and_draws_rewards_together():
    world = make_world()
    fitted = fit_rewards(world, centering=0.01)
    assert fitted.mean(-1).abs().max() < 0.01
    assert 0.7 < fitted.std().item() / world.reward.std().item() < 0.95


def test_the_chosen_of_two_by_hand():
    # pi = 1/2, 1/2 and rewards ln 3, 0: against itself the first wins in 1/2, against the other in
    # 3/4, so it is chosen in 2 * 1/2 * (1/4 + 3/8) = 5/8.
    half = torch.tensor([[0.5, 0.5]], dtype=torch.float64).log()
    world = World([], half, torch.tensor([[3.0, 1.0]], dtype=torch.float64).log())
    assert chosen_policy(world, half).exp().tolist()[0] == pytest.approx([5 / 8, 3 / 8])


def test_no_answer_is_doubled():
    world = make_world()
    chosen = chosen_policy(world, world.reference).exp()
    assert torch.allclose(chosen.sum(-1), torch.ones(4, dtype=torch.float64))
    assert (chosen < 2 * world.reference.exp()).all()
    assert (chosen / world.reference.exp()).max() > 1.5


@pytest.mark.slow
def test_sft_ends_at_the_chosen_answers_and_dpo_at_the_optimum():
    world = make_world()
    chosen = chosen_policy(world, world.reference)
    best = optimal_policy(world.reward, world.reference, BETA)
    assert total_variation(train_on_chosen(world, 500).logps, chosen) < 1e-4
    assert total_variation(train_on_drawn_pairs(world, BETA).logps, best) < 0.01
    assert total_variation(chosen, best) > 0.3
    assert place(world, best)[0] > place(world, chosen)[0] + 1


def test_judging_anew_goes_on_along_the_frontier():
    world = make_world()
    rewards, distances = zip(*(place(world, rounds_of(world, n)) for n in range(6)), strict=True)
    assert list(rewards) == sorted(rewards)
    assert list(distances) == sorted(distances)
    assert all(0 <= shortfall(world, rounds_of(world, n)) < 0.05 for n in range(6))
