"""How a task is trained: all of it that needs torch. Its words and its data are in dpo_lite.tasks.

``Method`` is what the flow of a run asks, from loading the roles to the last evaluation; its own
answers are those of a task without anything special. ``Objective`` says what one update minimises.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import PeftModel
from rich.console import Console

from dpo_lite.data.lengths import Lengths
from dpo_lite.data.packing import Encoded
from dpo_lite.data.prepare import PreparedData
from dpo_lite.memory.plan import MemoryPlan
from dpo_lite.memory.trial import Trial
from dpo_lite.model import roles
from dpo_lite.model.adapter_files import WEIGHTS
from dpo_lite.model.base import load_base
from dpo_lite.model.own_start import FACTORS_FILE
from dpo_lite.model.scoring import Way
from dpo_lite.recipe import Recipe
from dpo_lite.runs.checkpoints import STATE
from dpo_lite.runs.folder import Run
from dpo_lite.tasks import TASKS

Sets = Mapping[str, Sequence[dict[str, Any]]]  # held-out sets: name -> examples
# How a policy stands to its reference that goes on from an adapter and is held to the bare base.
STARTS_APART = (
    "policy starts apart from the reference (reference: base), so what its adapter learned before "
    "this run counts as moved too"
)


@dataclass(frozen=True)
class Loaded:
    """What a run needs, in memory."""

    recipe: Recipe
    tokenizer: Any
    data: PreparedData
    model: PeftModel


@dataclass(frozen=True)
class Objective:
    """What an update minimises, and in which way and precision its rows are scored."""

    loss: str
    beta: float
    way: Way
    dtype: torch.dtype = torch.float32  # autocast's on a GPU
    sft_weight: float = 0.0
    label_smoothing: float = 0.0
    task: str = "dpo"
    centering: float = 0.0
    desirable_weight: float = 1.0  # of a good answer's loss, and of a bad one's (KTO)
    undesirable_weight: float = 1.0
    ld_alpha: float | None = None  # what tokens behind the shorter answer's length count for
    dynamic_beta: float = 0.0  # how much beta follows an update's pairs; 0: not at all
    mean_margin: float = (
        0.0  # the moving mean of earlier updates' margins, which it is held against
    )
    anchor: float = 0.0  # what all rewards of an update are held against, in nats (``over_all``)
    options: Mapping[str, float] = field(
        default_factory=dict
    )  # of the loss alone, see Loss.options

    @staticmethod
    def of(recipe: Recipe, way: Way, dtype: torch.dtype) -> Objective:
        """What a recipe asks for."""
        train = recipe.train
        return Objective(
            train.loss,
            train.beta,
            way,
            dtype,
            train.sft_weight,
            train.label_smoothing,
            recipe.task,
            train.centering or 0.0,
            _weight(train.desirable_weight),
            _weight(train.undesirable_weight),
            ld_alpha=train.ld_alpha,
            dynamic_beta=train.dynamic_beta or 0.0,
            options=train.loss_options,
        )

    @property
    def method(self) -> Method:
        return TASKS[self.task].mechanics


def _weight(value: float | str | None) -> float:
    """As it stands in a recipe: none is 1, and so is one that was never held against data."""
    return value if isinstance(value, (int, float)) else 1.0


class Scored(Protocol):
    """A dataclass of tensors per example, (E,) each on the CPU, with what they come to."""

    order: list[int]  # places of the examples in the input

    @property
    def loss(self) -> float: ...

    def metrics(self) -> dict[str, float]: ...


class Rehearsal(Protocol):
    """What a preflight tried besides a gradient, in words for its lines."""

    words: str


class Method:
    """The defaults: a policy that is scored on the data's examples, one update after the other."""

    # --- the model and the data ------------------------------------------------------------------

    def load(self, recipe: Recipe) -> PeftModel:
        """The base with the policy's adapter, and the start adapter where it is the reference."""
        base, section = load_base(recipe.model), recipe.model
        head, seed = TASKS[recipe.task].head, recipe.train.seed
        if section.adapter is None:
            return roles.add_policy(base, recipe.adapter, seed, head)
        return roles.continue_policy(
            base,
            section.adapter,
            recipe.reference,
            section.base,
            recipe.adapter.extra_r,
            seed,
            head,
        )

    def compares(self, recipe: Recipe) -> bool:
        """Whether there is a reference that scores too."""
        return False

    def caches_reference(self, recipe: Recipe) -> bool:
        """Whether the reference's log-probabilities of the data are needed again and again."""
        return self.compares(recipe)

    def check_data(self, recipe: Recipe, data: PreparedData) -> None:
        """Raise UserError where this task cannot learn from the data."""

    def expected(self, recipe: Recipe, data: PreparedData) -> tuple[list[dict[str, Any]], Lengths]:
        """The first training examples and all lengths, as they will be scored."""
        return data.few, data.lengths

    def answered(self, recipe: Recipe, examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Training examples as they will be scored."""
        return examples

    def assumed(self, recipe: Recipe, length: int) -> list[Encoded]:
        """An example whose prompt and longest response have ``length`` tokens, half of them each,
        for data that cannot be had."""
        half = length // 2
        return [{"prompt_ids": [0] * half, "response_ids": [[0] * (length - half)] * 2}]

    # --- an update -------------------------------------------------------------------------------

    def over(self, examples: Sequence[Encoded]) -> int:
        """What the summed loss of an update is divided by."""
        return len(examples)

    def over_all(
        self,
        model: torch.nn.Module,
        examples: Sequence[Encoded],
        objective: Objective,
        budget: int,
        references: Any = None,
    ) -> Objective:
        """The objective with what must be known of all examples of an update before any is scored.

        ``budget``: tokens per micro-batch. No gradient goes through it.
        """
        return objective

    def score(
        self,
        model: torch.nn.Module,
        examples: Sequence[Encoded],
        objective: Objective,
        references: Any = None,
        backward_over: float | None = None,
    ) -> Scored:
        """Score one micro-batch; with ``backward_over`` = n also backward of the summed loss / n.

        The backward pass belongs in here: the forest must stay in place until it is over.
        """
        raise NotImplementedError

    def updates(self, recipe: Recipe, examples: int) -> int:
        """How many a run has on so many examples."""
        train = recipe.train
        per_epoch = math.ceil(examples / train.batch_size)
        return train.max_steps or math.ceil(per_epoch * train.epochs)

    # --- the preflight ---------------------------------------------------------------------------

    def measured(self, objective: Objective) -> Objective:
        """What is differentiated to try an update's memory and time."""
        return objective

    def check_start(
        self, recipe: Recipe, objective: Objective, loss: float, examples: Sequence[Encoded]
    ) -> None:
        """Raise UserError where the loss before the first update is not what it must be."""

    def rehearse(
        self,
        loaded: Loaded,
        objective: Objective,
        plan: MemoryPlan,
        trial: Trial,
        longest: int,
        say: Callable[[str], None],
    ) -> tuple[float, Rehearsal] | None:
        """Try what an update does besides a gradient: its seconds, and what it showed."""
        return None

    def reference_name(self, recipe: Recipe, model: PeftModel) -> str:
        """Which reference it is, for the manifest."""
        return roles.reference_name(model)

    def before(self, recipe: Recipe, model: PeftModel, loss: float) -> tuple[str, str]:
        """The reference, and how the policy stands to it before the first update, in words."""
        raise NotImplementedError

    # --- the run ---------------------------------------------------------------------------------

    def keep(self, run: Run, recipe: Recipe) -> None:
        """Copy into the run's folder what its going on depends on."""

    def manifest(self, recipe: Recipe) -> dict[str, Any]:
        """Facts that make this task's runs reproducible, besides those of all."""
        return {}

    def checkpoint_files(self, recipe: Recipe) -> list[str]:
        """Without which of a checkpoint's files a run would not go on as it was."""
        started = [FACTORS_FILE] if recipe.adapter.init != "default" else []
        return [WEIGHTS, *started, "optimizer.pt", "scheduler.pt", "rng_state.pth", STATE]

    def trainer(
        self,
        loaded: Loaded,
        objective: Objective,
        budget: int,
        folder: Path,
        recorder: Any,
        references: Any,
        held_out: Sets,
        rehearsal: Rehearsal | None,
    ) -> Any:
        """What trains: ``train(resume_from_checkpoint)``, ``state`` and ``optimizer`` as
        transformers' Trainer has them. ``folder``: for its checkpoints."""
        raise NotImplementedError

    def evaluate(
        self,
        loaded: Loaded,
        held_out: Sets,
        objective: Objective,
        budget: int,
        references: Any,
        progress: Callable[[int], None],
    ) -> dict[str, dict[str, Any]]:
        """What the trained policy scores on every held-out set, for results.json."""
        raise NotImplementedError

    def finish(
        self, run: Run, loaded: Loaded, objective: Objective, budget: int, console: Console
    ) -> dict[str, Any]:
        """What is measured once at the end, for results.json."""
        return {}

    # --- several cards ---------------------------------------------------------------------------

    undivided = ""  # why it is not trained on weights that are divided over processes

    # --- the plan of a card that is not here -----------------------------------------------------

    passes_beside = 0  # without a gradient, over as many tokens (memory.capacity.passes)
    untimed = ""  # why no time can be told without trying

    def beside(self, recipe: Recipe) -> tuple[int, int]:
        """Adapters beside the policy's own, each as large: trained ones, and frozen ones."""
        return 0, int(self.compares(recipe) and recipe.reference == "start")
