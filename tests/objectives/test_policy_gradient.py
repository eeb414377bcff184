"""The functions of PPO against arithmetic done by hand."""

import math

import pytest
import torch

from dpo_lite.objectives.policy_gradient import (
    clipped_surrogate,
    generalized_advantages,
    group_advantages,
    kl_penalties,
    kl_shaped_rewards,
    leave_one_out,
    steered_beta,
    token_weights,
    value_losses,
    whitened,
)


def test_kl_shaped_rewards():
    # beta 0.5. First answer: log-ratios 1, -2, 4 -> -0.5, 1, -2; the score 10 joins the last -> 8.
    # Second: one letter with log-ratio 2 -> -1, and its score 3 -> 2; behind it is padding.
    rewards = kl_shaped_rewards(
        torch.tensor([10.0, 3.0]),
        torch.tensor([[-1.0, -3.0, -1.0], [-1.0, -7.0, -7.0]]),
        torch.tensor([[-2.0, -1.0, -5.0], [-3.0, -9.0, -5.0]]),
        torch.tensor([[1, 1, 1], [1, 0, 0]]),
        0.5,
    )
    assert rewards.tolist() == [[-0.5, 1.0, 8.0], [2.0, 0.0, 0.0]]


def test_generalized_advantages():
    # gamma 1/2, lam 1/2, so gamma * lam = 1/4. Rewards 1, 0, 8; values 2, 4, 4.
    # delta_2 = 8 + 0 - 4 = 4;   delta_1 = 0 + 4/2 - 4 = -2;   delta_0 = 1 + 4/2 - 2 = 1
    # A_2 = 4;   A_1 = -2 + 4/4 = -1;   A_0 = 1 - 1/4 = 0.75;   returns A + V = 2.75, 3, 8
    # The second answer ends after one letter: A = 3 - 2 = 1; what is behind it is noise.
    advantages, returns = generalized_advantages(
        torch.tensor([[1.0, 0.0, 8.0], [3.0, 9.0, 9.0]]),
        torch.tensor([[2.0, 4.0, 4.0], [2.0, 9.0, 9.0]]),
        torch.tensor([[1, 1, 1], [1, 0, 0]]),
        0.5,
        0.5,
    )
    assert advantages.tolist() == [[0.75, -1.0, 4.0], [1.0, 0.0, 0.0]]
    assert returns.tolist() == [[2.75, 3.0, 8.0], [3.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("lam", "expected"),
    [(0.0, [[1.0, 2.0]]), (1.0, [[3.0, 2.0]])],  # one step's delta; all rewards less the value
)
def test_generalized_advantages_at_the_ends(lam, expected):
    # rewards 1, 5; values 3, 3: delta_1 = 5 - 3 = 2, delta_0 = 1 + 3 - 3 = 1; 1 + 5 - 3 = 3
    rewards, values = torch.tensor([[1.0, 5.0]]), torch.tensor([[3.0, 3.0]])
    advantages, returns = generalized_advantages(rewards, values, torch.ones(1, 2), 1.0, lam)
    assert advantages.tolist() == expected
    assert returns.tolist() == (values + torch.tensor(expected)).tolist()


def test_clipped_surrogate():
    # clip 0.2. rho 1.5, A 2: min(3, 2.4) = 2.4.   rho 1.5, A -2: min(-3, -2.4) = -3.
    # rho 0.5, A 2: min(1, 1.6) = 1.   rho 0.5, A -2: min(-1, -1.6) = -1.6.   rho 1.1, A 2: 2.2.
    new = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1], dtype=torch.float64).log().requires_grad_()
    advantages = torch.tensor([2.0, -2.0, 2.0, -2.0, 2.0], dtype=torch.float64)
    loss = clipped_surrogate(new, advantages, 0.2)
    assert loss.tolist() == pytest.approx([-2.4, 3.0, -1.0, 1.6, -2.2])
    # d(-rho A) / d log pi = -rho A where the bound does not bind, and nothing where it does.
    loss.sum().backward()
    assert new.grad.tolist() == pytest.approx([0.0, 3.0, -1.0, 0.0, -2.2])


def test_at_the_old_policy_it_is_the_policy_gradient():
    logps = torch.tensor([-1.0, -2.0], requires_grad=True)
    advantages = torch.tensor([3.0, -4.0])
    clipped_surrogate(logps - logps.detach(), advantages, 0.2).sum().backward()
    assert logps.grad.tolist() == (-advantages).tolist()


def test_the_letters_rewards_sum_to_the_regularised_reward():
    # r - beta * log(pi / pi_ref): 1 - 0.1 * (log 0.5 - log 0.25 + 0) = 1 - 0.1 log 2
    policy, reference = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.5]]).log()
    rewards = kl_shaped_rewards(torch.tensor([1.0]), policy, reference, torch.ones(1, 2), 0.1)
    assert rewards.sum().item() == pytest.approx(1 - 0.1 * math.log(2))


def test_value_losses():
    # clip 1. From 0 to 3, return 5: clipped to 1, (1 - 5)^2 / 2 = 8 is worse than (3 - 5)^2 / 2.
    # From 0 to 0.5, return 2: not clipped, 1.5^2 / 2 = 1.125.
    # From 0 to 3, return 0: the way back is not clipped away, 9 / 2 beats 1 / 2.
    new, old, returns = torch.tensor([[3.0, 0.5, 3.0], [0.0, 0.0, 0.0], [5.0, 2.0, 0.0]])
    assert value_losses(new, old, returns, 1.0).tolist() == [8.0, 1.125, 4.5]
    assert value_losses(new, old, returns).tolist() == [2.0, 1.125, 4.5]


