"""Each loss against arithmetic done by hand."""

import math
from types import SimpleNamespace

import pytest
import torch

from dpo_lite.objectives.losses import LOSSES
from dpo_lite.objectives.preference import (
    apo_down_loss,
    apo_zero_loss,
    bco_pair_loss,
    centering_penalties,
    dpop_loss,
    hinge_loss,
    implicit_rewards,
    ipo_loss,
    loss_at_start,
    moved_beta,
    moved_mean,
    orpo_loss,
    plackett_luce_loss,
    preference_losses,
    robust_loss,
    shared_weights,
    sigmoid_loss,
    simpo_loss,
)


def test_implicit_rewards():
    # beta 0.5, log-ratios 2 and -4 -> rewards 1 and -2.
    rewards = implicit_rewards(torch.tensor([-8.0, -14.0]), torch.tensor([-10.0, -10.0]), 0.5)
    assert rewards.tolist() == [1.0, -2.0]


def test_sigmoid():
    # margin 3: -log(1 / (1 + e^-3)) = log(1 + e^-3) = 0.0485873516
    assert sigmoid_loss(torch.tensor([[1.0, -2.0]])).item() == pytest.approx(math.log1p(math.e**-3))


def test_conservative_dpo():
    # margin log 3: sigma = 3/4, so log(4/3) with weight 0.9 and log 4 with weight 0.1
    loss = sigmoid_loss(torch.tensor([[math.log(3), 0.0]]), 0.1)
    assert loss.item() == pytest.approx(0.9 * math.log(4 / 3) + 0.1 * math.log(4))


def test_conservative_dpo_rests_at_the_log_odds():
    # e = 0.1: the margin log(0.9 / 0.1) = log 9 is the least, so its gradient is zero
    rewards = torch.tensor([[math.log(9), 0.0]], dtype=torch.float64, requires_grad=True)
    sigmoid_loss(rewards, 0.1).sum().backward()
    assert rewards.grad.abs().max() < 1e-12


def test_robust():
    # margin log 3, e = 0.2: (0.8 log(4/3) - 0.2 log 4) / 0.6
    loss = robust_loss(torch.tensor([[math.log(3), 0.0]]), 0.2)
    assert loss.item() == pytest.approx((0.8 * math.log(4 / 3) - 0.2 * math.log(4)) / 0.6)


def test_robust_is_unbiased_under_flips():
    """Over labels of which 0.3 are flipped it is DPO on the true ones, also its gradient."""
    rewards = (torch.randn(64, 2, dtype=torch.float64) * 3).requires_grad_()
    seen = 0.7 * robust_loss(rewards, 0.3) + 0.3 * robust_loss(rewards.flip(1), 0.3)
    assert torch.allclose(seen, sigmoid_loss(rewards))
    (found,) = torch.autograd.grad(seen.sum(), rewards)
    (true,) = torch.autograd.grad(sigmoid_loss(rewards).sum(), rewards)
    assert torch.allclose(found, true)


def test_sigmoid_norm():
    # beta 5: log-ratios 4 and -3 nats over 10 and 5 tokens -> rewards 2 and -3, margin 5
    lengths = torch.tensor([10, 5])
    rewards = implicit_rewards(
        torch.tensor([-6.0, -13.0]), torch.tensor([-10.0, -10.0]), 5, lengths
    )
    assert rewards.tolist() == [2.0, -3.0]
    loss = preference_losses("sigmoid_norm", rewards, lengths, [2], 5)
    assert loss.item() == pytest.approx(math.log1p(math.e**-5))
    assert LOSSES["sigmoid_norm"].per_token


def test_hinge():
    # margins 3 and 0.25 -> 0 and 0.75
    assert hinge_loss(torch.tensor([[1.0, -2.0], [0.5, 0.25]])).tolist() == [0.0, 0.75]


def test_ipo():
    # beta 0.1: log-ratios 10 and -20 over 5 and 4 tokens -> 2 - (-5) = 7; (7 - 5)^2 = 4
    loss = ipo_loss(torch.tensor([[1.0, -2.0]]), torch.tensor([[5, 4]]), 0.1)
    assert loss.item() == pytest.approx(4.0)


