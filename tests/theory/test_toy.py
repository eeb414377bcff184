"""The toy's formulas against arithmetic done by hand or by brute force."""

from itertools import product

import pytest
import torch

from scripts.theory.learners import prefix_values
from scripts.theory.toy import (
    ALPHABET,
    ANSWERS,
    LENGTH,
    PROMPTS,
    all_pairs,
    answer_logps,
    kl,
    log_partition,
    make_world,
    objective,
    optimal_policy,
    preferences,
    project,
    sample_preferences,
    total_variation,
)


def row(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


def test_closed_form_by_hand():
    # pi_ref 1/4, 3/4; beta 2; r = 2 ln 3, 0: weights 3/4, 3/4, so Z = 3/2 and pi* is 1/2, 1/2.
    reference, reward = row(0.25, 0.75).log(), row(9, 1).log()
    assert optimal_policy(reward, reference, 2.0).exp().tolist()[0] == pytest.approx([0.5, 0.5])
    assert log_partition(reward, reference, 2.0).exp().item() == pytest.approx(1.5)
    # The projection is 2 log(pi* / pi_ref) = 2 ln 2 and 2 ln(2/3).
    assert project(reward, reference, 2.0).exp().tolist()[0] == pytest.approx([4, 4 / 9])


def test_distances_by_hand():
    p, q = row(0.5, 0.5).log(), row(0.25, 0.75).log()
    assert total_variation(p, q) == pytest.approx(0.25)
    # 1/2 ln 2 + 1/2 ln(2/3) = 1/2 ln(4/3)
    assert kl(p, q).exp().item() == pytest.approx((4 / 3) ** 0.5)


def test_preferences_by_hand():
    # rewards ln 3 and 0: sigma(ln 3) = 3/4
    chances = preferences(row(3, 1).log(), torch.tensor([[0, 1]]))
    assert chances.flatten().tolist() == pytest.approx([0.75, 0.25])


def test_answers_are_numbered_in_dictionary_order():
    world = make_world()
    steps = [logits.log_softmax(-1) for logits in world.reference_levels]
    for number, letters in enumerate(product(range(ALPHABET), repeat=LENGTH)):
        prefix, logp = 0, 0.0
        for t, letter in enumerate(letters):
            logp += steps[t][1, prefix, letter].item()
            prefix = prefix * ALPHABET + letter
        assert world.reference[1, number].item() == pytest.approx(logp)


def test_policies_are_distributions_and_the_reference_is_not_uniform():
    world = make_world()
    torch.testing.assert_close(
        world.reference.exp().sum(-1), torch.ones(PROMPTS, dtype=torch.float64)
    )
    assert world.reference.exp().max() > 5 / ANSWERS


def test_no_policy_beats_the_closed_form():
    world, beta = make_world(), 0.5
    best = optimal_policy(world.reward, world.reference, beta)
    top = objective(best, world.reward, world.reference, beta)
    generator = torch.Generator().manual_seed(0)
    for size in (1e-3, 0.1, 1, 10):
        noise = torch.randn(best.shape, generator=generator, dtype=torch.float64)
        other = (best + size * noise).log_softmax(-1)
        assert (objective(other, world.reward, world.reference, beta) < top).all()


def test_the_critic_is_the_mean_of_what_follows():
    world = make_world()
    generator = torch.Generator().manual_seed(0)
    rewards = torch.randn(PROMPTS, ANSWERS, LENGTH, generator=generator, dtype=torch.float64)
    # As in an episode, the reward of a letter depends on the letters up to it alone.
    rewards[..., 0] = rewards[:, :: ALPHABET**2, 0].repeat_interleave(ALPHABET**2, dim=1)
    rewards[..., 1] = rewards[:, ::ALPHABET, 1].repeat_interleave(ALPHABET, dim=1)
    values = prefix_values(rewards, world.reference)
    chances = world.reference.exp()
    assert torch.allclose(values[:, 0, 0], (chances * rewards.sum(-1)).sum(-1))
    same = slice(20, 24)  # the answers that begin with letters 1, 1
    within = chances[2, same] / chances[2, same].sum()
    assert values[2, 21, 2].item() == pytest.approx((within * rewards[2, same, 2]).sum().item())


def test_sampled_preferences_approach_the_expected():
    world, pairs = make_world(), all_pairs()
    expected = preferences(world.reward, pairs) / len(pairs)
    few, many = (sample_preferences(world.reward, pairs, n, seed=0) for n in (100, 400_000))
    assert few.sum((1, 2)).tolist() == pytest.approx([1.0] * PROMPTS)
    assert (few * 100).allclose((few * 100).round())
    assert (many - expected).abs().sum() < 0.15 * (few - expected).abs().sum()


def test_log_probabilities_do_not_change_with_a_shift_of_the_logits():
    levels = make_world().reference_levels
    assert torch.allclose(answer_logps(levels), answer_logps([logits + 7 for logits in levels]))
