"""The proofs' steps against arithmetic done by hand, and what they need to hold."""

import math

import pytest
import torch

from scripts.theory.proof import (
    HALF,
    any_policy,
    apart,
    connected_table,
    lines,
    rarer,
    reward_to_reach,
    rewards_from,
)
from scripts.theory.toy import (
    World,
    kl,
    log_partition,
    make_world,
    objective,
    optimal_policy,
    preferences,
)

BETA = 0.5


def row(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


def test_the_lines_by_hand():
    # pi_ref 1/4, 3/4; beta 2; r = 2 ln 3, 0: Z = 3/2, and pi = 1/2, 1/2 is pi* itself, so that all
    # lines are beta log Z = 2 ln 3/2.
    world = World([], row(0.25, 0.75).log(), row(9, 1).log())
    values = [value.exp().item() for _, value in lines(world, 2.0, row(0.5, 0.5).log())]
    assert values == pytest.approx([9 / 4] * 5)


def test_every_line_is_the_objective_and_no_line_is_trivial():
    world, pi = make_world(), any_policy()
    expected = objective(pi, world.reward, world.reference, BETA)
    for name, value in lines(world, BETA, pi):
        assert torch.allclose(value, expected, rtol=0, atol=1e-12), name
    log_z = log_partition(world.reward, world.reference, BETA)[:, 0]
    assert log_z.abs().min() > 0.1  # a line that loses it is seen
    assert kl(pi, optimal_policy(world.reward, world.reference, BETA)).min() > 0.1


@pytest.mark.parametrize("chance", [0.1, 1e-6, 1e-12])
def test_the_reward_to_reach_makes_an_answer_half_of_the_optimum(chance):
    world, reference = make_world(), rarer(make_world(), chance)
    assert torch.allclose(reference.exp().sum(-1), torch.ones(4, dtype=torch.float64))
    reward = world.reward.clone()
    reward[:, 0] = reward_to_reach(world, BETA, chance)
    best = optimal_policy(reward, reference, BETA).exp()
    assert best[:, 0].tolist() == pytest.approx([0.5] * 4)


def test_no_reward_reaches_what_the_reference_never_says():
    world, reference = make_world(), rarer(make_world(), 0.0)
    reward = world.reward.clone()
    reward[:, 0] = 1e6
    best = optimal_policy(reward, reference, BETA)
    assert best[:, 0].exp().tolist() == [0.0] * 4
    assert reward_to_reach(world, BETA, 0.0).tolist() == [math.inf] * 4
    assert objective(any_policy(), reward, reference, BETA).tolist() == [-math.inf] * 4


def test_rewards_from_preferences_by_hand():
    # y_1 beats y_2 in 3 of 4, y_2 and y_3 are equal: differences ln 3 and 0.
    found = rewards_from(torch.tensor([[[0.75, 0.25], [0.5, 0.5]]], dtype=torch.float64))
    assert found.tolist()[0] == pytest.approx([0.0, -math.log(3), -math.log(3)])


def test_halves_that_are_never_compared_may_move_apart():
    pairs = apart()
    assert len(pairs) == HALF * (HALF - 1)  # twice HALF over two
    assert ((pairs[:, 0] < HALF) == (pairs[:, 1] < HALF)).all()
    reward = make_world().reward
    moved = torch.cat([reward[:, :HALF] + 1, reward[:, HALF:]], dim=-1)
    assert torch.allclose(preferences(moved, pairs), preferences(reward, pairs))
    equivalent, unconnected, bridged = (
        [float(cell) for cell in cells] for _, *cells in connected_table(make_world(), BETA)[1:]
    )
    assert equivalent == [0, 0]
    assert unconnected[0] == 0
    assert unconnected[1] > 0.2
    assert bridged[0] > 0.1
