"""The reward model: the same rows as DPO's and the same loss, only the score is another.

Bradley and Terry's model says p(y_w preferred to y_l) = sigma(r(x, y_w) - r(x, y_l)), where r is a
linear head on the last token's hidden state (DPO, arXiv:2305.18290, Eq. 1 and 2; InstructGPT,
arXiv:2203.02155, Eq. 1). Where the data say by how much a response is better, in a column
``margin``, the loss asks for that much: Llama 2, arXiv:2307.09288, Eq. 2.

Only differences are learned, so r + f(x) is as good as r. A small penalty keeps the rewards around
zero while they are trained (Eisenstein et al. 2023, arXiv:2312.09244), and the mean that
is left over the training data is subtracted afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from rich.console import Console

from dpo_lite.data.packing import Encoded
from dpo_lite.data.prepare import PreparedData
from dpo_lite.errors import UserError
from dpo_lite.model import heads, roles
from dpo_lite.model.scoring import Way, lay_out, micro_batches, response_scores, scoring_context
from dpo_lite.objectives.calibration import reliability
from dpo_lite.objectives.preference import centering_penalties, preference_losses
from dpo_lite.rates import COUNTS
from dpo_lite.recipe import Recipe
from dpo_lite.runs.folder import Run
from dpo_lite.runs.progress import open_bars
from dpo_lite.training import ranks
from dpo_lite.training.comparing import (
    accuracy_counts,
    check_responses,
    ends_of,
    reward_metrics,
)
from dpo_lite.training.method import Loaded, Objective
from dpo_lite.training.offline import Offline

MEAN_OVER = 2000  # examples that the mean reward is taken over


def check_margins(name: str, rows: Dataset) -> None:
    """Raise UserError where a row's margin is no lead of its chosen response.

    A negative one says that the rejected response is better, and one that is no number says nothing
    that the loss could ask for. Nothing is guessed, and other tasks do not read the column.
    """
    for margin, row in zip(rows["margin"], rows["row"], strict=True):
        if margin is not None and not margin >= 0:
            wrong = "no number" if math.isnan(margin) else f"negative ({margin:g})"
            raise UserError(
                f"{name}: the margin of row {row} is {wrong}; it is by how much the chosen response"
                " is better. Leave such rows out with data.where={margin: '>= 0'}, or rename the"
                " column if it means something else."
            )


@dataclass
class Compared:
    """Of each example (E,), on the CPU: its loss and the rewards of its best and worst response."""

    losses: torch.Tensor  # of the preference alone, without the penalty
    rewards_first: torch.Tensor
    rewards_last: torch.Tensor
    order: list[int] = field(default_factory=list)  # places of the examples in the input

    @property
    def loss(self) -> float:
        return self.losses.mean().item()

    def metrics(self) -> dict[str, float]:
        return {"loss": self.loss} | reward_metrics(self.rewards_first, self.rewards_last)

    def calibration(self) -> dict[str, Any]:
        """Whether it was right as often as it was sure; of best and worst response."""
        return reliability((self.rewards_first - self.rewards_last).tolist())


def score_comparisons(
    model: torch.nn.Module,
    examples: Sequence[Encoded],
    way: Way,
    dtype: torch.dtype,
    *,
    loss: str = "sigmoid",
    label_smoothing: float = 0.0,
    centering: float = 0.0,
    backward_over: float | None = None,
) -> Compared:
    """Score one micro-batch; with ``backward_over`` = n examples also backward of the sum / n."""
    batch = lay_out(examples, way).to(model.device)
    first, last = ends_of(batch.group_sizes)
    with scoring_context(model, batch, dtype), roles.policy(model):
        scores = response_scores(model, batch)
        wanted = scores
        if any(example.get("margin") for example in examples):  # the chosen one is to win by it
            margins = [example.get("margin") or 0.0 for example in examples]
            wanted = scores.clone()
            wanted[first] = scores[first] - torch.tensor(margins, device=scores.device)
        losses = preference_losses(
            loss, wanted, batch.response_lengths, batch.group_sizes, 1.0, label_smoothing
        )
        if backward_over is not None:
            penalties = centering_penalties(scores, batch.group_sizes)
            ((losses + centering * penalties).sum() / backward_over).backward()
    rewards = scores.detach().cpu()
    return Compared(losses.detach().cpu(), rewards[first], rewards[last])


@torch.no_grad()
def rewards_of(
    model: torch.nn.Module,
    examples: Sequence[Encoded],
    way: Way,
    dtype: torch.dtype,
    budget: int,
    progress: Callable[[int], None] = lambda count: None,
    role: Callable = roles.policy,
) -> list[list[float]]:
    """The head's score of every response of every example, in their order.

    ``role``: roles.policy where the reward model is what is trained, roles.reward where it stands
    beside a policy. Call it with the model in eval mode.
    """
    rewards: list[list[float]] = [[] for _ in examples]
    for places in micro_batches(examples, way, budget):
        batch = lay_out([examples[place] for place in places], way).to(model.device)
        with scoring_context(model, batch, dtype), role(model):
            scores = response_scores(model, batch).cpu()
        for place, values in zip(places, scores.split(batch.group_sizes), strict=True):
            rewards[place] = values.tolist()
        progress(len(places))
    return rewards


def mean_reward(
    model: torch.nn.Module,
    train: Dataset,
    way: Way,
    dtype: torch.dtype,
    budget: int,
    seed: int,
    progress: Callable[[int], None] = lambda count: None,
) -> tuple[float, int]:
    """Mean reward of all responses of the training data, and their number.

    Of more than MEAN_OVER examples so many are drawn by the seed: a mean needs no more.
    """
    places = np.random.default_rng(seed).permutation(len(train))[:MEAN_OVER]
    was_training = model.training
    model.eval()
    try:
        rows = rewards_of(model, train.select(places).to_list(), way, dtype, budget, progress)
    finally:
        model.train(was_training)
    rewards = [reward for row in rows for reward in row]
    return sum(rewards) / len(rewards), len(rewards)


class RewardModel(Offline):
    def check_data(self, recipe: Recipe, data: PreparedData) -> None:
        check_responses(recipe, data)
        for name, rows in {"data.train": data.train, **data.evals}.items():
            check_margins(name, rows)

    def score(
        self,
        model: torch.nn.Module,
        examples: Sequence[Encoded],
        objective: Objective,
        references: Any = None,
        backward_over: float | None = None,
    ) -> Compared:
        return score_comparisons(
            model,
            examples,
            objective.way,
            objective.dtype,
            loss=objective.loss,
            label_smoothing=objective.label_smoothing,
            centering=objective.centering,
            backward_over=backward_over,
        )

    def reference_name(self, recipe: Recipe, model: PeftModel) -> str:
        return "none"

    def before(self, recipe: Recipe, model: PeftModel, loss: float) -> tuple[str, str]:
        fresh = heads.head_is_zero(model)
        at_zero = "all rewards 0" if fresh else "it goes on with a trained head"
        return "none: rewards are a head's own numbers", f"loss {loss:.4f}, {at_zero}"

    def measured_beside(
        self,
        model: torch.nn.Module,
        rows: Sequence[Encoded],
        objective: Objective,
        budget: int,
        outcome: Compared,
    ) -> dict[str, Any]:
        accuracy = accuracy_counts(outcome.rewards_first, outcome.rewards_last)
        return {
            "calibration": outcome.calibration(),
            COUNTS: {"rewards/accuracies": accuracy},
        }

    def finish(
        self, run: Run, loaded: Loaded, objective: Objective, budget: int, console: Console
    ) -> dict[str, Any]:
        """Write the mean reward of the training data beside the adapter, for centred rewards."""
        train, seed = loaded.data.train, loaded.recipe.train.seed
        with open_bars(console) as bar:
            mean, responses = mean_reward(
                loaded.model,
                train,
                objective.way,
                objective.dtype,
                budget,
                seed,
                bar("mean reward", min(len(train), MEAN_OVER)),
            )
        if ranks.first():
            heads.write_mean(run.adapter, mean, responses)
        return {"mean_reward": {"mean": mean, "responses": responses}}
