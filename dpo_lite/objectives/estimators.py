"""Where a policy gradient's advantages come from: every way that ``ppo.estimator`` names, once.

No torch in this file: the recipe, the card and the page read it too. The formulas are functions of
dpo_lite.objectives.policy_gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Estimator:
    """``answers``: drawn per prompt by default, and at least two where they are ``compared``.

    ``valued``: whether a value function is trained beside the policy. ``whole``: whether an answer
    is one action with one ratio, and not each of its tokens. ``own``: keys of ppo that this one
    alone reads, and what they are by default. ``kl_in``: where the KL term stands by default.
    """

    name: str
    title: str
    how: str  # in the card, with its sources
    answers: int
    kl_in: str = "reward"
    compared: bool = False
    valued: bool = False
    whole: bool = False
    own: Mapping[str, Any] = field(default_factory=dict)


_ALL = (
    Estimator(
        "ppo",
        "Proximal Policy Optimization",
        "a clipped surrogate on advantages of a value function (PPO, arXiv:1707.06347; of language"
        " models arXiv:2203.02155)",
        answers=1,
        valued=True,
        own={
            "value_clip": None,
            "value_lr": None,
            "gamma": 1.0,
            "lam": 0.95,
            "whiten_rewards": False,
        },
    ),
    Estimator(
        "rloo",
        "leave-one-out policy gradients (RLOO)",
        "a clipped surrogate, each answer against the others to its prompt (RLOO,"
        " arXiv:2402.14740; clipped as in PPO, arXiv:1707.06347)",
        answers=4,
        compared=True,
        whole=True,
    ),
    Estimator(
        "grpo",
        "Group Relative Policy Optimization (GRPO)",
        "a clipped surrogate, each answer against the mean of its prompt's answers (GRPO,"
        " arXiv:2402.03300)",
        answers=8,
        kl_in="loss",
        compared=True,
        own={"scale_rewards": "group", "ratio": "token", "average": "tokens"},
    ),
)
ESTIMATORS: dict[str, Estimator] = {one.name: one for one in _ALL}
