"""Sections of single tasks: the rollouts of PPO and the steps of RLHF."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from dpo_lite.bounded import MAX_SEED, MAX_TOKENS
from dpo_lite.recipe.kinds import TINY, Line
from dpo_lite.recipe.rewards import MOST, OneReward, fault_of, in_words, settled
from dpo_lite.recipe.sections import COMMON, Section

Rewards = Annotated[list[Line | OneReward], Field(min_length=1, max_length=MOST)]


class PPOSection(Section):
    reward: Line | Rewards | None = Field(
        None,
        description="What answers are rewarded by: a reward run's name, the folder or Hub id of its"
        " adapter, `file.py:function`, called with prompts and completions, or `judge`, the section"
        " of that name; or a list of such, or of {source, weight, name}, whose weighted sum is"
        " trained.",
        json_schema_extra=COMMON,
    )
    estimator: Literal["ppo", "rloo", "grpo"] = Field(
        "ppo",
        description="Where advantages come from: `ppo` trains a value adapter beside the policy,"
        " `rloo` and `grpo` compare several answers to one prompt.",
        json_schema_extra=COMMON,
    )
    answers: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Answers drawn per prompt; default: 1, 4 for `rloo` and 8 for `grpo`.",
    )
    max_new_tokens: int = Field(
        64,
        ge=1,
        le=MAX_TOKENS,
        description="Longest answer drawn, in tokens.",
        json_schema_extra=COMMON,
    )
    passes: int = Field(
        2, ge=1, le=1000, description="Passes over the drawn answers before new ones are drawn."
    )
    minibatch: int = Field(32, ge=1, le=10**6, description="Answers per step of the optimiser.")
    clip: float = Field(
        0.2, ge=TINY, lt=1, description="How far a probability may move, as a ratio, per rollout."
    )
    clip_high: float | None = Field(
        None,
        ge=TINY,
        le=1e6,
        description="How far it may move up, where that is more than down, such as 0.28; default:"
        " as clip.",
    )
    scale_rewards: Literal["group", "batch", "none"] = Field(
        "group",
        description="What rewards above their prompt's mean are divided by in `grpo`: the"
        " deviation of the prompt's answers, of the whole rollout's, or nothing (Dr. GRPO).",
    )
    ratio: Literal["token", "sequence"] = Field(
        "token",
        description="Whose ratio is clipped in `grpo`: each token's, or the answer's mean (GSPO).",
    )
    average: Literal["tokens", "answers", "constant"] = Field(
        "tokens",
        description="How the loss of `grpo` is averaged: over all tokens, over each answer's and"
        " then over answers, or by the longest that answers may be (Dr. GRPO).",
    )
    kl_in: Literal["reward", "loss"] | None = Field(
        None,
        description="Where the KL to the reference is paid for: off the reward, or in the loss;"
        " default: the reward, and the loss for `grpo`.",
    )
    value_clip: float | None = Field(
        None,
        ge=TINY,
        le=1e9,
        description="How far a value may move per rollout, in units of reward, before its loss is"
        " clipped; default: as far as it likes.",
    )
    value_lr: float | None = Field(
        None,
        ge=1e-12,
        lt=1,
        description="Peak learning rate of the value function; default: train.lr. It may be ten"
        " times as high, more so where the value function starts fresh.",
    )
    gamma: float = Field(1.0, ge=TINY, le=1, description="Discount per token.")
    lam: float = Field(
        0.95,
        ge=0,
        le=1,
        description="GAE's lambda: 1 trusts the rewards that followed, 0 the values.",
    )
    whiten_rewards: bool = Field(
        False, description="Scale the rewards of a rollout to unit variance before advantages."
    )
    no_end_penalty: float = Field(
        1.0,
        ge=0,
        le=1e6,
        description="Taken off the reward of an answer that did not come to its end.",
    )
    kl_target: float | None = Field(
        None,
        ge=TINY,
        le=1e6,
        description="Nats per answer that the KL is steered to by changing beta, at most 2 % per"
        " rollout; default: beta stays as it is.",
    )

    @property
    def rewards(self) -> list[OneReward]:
        """Every reward with its weight and its name."""
        return settled(self.reward)

    @property
    def rewards_fault(self) -> str:
        """Why they cannot be added up, as a clause; empty where they can."""
        return fault_of(self.rewards)

    @property
    def rewards_words(self) -> str:
        """What is added up."""
        return in_words(self.rewards)


Keys = dict[str, Any]


class RLHFSection(Section):
    sft: Keys = Field(
        default_factory=dict, description="Keys of the step SFT, as in {train: {epochs: 1}}."
    )
    reward: Keys = Field(default_factory=dict, description="Keys of the reward model's step.")
    ppo: Keys = Field(default_factory=dict, description="Keys of the steps of PPO.")
    dpo: Keys = Field(default_factory=dict, description="Keys of the steps of DPO.")
    ppo_betas: list[Annotated[float, Field(ge=TINY, le=1000)]] = Field(
        [0.1],
        max_length=100,
        description="PPO is run once with each: a point on its frontier.",
        json_schema_extra=COMMON,
    )
    dpo_betas: list[Annotated[float, Field(ge=TINY, le=1000)]] = Field(
        [0.1],
        max_length=100,
        description="DPO is run once with each: a point on its frontier.",
        json_schema_extra=COMMON,
    )
    seeds: list[Annotated[int, Field(ge=0, le=MAX_SEED)]] = Field(
        [42],
        min_length=1,
        max_length=100,
        description="All steps are run once with each.",
        json_schema_extra=COMMON,
    )
    answers: int = Field(
        2,
        ge=1,
        le=10_000,
        description="Answers drawn per held-out prompt to measure reward and KL.",
    )
