"""What the card of a policy that was trained on rewards says otherwise than DPO's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dpo_lite.names import is_function, is_public, last_name
from dpo_lite.objectives.estimators import ESTIMATORS
from dpo_lite.rates import LOGGED_OF, logged_rate
from dpo_lite.tasks.card import Card, Facts

GOAL = "max E[r(x, y)] − β · KL(π ‖ π_ref)"


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
        return f"on rewards by {ESTIMATORS[recipe.ppo.estimator].title}"

    def objective_rows(self, facts: Facts) -> list[tuple[str, str]]:
        train, ppo = facts.recipe.train, facts.recipe.ppo
        beta = f"{train.beta:g}, fixed"
        if ppo.kl_target:
            beta = f"from {train.beta:g} on, steered to a KL of {ppo.kl_target:g} nats per answer"
        passes = f"{ppo.passes} pass{'es' * (ppo.passes != 1)}"
        return [
            ("objective", f"`{ppo.estimator}`: {GOAL}, by {ESTIMATORS[ppo.estimator].how}"),
            ("reward r", _rewards(facts.recipe)),
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
            ("clip", _clip(ppo)),
            *_of_the_group(ppo),
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


def _clip(ppo: Any) -> str:
    return f"{ppo.clip:g}" if ppo.clip_high is None else f"{ppo.clip:g} down, {ppo.clip_high:g} up"


def _of_the_group(ppo: Any) -> list[tuple[str, str]]:
    """What GRPO's variants are told apart by."""
    if ppo.estimator != "grpo":
        return []
    scaled = {
        "group": "divided by the deviation of the prompt's answers",
        "batch": "divided by the deviation of the rollout",
        "none": "not divided (Dr. GRPO, arXiv:2503.20783)",
    }
    ratio = {"token": "of each token", "sequence": "of the answer (GSPO, arXiv:2507.18071)"}
    average = {
        "tokens": "over all tokens (DAPO, arXiv:2503.14476)",
        "answers": "over each answer's tokens, then over answers",
        "constant": "by the longest answer there may be (Dr. GRPO)",
    }
    return [
        ("advantages", f"reward less the prompt's mean, {scaled[ppo.scale_rewards]}"),
        ("ratio", ratio[ppo.ratio]),
        ("loss", f"averaged {average[ppo.average]}; the KL is paid for in the {ppo.kl_in}"),
    ]


def _rewards(recipe: Any) -> str:
    """What is added up, each with its weight where that says something."""
    each = [(one, reward_name(one.source, recipe.judge.model)) for one in recipe.ppo.rewards]
    if [one.weight for one, _ in each] == [1.0]:
        return each[0][1]
    return " + ".join(f"{one.weight:g} × {name}" for one, name in each)


def reward_name(reward: str, judge: str | None = None) -> str:
    """What rewarded the answers, never with a path of this machine."""
    if reward == "judge":
        return f"the score of `{judge}`, a language model that judges answers"
    if is_function(reward):
        return f"the Python function `{last_name(reward)}`"
    if is_public(reward) and "/" in reward:
        return f"the reward model [{reward}](https://huggingface.co/{reward})"
    return f"the reward model `{last_name(reward).removesuffix('/adapter')}` (of the author)"