def test_bco_pair():
    # rewards log 3 and -log 3: sigma = 3/4 for both, so 2 log(4/3); at the start 2 ln 2
    loss = bco_pair_loss(torch.tensor([[math.log(3), -math.log(3)]]))
    assert loss.item() == pytest.approx(2 * math.log(4 / 3))
    assert loss_at_start("bco_pair", 2, 0.1) == pytest.approx(2 * math.log(2))


def test_tokens_behind_the_shorter_answer_count_for_less():
    # answers of 3 and 5 tokens, then of 2 and 1: the 4th and 5th, and the 2nd, stand behind
    response = torch.tensor([0] * 3 + [1] * 5 + [2] * 2 + [3])
    weights = shared_weights(response, torch.tensor([3, 5, 2, 1]), 0.25)
    assert weights.tolist() == [1] * 3 + [1, 1, 1, 0.25, 0.25] + [1, 0.25] + [1]


def test_a_beta_that_moves():
    # beta 0.1, weight 0.6, margin 1.5 against 0.5: 0.1 (1 + 0.6) = 0.16
    assert moved_beta(0.1, 0.6, 1.5, 0.5) == pytest.approx(0.16)
    assert moved_beta(0.1, 0.6, 0.5, 0.5) == pytest.approx(0.1)
    assert moved_beta(0.1, 0.6, -9.0, 0.5) == pytest.approx(0.001)  # 1 - 5.7 would turn the loss
    assert moved_mean(0.5, 1.5) == pytest.approx(0.9 * 0.5 + 0.1 * 1.5)


def test_plackett_luce_three():
    # rewards 2, 1, 0: P = e^2/(e^2+e+1) * e/(e+1)
    e = math.e
    expected = -math.log(e**2 / (e**2 + e + 1) * e / (e + 1))
    loss = plackett_luce_loss(torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64))
    assert loss.item() == pytest.approx(expected)


def test_plackett_luce_of_two_is_dpo():
    rewards = torch.randn(64, 2, dtype=torch.float64) * 5
    assert torch.allclose(plackett_luce_loss(rewards), sigmoid_loss(rewards), atol=1e-12)


def test_plackett_luce_probabilities_sum_to_one():
    from itertools import permutations

    rewards = torch.randn(4, dtype=torch.float64)
    orders = rewards[torch.tensor(list(permutations(range(4))))]
    assert (-plackett_luce_loss(orders)).exp().sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize("loss", ["sigmoid", "ipo", "hinge", "plackett_luce"])
def test_a_shift_per_prompt_changes_nothing(loss):
    """beta log Z(x) cancels. (For IPO only where both responses are of one length.)"""
    rewards, lengths = torch.randn(8, dtype=torch.float64), torch.full((8,), 3)
    shift = torch.randn(4, dtype=torch.float64).repeat_interleave(2)
    sizes = [2, 2, 2, 2]
    plain = preference_losses(loss, rewards, lengths, sizes, 0.1)
    assert torch.allclose(plain, preference_losses(loss, rewards + shift, lengths, sizes, 0.1))


def test_ragged_rankings():
    rewards, lengths = torch.randn(5), torch.ones(5)
    losses = preference_losses("plackett_luce", rewards, lengths, [2, 3], 0.1)
    assert losses[0].item() == pytest.approx(sigmoid_loss(rewards[None, :2]).item())
    assert losses[1].item() == pytest.approx(plackett_luce_loss(rewards[None, 2:]).item())


@pytest.mark.parametrize(
    ("loss", "responses", "value"),
    [
        ("sigmoid", 2, math.log(2)),
        ("plackett_luce", 4, math.log(24)),
        ("hinge", 2, 1.0),
        ("sigmoid_norm", 2, math.log(2)),
        ("robust", 2, math.log(2)),
        ("ipo", 2, 25.0),
    ],
)
def test_loss_at_start(loss, responses, value):
    assert loss_at_start(loss, responses, 0.1) == pytest.approx(value)


@pytest.mark.parametrize("loss", ["sigmoid", "robust"])
def test_smoothing_moves_no_start(loss):
    """So the step-0 identity needs no label smoothing: equal rewards are equal when flipped."""
    zeros, lengths = torch.zeros(2), torch.ones(2)
    start = preference_losses(loss, zeros, lengths, [2], 0.1, 0.3)
    assert start.item() == pytest.approx(math.log(2))


