"""The recipe: one YAML file that says what a run does.

The models below are the schema. Every key carries the sentence that a user reads about it, so that
the documentation's table (``python -m dpo_lite.recipe``) and any form can be generated from here.
Unknown keys are errors that name the nearest real one; nothing is guessed and nothing is ignored.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from dpo_lite.recipe.sections import (
    DEMONSTRATIONS,
    PROMPTS,
    AdapterSection,
    DataSection,
    EvalSection,
    HubSection,
    ModelSection,
    PPOSection,
    RLHFSection,
    RunSection,
    Section,
    TrainSection,
)

OF_VALUES = ("value_clip", "value_lr", "gamma", "lam", "whiten_rewards")  # what GAE needs


class Recipe(Section):
    """A validated recipe; ``load_recipe`` makes it from a file and overrides."""

    task: Literal["dpo", "sft", "reward", "ppo", "rlhf"] = Field(
        "dpo",
        description="What is trained: `dpo`, a preference policy; `sft`, the likelihood of"
        " demonstrations, the step before it; `reward`, a reward model; `ppo`, a policy on the"
        " rewards of such a model; `rlhf`, all of them one after the other.",
    )
    reference: Literal["base", "start"] | None = Field(
        None,
        description="What the policy is held to: the `base` with adapters off, or the adapter it"
        " `start`s from; default: `start` where model.adapter is set, else `base`.",
    )
    run: RunSection = Field(default_factory=RunSection)
    model: ModelSection
    adapter: AdapterSection = Field(default_factory=AdapterSection)
    data: DataSection
    train: TrainSection = Field(default_factory=TrainSection)
    ppo: PPOSection = Field(default_factory=PPOSection)
    rlhf: RLHFSection = Field(default_factory=RLHFSection)
    eval: EvalSection = Field(default_factory=EvalSection)
    hub: HubSection = Field(default_factory=HubSection)

    @property
    def objective(self) -> str:
        """What is trained, in words."""
        train = self.train
        if self.task == "sft":
            return "supervised fine-tuning, mean over response tokens"
        if self.task == "reward":
            ranking = "Plackett-Luce" if train.loss == "plackett_luce" else "Bradley-Terry"
            return f"reward model, {ranking}, centering {train.centering:g}"
        if self.task == "rlhf":
            return "SFT, a reward model, PPO on its rewards; DPO from the same SFT"
        if self.task == "ppo":
            held = f"steered to a KL of {self.ppo.kl_target:g}" if self.ppo.kl_target else "fixed"
            return f"{self.ppo.estimator} on {self.ppo.reward}, beta {train.beta:g} {held}"
        return train.objective

    @property
    def examples_per_step(self) -> int:
        """What a step of the optimiser learns from: an update's examples, of PPO a minibatch's
        answers."""
        return self.ppo.minibatch if self.task == "ppo" else self.train.batch_size

    @property
    def starts_apart(self) -> bool:
        """Whether the policy differs from its reference before the first update."""
        return self.reference == "base" and self.model.adapter is not None

    @model_validator(mode="after")
    def settle(self) -> Recipe:
        {
            "dpo": self._settle_dpo,
            "sft": self._settle_sft,
            "reward": self._settle_reward,
            "ppo": self._settle_ppo,
            "rlhf": self._settle_rlhf,
        }[self.task]()
        if self.reference is None:
            self.reference = "start" if self.model.adapter else "base"
        if self.reference == "start" and not self.model.adapter:
            raise ValueError("reference: start needs model.adapter, the adapter to start from")
        parts = [*self.data.sources, *(self.data.held_out or [])]
        if any(part.format.startswith("raw") for part in parts):
            raise ValueError("raw skips the chat template for all sources: set data.format: raw")
        if self.hub.push and not self.hub.repo:
            raise ValueError("hub.push needs hub.repo, the user/name to publish to")
        if self.adapter.extra_r and not self.model.adapter:
            raise ValueError("adapter.extra_r needs model.adapter; for a fresh one set adapter.r")
        if self.data.pairs == "keep" and self.train.loss != "plackett_luce":
            raise ValueError("data.pairs: keep needs train.loss: plackett_luce")
        if self.train.centering is not None and self.task != "reward":
            raise ValueError("train.centering is for task: reward")
        if self.task not in ("ppo", "rlhf") and self.ppo != PPOSection():
            raise ValueError("the section ppo is for task: ppo")
        if self.task != "rlhf" and self.rlhf != RLHFSection():
            raise ValueError("the section rlhf is for task: rlhf")
        if self.train.engine == "trl" and self.task != "dpo":
            raise ValueError(f"train.engine: trl runs DPO only; use dpo_lite for task: {self.task}")
        return self

    def _settle_dpo(self) -> None:
        if self.data.pairs in (*DEMONSTRATIONS, PROMPTS):
            owner = "ppo" if self.data.pairs == PROMPTS else "sft"
            raise ValueError(f"data.pairs: {self.data.pairs} is for task: {owner}")
        train = self.train
        if train.engine == "trl" and train.loss == "plackett_luce":
            raise ValueError("train.engine: trl has no plackett_luce loss; use dpo_lite")
        if train.engine == "trl" and train.sft_weight:
            raise ValueError("train.engine: trl averages its SFT term otherwise; use dpo_lite")
        if train.loss == "robust" and not train.label_smoothing:
            raise ValueError(
                "train.loss: robust needs train.label_smoothing, the share of labels that are the"
                " wrong way round, such as 0.1"
            )
        if train.label_smoothing and train.loss not in ("sigmoid", "robust"):
            raise ValueError("train.label_smoothing goes with train.loss: sigmoid or robust")
        if train.label_smoothing and train.loss == "sigmoid" and train.engine == "trl":
            raise ValueError(
                "train.engine: trl does not smooth the labels of its sigmoid loss; use dpo_lite"
            )

    def _settle_sft(self) -> None:
        """What task: sft takes by itself, and the keys that would do nothing in it."""
        if self.data.pairs == "best_worst":  # the default of another task
            self.data.pairs = "best"
        if self.data.pairs not in DEMONSTRATIONS:
            raise ValueError(f"task: sft compares nothing; set data.pairs: {DEMONSTRATIONS[0]}")
        self._refuse_losses(("sigmoid",), ("sft_weight", "label_smoothing"))

    def _settle_reward(self) -> None:
        if self.data.pairs in (*DEMONSTRATIONS, PROMPTS):
            raise ValueError(f"task: reward compares responses, data.pairs: {self.data.pairs} none")
        self._refuse_losses(("sigmoid", "plackett_luce"), ("sft_weight",))
        if self.train.label_smoothing and self.train.loss != "sigmoid":
            raise ValueError("train.label_smoothing goes with train.loss: sigmoid")
        if self.train.centering is None:
            self.train.centering = 0.01
        if self.eval.sample_steps or self.eval.prompts:
            raise ValueError("task: reward answers nothing; leave eval.prompts and sample_steps")

    def _settle_ppo(self) -> None:
        ppo = self.ppo
        if self.data.pairs == "best_worst":  # the default of another task
            self.data.pairs = PROMPTS
        if self.data.pairs != PROMPTS:
            raise ValueError(f"task: ppo answers by itself; set data.pairs: {PROMPTS}")
        self._refuse_losses(("sigmoid",), ("sft_weight", "label_smoothing"))
        if not ppo.reward:
            raise ValueError("task: ppo needs ppo.reward, a reward run or file.py:function")
        if ppo.answers is None:
            ppo.answers = 4 if ppo.estimator == "rloo" else 1
        if ppo.estimator == "rloo":
            if ppo.answers < 2:
                raise ValueError(
                    "ppo.estimator: rloo compares answers; set ppo.answers to 2 or more"
                )
            changed = [key for key in OF_VALUES if getattr(ppo, key) != getattr(PPOSection(), key)]
            if changed:
                named = ", ".join(f"ppo.{key}" for key in changed)
                raise ValueError(f"ppo.estimator: rloo has no value function; leave {named} away")

    def _settle_rlhf(self) -> None:
        """Each of its steps is a recipe, settled when it is made; here what no step would take."""
        rlhf, plain = self.rlhf, TrainSection()
        places = {
            "train.beta": (self.train.beta != plain.beta, "rlhf.ppo_betas and rlhf.dpo_betas"),
            "train.seed": (self.train.seed != plain.seed, "rlhf.seeds"),
            "adapter.extra_r": (self.adapter.extra_r, "rlhf.sft"),
            "ppo.reward": (self.ppo.reward, "rlhf.reward, whose model it is"),
            "hub.push": (self.hub.push, "`push` of one of its runs"),
        }
        for key, (is_set, place) in places.items():
            if is_set:
                raise ValueError(f"task: rlhf does not take {key}; see {place}")
        for key in ("ppo_betas", "dpo_betas", "seeds"):
            values = getattr(rlhf, key)
            if len(set(values)) < len(values):
                raise ValueError(f"rlhf.{key} has a value twice; name each once")

    def _refuse_losses(self, losses: tuple[str, ...], others: tuple[str, ...]) -> None:
        """Keys of another task's loss must not stand there and do nothing."""
        train = self.train
        wrong = ["loss"] * (train.loss not in losses) + [
            key for key in others if getattr(train, key)
        ]
        if wrong:
            named = ", ".join(f"train.{key}" for key in wrong)
            raise ValueError(f"task: {self.task} has a loss of its own; leave {named} away")
