"""What the card of a policy that was trained on rewards says otherwise than DPO's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dpo_lite.names import is_function, is_public, last_name
from dpo_lite.rates import LOGGED_OF, logged_rate
from dpo_lite.tasks.card import Card, Facts

GOAL = "max E[r(x, y)] − β · KL(π ‖ π_ref)"
WAYS = {
    "ppo": "a clipped surrogate on advantages of a value function (PPO, arXiv:1707.06347; of "
    "language models arXiv:2203.02155)",
    "rloo": "a clipped surrogate, each answer against the others to its prompt (RLOO, "
    "arXiv:2402.14740; clipped as in PPO, arXiv:1707.06347)",
}
HOW = {"ppo": "Proximal Policy Optimization", "rloo": "leave-one-out policy gradients (RLOO)"}


class PPOCard(Card):
    measured_as = "Answers"
    limits = (
        "The adapter says what its reward likes, also where the reward is wrong: a policy finds "
        "what a reward model overrates. It prefers nothing else"
        + Card.limits.removeprefix("The adapter prefers what its data prefer")
    )

    def all_tags(self, recipe: Any) -> tuple[str, ...]:
        return (recipe.ppo.estimator,)

    def how(self, recipe: Any) -> str:
        return f"on rewards by {HOW[recipe.ppo.estimator]}"

    def objective_rows(self, facts: Facts) -> list[tuple[str, str]]:
        train, ppo = facts.recipe.train, facts.recipe.ppo
        beta = f"{train.beta:g}, fixed"
        if ppo.kl_target:
            beta = f"from {train.beta:g} on, steered to a KL of {ppo.kl_target:g} nats per answer"
        passes = f"{ppo.passes} pass{'es' * (ppo.passes != 1)}"
        return [
            ("objective", f"`{ppo.estimator}`: {GOAL}, by {WAYS[ppo.estimator]}"),
            ("reward r", reward_name(ppo.reward)),
            ("β", beta),
            ("reference π_ref", facts.manifest.get("reference", facts.recipe.reference)),
            (
                "answers",
                f"{ppo.answers} per prompt at temperature 1, up to {ppo.max_new_tokens} tokens; "
                f"{ppo.no_end_penalty:g} off the reward of one that does not end",
            ),
            (
                "learned from",
                f"{passes} over a rollout, {ppo.minibatch} answers per step",
            ),
            ("clip", f"{ppo.clip:g}"),
        ]

    def length_rows(self, recipe: Any) -> list[tuple[str, str]]:
        """In rollouts, which are PPO's updates."""
        train = recipe.train
        passes = f"{train.epochs:g} epoch{'s' * (train.epochs != 1)} of the prompts"
        count = f"{train.max_steps:,} rollouts" if train.max_steps else passes
        return [("batch", f"{train.batch_size} prompts per rollout"), ("rollouts", count)]

    def measures(self, metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
        """What a held-out set's drawn answers are worth."""
        drawn = (metrics.get("drawn") or {}).get("policy", {})
        for key, kind, title in (
            ("truthful", "chosen_claim", "Drawn answers with the chosen claim"),
            ("reward", "reward", "Mean reward of drawn answers"),
            ("kl", "kl", "KL to the reference, nats per answer"),
        ):
            if key in drawn:
                yield kind, title, logged_rate(drawn, key) if key in LOGGED_OF else drawn[key]


def reward_name(reward: str) -> str:
    """What rewarded the answers, never with a path of this machine."""
    if is_function(reward):
        return f"the Python function `{last_name(reward)}`"
    if is_public(reward) and "/" in reward:
        return f"the reward model [{reward}](https://huggingface.co/{reward})"
    return f"the reward model `{last_name(reward).removesuffix('/adapter')}` (of the author)"
