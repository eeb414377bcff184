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
    AdapterSection,
    DataSection,
    EvalSection,
    HubSection,
    ModelSection,
    RunSection,
    Section,
    TrainSection,
)


class Recipe(Section):
    """A validated recipe; ``load_recipe`` makes it from a file and overrides."""

    task: Literal["dpo", "sft"] = Field(
        "dpo",
        description="What is trained: `dpo`, a preference policy; `sft`, the likelihood of"
        " demonstrations, the step before it.",
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
    eval: EvalSection = Field(default_factory=EvalSection)
    hub: HubSection = Field(default_factory=HubSection)

    @property
    def objective(self) -> str:
        """What is trained, in words."""
        if self.task == "sft":
            return "supervised fine-tuning, mean over response tokens"
        return self.train.objective

    @model_validator(mode="after")
    def settle(self) -> Recipe:
        if self.task == "sft":
            self._settle_demonstrations()
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
        if self.task == "dpo" and self.data.pairs in DEMONSTRATIONS:
            raise ValueError(f"data.pairs: {self.data.pairs} is for task: sft")
        if self.data.pairs == "keep" and self.train.loss != "plackett_luce":
            raise ValueError("data.pairs: keep needs train.loss: plackett_luce")
        if self.train.engine == "trl" and self.train.loss == "plackett_luce":
            raise ValueError("train.engine: trl has no plackett_luce loss; use dpo_lite")
        if self.train.engine == "trl" and self.train.sft_weight:
            raise ValueError("train.engine: trl averages its SFT term otherwise; use dpo_lite")
        self._check_smoothing()
        return self

    def _check_smoothing(self) -> None:
        train = self.train
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

    def _settle_demonstrations(self) -> None:
        """What task: sft takes by itself, and the keys that would do nothing in it."""
        if self.data.pairs == "best_worst":  # the default of the other task
            self.data.pairs = "best"
        if self.data.pairs not in DEMONSTRATIONS:
            raise ValueError(f"task: sft compares nothing; set data.pairs: {DEMONSTRATIONS[0]}")
        if self.train.engine == "trl":
            raise ValueError("train.engine: trl runs DPO only; use dpo_lite for task: sft")
        train = self.train
        if train.loss != "sigmoid" or train.sft_weight or train.label_smoothing:
            raise ValueError(
                "task: sft has one loss; leave train.loss, train.sft_weight and"
                " train.label_smoothing away"
            )
