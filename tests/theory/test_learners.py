"""The learners' own mechanics; where they end is in test_document."""

import pytest
import torch

from scripts.theory import learners
from scripts.theory.toy import PROMPTS, make_world


def test_pair_loss_by_hand():
    # Margins ln 3 and -ln 3 (sigma 3/4, 1/4), the first direction preferred in 3 of 4 comparisons:
    # -(3/4 ln 3/4 + 1/4 ln 1/4)
    rewards = torch.tensor([[3.0, 1.0]], dtype=torch.float64).log()
    weights = torch.tensor([[[0.75, 0.25]]], dtype=torch.float64)
    loss = learners.pair_loss(rewards, torch.tensor([[0, 1]]), weights)
    assert loss.exp().item() == pytest.approx((4 / 3) ** 0.75 * 4**0.25)


def test_the_clip_binds_while_the_policy_moves_fast(monkeypatch):
    bound = []
    surrogate = learners.clipped_surrogate

    def watched(log_ratios, advantages, clip):
        ratio = log_ratios.exp()
        over, under = ratio > 1 + clip, ratio < 1 - clip
        held = (over & (advantages > 0)) | (under & (advantages < 0))
        bound.append(held.double().mean().item())
        return surrogate(log_ratios, advantages, clip)

    monkeypatch.setattr(learners, "clipped_surrogate", watched)
    learners.train_ppo(make_world(), 0.5, rollouts=10)
    assert max(bound) > 0.05
    assert bound[::4] == [0.0] * 10  # a rollout's first update is at the old policy itself


def test_training_starts_at_the_reference_and_leaves_it_alone():
    world = make_world()
    before = [logits.clone() for logits in world.reference_levels]
    trained = learners.train_ppo(world, 0.5, rollouts=3)
    assert torch.equal(trained.path[0], world.reference)
    assert not torch.equal(trained.logps, world.reference)
    for now, then in zip(world.reference_levels, before, strict=True):
        assert torch.equal(now, then)


def test_every_answer_is_ranked_as_often(monkeypatch):
    seen = []
    monkeypatch.setattr(
        learners, "plackett_luce_loss", lambda rewards: (seen.append(rewards), rewards.sum(-1))[1]
    )
    world = make_world()
    learners.train_rankings(world, 0.5, rounds=2, updates=1)
    counts = torch.unique(seen[0], return_counts=True)[1]  # the true rewards, one per answer
    assert len(counts) == world.reward.numel() == PROMPTS * 64
    assert set(counts.tolist()) == {2 * 24}
