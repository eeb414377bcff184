"""The recipe: one YAML file that says what a run does.

The models below are the schema. Every key carries the sentence that a user reads about it, so that
the documentation's table (``python -m dpo_lite.recipe``) and any form can be generated from here.
Unknown keys are errors that name the nearest real one; nothing is guessed and nothing is ignored.
Which keys suit which task, the tasks themselves know (dpo_lite.tasks).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from dpo_lite.objectives.losses import LOSSES
from dpo_lite.recipe.data_section import DataSection
from dpo_lite.recipe.judge_section import JudgeSection
from dpo_lite.recipe.kinds import impossible
from dpo_lite.recipe.one_of import OneOf
from dpo_lite.recipe.sections import (
    FRESH,
    AdapterSection,
    EvalSection,
    HubSection,
    ModelSection,
    RunSection,
    Section,
)
from dpo_lite.recipe.task_sections import PPOSection, RLHFSection
from dpo_lite.recipe.train_section import TrainSection
from dpo_lite.tasks import TASKS, Task, sections_of_tasks


class Recipe(Section):
    """A validated recipe; ``load_recipe`` makes it from a file and overrides."""

    task: Annotated[str, OneOf(TASKS)] = Field(
        "dpo",
        description="What is trained: "
        + "; ".join(f"`{task.name}`, {task.description}" for task in TASKS.values())
        + ".",
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
    judge: JudgeSection = Field(default_factory=JudgeSection)
    hub: HubSection = Field(default_factory=HubSection)

    @property
    def objective(self) -> str:
        """What is trained, in words."""
        return TASKS[self.task].objective(self)

    @property
    def examples_per_step(self) -> int:
        """What a step of the optimiser learns from: an update's examples, of PPO a minibatch's
        answers."""
        return TASKS[self.task].examples_per_step(self)

    @property
    def starts_apart(self) -> bool:
        """Whether the policy differs from its reference before the first update."""
        return self.reference == "base" and self.model.adapter is not None

    @model_validator(mode="before")
    @classmethod
    def plain_values(cls, values: Any) -> Any:
        """Nothing is looked at further that no file could hold."""
        if fault := impossible(values):
            raise ValueError(fault)
        return values

    @model_validator(mode="after")
    def settle(self) -> Recipe:
        task = TASKS[self.task]
        self._settle_pairs(task)
        task.settle(self)
        if self.reference is None:
            self.reference = "start" if self.model.adapter else "base"
        if self.reference == "start" and not self.model.adapter:
            raise ValueError("reference: start needs model.adapter, the adapter to start from")
        parts = [*self.data.sources, *(self.data.held_out or [])]
        if any(part.format.startswith("raw") for part in parts):
            raise ValueError("raw skips the chat template for all sources: set data.format: raw")
        if self.hub.push and not self.hub.repo:
            raise ValueError("hub.push needs hub.repo, the user/name to publish to")
        if self.run.report_adapter and not set(self.run.report_to) - {"tensorboard"}:
            raise ValueError(
                "run.report_adapter needs a tracker in run.report_to that takes files: wandb,"
                " trackio, mlflow or swanlab"
            )
        if self.adapter.extra_r and not self.model.adapter:
            raise ValueError("adapter.extra_r needs model.adapter; for a fresh one set adapter.r")
        self._settle_adapter()
        if self.data.pairs == "keep" and not LOSSES[self.train.loss].listwise:
            listwise = " or ".join(name for name, loss in LOSSES.items() if loss.listwise)
            raise ValueError(f"data.pairs: keep needs train.loss: {listwise}")
        if self.train.centering is not None and not task.head:
            heads = " or ".join(name for name, other in TASKS.items() if other.head)
            raise ValueError(f"train.centering is for task: {heads}")
        weights = [self.train.desirable_weight, self.train.undesirable_weight]
        if weights != [None, None] and not task.weighs_labels:
            raise ValueError(
                "train.desirable_weight and train.undesirable_weight are for task: "
                + " or ".join(name for name, other in TASKS.items() if other.weighs_labels)
            )
        self._refuse_sections(task)
        self._check_steps()
        if not task.composed:  # whose steps settle it, each by its own task
            self._settle_keeping(task)
        if self.train.engine not in task.engines:
            raise ValueError(f"train.engine: trl runs DPO only; use dpo_lite for task: {self.task}")
        return self

    def _settle_adapter(self) -> None:
        adapter, plain = self.adapter, AdapterSection()
        own = [key for key in FRESH if getattr(adapter, key) != getattr(plain, key)]
        if self.model.adapter and own:
            raise ValueError(
                f"adapter.{own[0]} is for a fresh adapter, and model.adapter is as it was made;"
                f" leave adapter.{own[0]} out"
            )
        if adapter.kind == "dora" and adapter.init != "default":
            raise ValueError(f"adapter.init: {adapter.init} needs adapter.kind: lora")
        for key in ("kind", "init"):
            if adapter.experts and key in own:
                value = getattr(adapter, key)
                raise ValueError(
                    f"adapter.{key}: {value} is for linear layers; set adapter.experts: false"
                )

    def _settle_keeping(self, task: Task) -> None:
        """What an evaluation while training decides must be measured there."""
        train = self.train
        if train.keep == "last":
            for key in ("keep_by", "patience"):
                if getattr(train, key) is not None:
                    raise ValueError(f"train.{key} goes with train.keep: best")
        elif train.keep_by is None:
            train.keep_by = task.kept_by[0]
        elif train.keep_by not in task.kept_by:
            raise ValueError(
                f"train.keep_by: {train.keep_by} is not measured by task: {task.name}; take"
                f" {' or '.join(task.kept_by)}"
            )
        if train.kl_budget is not None and not task.answers:
            raise ValueError(f"train.kl_budget is of a policy, and task: {task.name} trains none")
        if train.looks and train.eval_steps is None:
            why = "kl_budget" if train.keep == "last" else "keep: best"
            raise ValueError(
                f"train.{why} looks at the held-out data while training: set train.eval_steps,"
                " after how many updates, such as 20"
            )

    def _settle_pairs(self, task: Task) -> None:
        """What of the data a task takes; the default of all is another than that of some."""
        if self.data.pairs == DataSection.model_fields["pairs"].default:
            self.data.pairs = task.pairs[0]
        if self.data.pairs not in task.pairs:
            plain = (other for other in TASKS.values() if not other.composed)
            owners = [other.name for other in plain if self.data.pairs in other.pairs]
            raise ValueError(
                f"data.pairs: {self.data.pairs} is for task: {' or '.join(owners)}; task:"
                f" {task.name} takes {' or '.join(task.pairs)}"
            )

    def _check_steps(self) -> None:
        """The steps of RLHF are validated when they are made, from sections that can be merged."""
        sections = [name for name, own in self if isinstance(own, Section)]
        for kind, own in self.rlhf:
            for name, value in own.items() if isinstance(own, dict) else ():
                if name in sections and not isinstance(value, dict):
                    raise ValueError(f"rlhf.{kind}: {name} must be a section with keys of its own")

    def _refuse_sections(self, task: Task) -> None:
        """A section of another task must not stand there and do nothing."""
        for section, owners in sections_of_tasks().items():
            own = getattr(self, section)
            if section not in task.sections and own != type(own)():
                raise ValueError(f"the section {section} is for task: {owners[0]}")
