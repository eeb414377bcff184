"""KTO's loss against arithmetic done by hand."""

import math

import pytest
import torch

from dpo_lite.objectives.prospect import kto_at_start, kto_losses, reference_point

DESIRABLE = torch.tensor([True, False, True])


def test_kto():
    # z0 = 2 nats and beta 0.5, so beta z0 = 1; rewards 1 + log 3, 1 - log 4 and 1.
    # A good answer log 3 above the point: sigma = 3/4, lost 1/4 of weight 2.
    # A bad one log 4 below it: sigma = 4/5, lost 1/5 of weight 3. One upon it: half of 2.
    rewards = torch.tensor([1 + math.log(3), 1 - math.log(4), 1.0])
    losses = kto_losses(rewards, DESIRABLE, 0.5 * 2.0, 2.0, 3.0)
    assert losses.tolist() == pytest.approx([0.5, 0.6, 1.0])


def test_the_label_says_which_way_the_reward_is_pushed():
    rewards = torch.zeros(3, requires_grad=True)
    kto_losses(rewards, DESIRABLE, 0.0, 1.0, 2.0).sum().backward()
    # d/dr of 1 - sigma(r) at 0 is -1/4.
    assert rewards.grad.tolist() == pytest.approx([-0.25, 0.5, -0.25])


def test_the_reference_point_is_never_below_zero_and_has_no_gradient():
    assert reference_point(torch.tensor([3.0, -1.0, 1.0])).item() == 1.0
    assert reference_point(torch.tensor([-3.0, 1.0])).item() == 0.0
    ratios = torch.tensor([3.0], requires_grad=True)
    assert not reference_point(ratios).requires_grad


def test_at_the_start_half_of_each_weight_is_lost():
    assert kto_at_start(DESIRABLE) == 0.5
    assert kto_at_start(DESIRABLE, 2.0, 5.0) == pytest.approx((1 + 2.5 + 1) / 3)
