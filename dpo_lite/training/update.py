"""One update's gradient: exact, whatever the split into micro-batches.

The loss is the sum over the update's examples divided by their number. Each micro-batch adds its
share to the gradient, so how examples are split and packed changes nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import torch

from dpo_lite.data.packing import Encoded
from dpo_lite.model import roles
from dpo_lite.model.scoring import Way, lay_out, micro_batches, response_logps, scoring_context
from dpo_lite.objectives.preference import PER_TOKEN, implicit_rewards, preference_losses, sft_loss
from dpo_lite.training.reward_model import Compared, reward_metrics, score_comparisons
from dpo_lite.training.sft import Demonstrated, response_tokens, score_demonstrations

if TYPE_CHECKING:
    from dpo_lite.recipe import Recipe
    from dpo_lite.training.reference_cache import ReferenceCache


@dataclass
class Outcome:
    """What the scored examples say, each tensor per example (E,), on the CPU.

    ``first`` and ``last`` are the best and the worst response: chosen and rejected for pairs.
    """

    losses: torch.Tensor  # of the preference alone, without the SFT term
    policy_first: torch.Tensor
    policy_last: torch.Tensor
    reference_first: torch.Tensor
    reference_last: torch.Tensor
    rewards_first: torch.Tensor  # implicit, as the loss has them: per token for sigmoid_norm
    rewards_last: torch.Tensor
    order: list[int] = field(default_factory=list)  # places of the examples in the input

    @property
    def loss(self) -> float:
        return self.losses.mean().item()

    def metrics(self) -> dict[str, float]:
        """TRL's metric names."""
        return {
            "loss": self.loss,
            **reward_metrics(self.rewards_first, self.rewards_last),
            "logps/chosen": self.policy_first.mean().item(),
            "logps/rejected": self.policy_last.mean().item(),
        }


Scored = Outcome | Demonstrated | Compared


def joined(parts: Sequence[Scored]) -> Scored:
    """Put micro-batches together, examples back in the order of the input."""
    order = [index for part in parts for index in part.order]
    back = torch.tensor(sorted(range(len(order)), key=order.__getitem__))
    kind = type(parts[0])
    names = [f.name for f in fields(kind) if f.name != "order"]
    values = {name: torch.cat([getattr(p, name) for p in parts])[back] for name in names}
    return kind(**values, order=sorted(order))


@dataclass(frozen=True)
class Objective:
    loss: str
    beta: float
    way: Way
    dtype: torch.dtype = torch.float32  # autocast's on a GPU
    sft_weight: float = 0.0
    label_smoothing: float = 0.0
    task: str = "dpo"
    centering: float = 0.0

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
        )


def update_gradient(
    model: torch.nn.Module,
    examples: Sequence[Encoded],
    objective: Objective,
    budget: int,
    references: ReferenceCache | None = None,
) -> Scored:
    """Add the gradient of the mean loss over ``examples`` to the policy's parameters.

    ``budget`` is the number of tokens per micro-batch. Gradients must be zero or None before.
    What ``references`` remembers is not computed again.
    """
    parts = []
    over = response_tokens(examples) if objective.task == "sft" else len(examples)
    for indices in micro_batches(examples, objective.way, budget):
        batch_examples = [examples[i] for i in indices]
        part = score(model, batch_examples, objective, references, backward_over=over)
        part.order = indices
        parts.append(part)
    return joined(parts)


@torch.no_grad()
def evaluate_examples(
    model: torch.nn.Module,
    examples: Sequence[Encoded],
    objective: Objective,
    budget: int,
    progress=lambda count: None,
    references: ReferenceCache | None = None,
) -> Scored:
    """Score examples without gradients; calls ``progress(number of examples)`` as it goes."""
    was_training = model.training
    model.eval()
    try:
        parts = []
        for indices in micro_batches(examples, objective.way, budget):
            part = score(model, [examples[i] for i in indices], objective, references)
            part.order = indices
            parts.append(part)
            progress(len(indices))
        return joined(parts)
    finally:
        model.train(was_training)


def score(
    model: torch.nn.Module,
    examples: Sequence[Encoded],
    objective: Objective,
    references: ReferenceCache | None = None,
    backward_over: int | None = None,
) -> Scored:
    """Score one micro-batch; with ``backward_over`` = n also backward of the summed loss / n.

    The backward pass belongs in here: the forest must stay in place until it is over.
    """
    if objective.task == "sft":
        return score_demonstrations(model, examples, objective.way, objective.dtype, backward_over)
    if objective.task == "reward":
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
    device = model.device
    batch = lay_out(examples, objective.way).to(device)
    ends = torch.tensor(batch.group_sizes).cumsum(0)
    last, first = ends - 1, ends - torch.tensor(batch.group_sizes)

    def reference_logps() -> torch.Tensor:
        with torch.no_grad(), roles.reference(model):
            return response_logps(model, batch, objective.way)

    with scoring_context(model, batch, objective.dtype):
        if references is None:
            reference = reference_logps()
        else:
            reference = references.logps(examples, reference_logps).to(device)
        with roles.policy(model):
            policy = response_logps(model, batch, objective.way)
            per_token = batch.response_lengths if objective.loss in PER_TOKEN else None
            rewards = implicit_rewards(policy, reference, objective.beta, per_token)
            losses = preference_losses(
                objective.loss,
                rewards,
                batch.response_lengths,
                batch.group_sizes,
                objective.beta,
                objective.label_smoothing,
            )
            total = losses
            if objective.sft_weight:
                chosen = sft_loss(policy[first], batch.response_lengths[first])
                total = losses + objective.sft_weight * chosen
            if backward_over is not None:
                (total.sum() / backward_over).backward()
    scored = (policy.detach().cpu(), reference.cpu(), rewards.detach().cpu())
    ends_of_all = [values[place] for values in scored for place in (first, last)]
    return Outcome(losses.detach().cpu(), *ends_of_all)