def test_whitened():
    # Without padding: 1, 3, 5, 7, mean 4, deviation sqrt(5).
    values = torch.tensor([[1.0, 3.0, 99.0], [5.0, 7.0, -99.0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 0]])
    root = math.sqrt(5)
    expected = torch.tensor([[-3 / root, -1 / root, 0.0], [1 / root, 3 / root, 0.0]])
    assert torch.allclose(whitened(values, mask), expected)
    assert torch.allclose(whitened(values, mask, shift=False), (expected + 4) * mask)


def test_clip_higher():
    # rho 1.25: beyond 1.2, within 1.28. rho 0.75: the lower bound is as it was.
    new = torch.tensor([1.25, 0.75]).log()
    loss = clipped_surrogate(new, torch.tensor([1.0, -1.0]), 0.2, 0.28)
    assert loss.tolist() == pytest.approx([-1.25, 0.8])


def test_kl_penalties():
    # pi 0.5, pi_ref 0.25: 1/2 - log(1/2) - 1 = log 2 - 1/2. Equal: 0. Drawn half as often: twice.
    logps = torch.tensor([0.5, 0.3, 0.5]).log()
    old, reference = torch.tensor([0.5, 0.3, 0.25]).log(), torch.tensor([0.25, 0.3, 0.25]).log()
    expected = [math.log(2) - 0.5, 0.0, 2 * (math.log(2) - 0.5)]
    assert kl_penalties(logps, old, reference).tolist() == pytest.approx(expected)


def test_kl_penalties_are_the_kl_and_their_gradient_its_gradient():
    """In expectation under the policy that drew, which is another one."""
    logits = torch.tensor([0.3, -0.2, 0.7], dtype=torch.float64, requires_grad=True)
    old, reference = (
        torch.tensor(p, dtype=torch.float64) for p in ([0.2, 0.5, 0.3], [0.6, 0.1, 0.3])
    )
    logps = logits.log_softmax(-1)
    expected = (old * kl_penalties(logps, old.log(), reference.log())).sum()
    kl = (logps.exp() * (logps - reference.log())).sum()
    assert expected.item() == pytest.approx(kl.item())
    found, true = (torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (expected, kl))
    assert torch.allclose(found, true)


def test_group_advantages():
    # 1, 2, 6: mean 3, deviation sqrt((4 + 1 + 9) / 2) = sqrt 7. Equal answers earn nothing.
    rewards = torch.tensor([[1.0, 2.0, 6.0], [4.0, 4.0, 4.0]])
    found = group_advantages(rewards)
    assert found[0].tolist() == pytest.approx([x / math.sqrt(7) for x in (-2, -1, 3)], rel=1e-4)
    assert found[1].tolist() == [0.0, 0.0, 0.0]
    assert group_advantages(rewards, "none")[0].tolist() == [-2.0, -1.0, 3.0]
    # Over all: mean 3.5, squares 6.25 + 2.25 + 6.25 + 3 * 0.25 = 15.5, by 5: 3.1.
    batch = group_advantages(rewards, "batch")[0]
    assert batch.tolist() == pytest.approx([x / math.sqrt(3.1) for x in (-2, -1, 3)], rel=1e-4)


def test_token_weights():
    mask = torch.tensor([[True, True, True], [True, False, False]])
    assert token_weights(mask, "tokens", 2, 5).tolist() == [[0.25] * 3, [0.25, 0, 0]]
    of_answers = token_weights(mask, "answers", 2, 5)
    assert of_answers.flatten().tolist() == pytest.approx([1 / 6] * 3 + [0.5, 0, 0])
    constant = token_weights(mask, "constant", 2, 5)
    assert constant.flatten().tolist() == pytest.approx([0.1] * 4 + [0, 0])


def test_leave_one_out():
    # 1, 2, 6: the others' means are 4, 3.5 and 1.5. Equal answers earn nothing.
    found = leave_one_out(torch.tensor([[1.0, 2.0, 6.0], [4.0, 4.0, 4.0]]))
    assert found.tolist() == [[-3.0, -1.5, 4.5], [0.0, 0.0, 0.0]]


def test_leave_one_out_has_no_bias():
    """Its expected gradient is that of plain REINFORCE, over all pairs of answers of a softmax."""
    logits = torch.tensor([0.3, -0.5, 1.0], dtype=torch.float64, requires_grad=True)
    rewards = torch.tensor([1.0, 4.0, -2.0], dtype=torch.float64)
    logps = logits.log_softmax(-1)
    (expected,) = torch.autograd.grad((logps.exp() * rewards).sum(), logits, retain_graph=True)
    found = torch.zeros(3, dtype=torch.float64)
    for i in range(3):
        for j in range(3):
            both = (logps[i] + logps[j]).exp().item()
            advantages = leave_one_out(rewards[[i, j]][None])[0]
            surrogate = (advantages * logps[[i, j]]).mean()
            found += both * torch.autograd.grad(surrogate, logits, retain_graph=True)[0]
    assert torch.allclose(found, expected)


@pytest.mark.parametrize(
    ("kl", "expected"),
    [(6.0, 0.5), (6.6, 0.505), (60.0, 0.51), (0.0, 0.49)],  # at most 2 % a step
)
def test_steered_beta(kl, expected):
    assert steered_beta(0.5, kl, 6.0) == pytest.approx(expected)