def test_the_centering_penalty_by_hand():
    found = centering_penalties(torch.tensor([1.0, 2.0, -3.0, 3.0, 1.0, 2.0, 3.0]), [2, 2, 3])
    assert found.tolist() == [9.0, 0.0, 16.0]


def test_anchored_losses():
    # sigma(log 3) = 3/4, sigma(-log 4) = 1/5, sigma(log 12) = 12/13
    rewards = torch.tensor([[math.log(3), -math.log(4)]])
    assert apo_zero_loss(rewards).item() == pytest.approx(1 - 3 / 4 + 1 / 5)
    assert apo_down_loss(rewards).item() == pytest.approx(3 / 4 + 1 - 12 / 13)


def test_dpo_positive():
    # nothing is paid for a chosen response that got likelier: log(1 + 1/12) of the margin log 12
    assert dpop_loss(torch.tensor([[math.log(3), -math.log(4)]]), 50).item() == pytest.approx(
        math.log(13 / 12)
    )
    # lost 2 with lambda 5: margin 3 - 2 * 5 = -7 (r_l = -5)
    assert dpop_loss(torch.tensor([[-2.0, -5.0]]), 5).item() == pytest.approx(math.log1p(math.e**7))


def test_simpo():
    # beta 2: -30 nats over 10 tokens and -20 over 5 -> rewards -6 and -8; margin 2 less gamma 0.5
    lengths = torch.tensor([10, 5])
    logps, none = torch.tensor([-30.0, -20.0]), torch.zeros(2)
    rewards = implicit_rewards(logps, none, 2, lengths)
    assert rewards.tolist() == [-6.0, -8.0]
    loss = preference_losses("simpo", rewards, lengths, [2], 2, options={"simpo_gamma": 0.5})
    assert loss.item() == pytest.approx(math.log1p(math.e**-1.5))
    assert simpo_loss(rewards[None], 0.5).item() == loss.item()


def test_orpo():
    # tokens of probability 3/4 and 1/2: odds 3 and 1, so -log sigma(log 3) = log(4/3), times 0.2
    rewards = 0.2 * torch.log(torch.tensor([[0.75, 0.5]], dtype=torch.float64))
    assert orpo_loss(rewards, 0.2).item() == pytest.approx(0.2 * math.log(4 / 3))


def test_orpo_of_a_response_beyond_doubt_is_finite():
    rewards = torch.tensor([[0.0, -1e-9]], requires_grad=True)
    orpo_loss(rewards, 0.1).sum().backward()
    assert rewards.grad.isfinite().all()


@pytest.mark.parametrize("loss", ["simpo", "cpo"])
def test_reference_free_losses_are_trls(loss):
    """The function that TRL's CPOTrainer computes both with, smoothed labels too for CPO."""
    trl = pytest.importorskip("trl.experimental.cpo")
    logps, lengths = -30 * torch.rand(16), torch.randint(2, 9, (16,))
    own = LOSSES[loss]
    smoothing = 0.1 if own.smoothing != "none" else 0.0
    scored = logps / lengths if own.per_token else logps
    settings = SimpleNamespace(
        alpha=0.0,
        beta=own.beta,
        loss_type="simpo" if loss == "simpo" else "sigmoid",
        simpo_gamma=1.0,
        label_smoothing=smoothing,
        accelerator=SimpleNamespace(device="cpu"),
    )
    theirs, *_ = trl.CPOTrainer.cpo_loss(settings, scored[::2], scored[1::2])
    per_token = lengths if own.per_token else None
    rewards = implicit_rewards(logps, torch.zeros(16), own.beta, per_token)
    ours = preference_losses(loss, rewards, lengths, [2] * 8, own.beta, smoothing)
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_odds_ratios_are_trls():
    trl = pytest.importorskip("trl.experimental.orpo")
    logps = -3 * torch.rand(16) - 0.01
    settings = SimpleNamespace(beta=0.1, accelerator=SimpleNamespace(device="cpu"))
    theirs, *_ = trl.ORPOTrainer.odds_ratio_loss(settings, logps[::2], logps[1::2])
    ours = orpo_loss(0.1 * logps.view(-1, 2), 0.1)
    assert torch.allclose(ours, -theirs, atol=1e-6)  # they subtract it
