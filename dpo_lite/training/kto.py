"""KTO: answers that are good or bad by themselves, by the policy's implicit reward.

Every answer's reward beta * log(pi / pi_ref) is held against one number of the whole update, the
reference point z0 (arXiv:2402.01306, Section 4): the mean of log(pi / pi_ref) over prompts with
the answers to other ones, which stand beside the examples (dpo_lite.data.mismatched). So an update
has two passes: the mismatched pairs without a gradient, then the answers with one. Both go by
micro-batches and processes, and z0 is made of all of their parts, so no split changes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from peft import PeftModel

from dpo_lite.data.packing import Encoded
from dpo_lite.model import roles
from dpo_lite.model.scoring import lay_out, response_logps, scoring_context
from dpo_lite.objectives.preference import implicit_rewards
from dpo_lite.objectives.prospect import kto_at_start, kto_losses, reference_point
from dpo_lite.rates import COUNTS, LOGGED_OF
from dpo_lite.recipe import Recipe
from dpo_lite.training.dpo import check_loss_at_start
from dpo_lite.training.method import STARTS_APART, Objective
from dpo_lite.training.offline import Offline
from dpo_lite.training.update import scored_parts


@dataclass
class Ratios:
    """log pi and log pi_ref of each example's one response, (E,) each, on the CPU."""

    policy: torch.Tensor
    reference: torch.Tensor
    order: list[int] = field(default_factory=list)


@dataclass
class Judged:
    """What the scored examples say, each tensor per example (E,), on the CPU."""

    losses: torch.Tensor  # weighted
    policy: torch.Tensor  # log-probabilities, in nats
    reference: torch.Tensor
    rewards: torch.Tensor
    desirable: torch.Tensor  # of bool
    anchors: torch.Tensor  # z0 in units of the rewards, the same of all
    points: torch.Tensor  # z0 in nats, the same of all
    order: list[int] = field(default_factory=list)  # places of the examples in the input

    @property
    def loss(self) -> float:
        return self.losses.mean().item()

    def metrics(self) -> dict[str, float]:
        """TRL's metric names; what is of good or of bad answers is missing where there are none."""
        counted = self.counts()
        metrics = {"loss": self.loss, "kl": self.points.mean().item()}
        for name, kind in (("chosen", self.desirable), ("rejected", ~self.desirable)):
            if kind.any():
                metrics[f"rewards/{name}"] = self.rewards[kind].mean().item()
                metrics[f"logps/{name}"] = self.policy[kind].mean().item()
        if {"rewards/chosen", "rewards/rejected"} <= metrics.keys():
            margin = metrics["rewards/chosen"] - metrics["rewards/rejected"]
            metrics["rewards/margins"] = margin
        if counted["n"]:
            metrics["rewards/accuracies"] = counted["successes"] / counted["n"]
            metrics[LOGGED_OF["rewards/accuracies"]] = counted["n"]
        return metrics

    def counts(self) -> dict[str, int]:
        """Answers on the right side of z0: good ones above, bad ones below; and those upon it."""
        above = self.rewards - self.anchors
        ties = int((above == 0).sum())
        right = torch.where(self.desirable, above > 0, above < 0)
        return {"successes": int(right.sum()), "n": len(above) - ties, "ties": ties}


class KTO(Offline):
    passes_beside = 1  # the mismatched pairs, on average as long as the answers

    def compares(self, recipe: Recipe) -> bool:
        return True

    def over_all(
        self,
        model: torch.nn.Module,
        examples: Sequence[Encoded],
        objective: Objective,
        budget: int,
        references: Any = None,
    ) -> Objective:
        """With the reference point of these examples."""
        pairs = [mismatched(example) for example in examples]

        def score(some: list[Encoded]) -> Ratios:
            policy, reference = log_probabilities(model, some, objective, references)
            return Ratios(policy, reference)

        with torch.no_grad():
            parts = scored_parts(model, pairs, objective.way, budget, score, references=references)
        if references is not None:
            references.share()  # before an answer that is also somebody's mismatched one is met
        # In the order of the examples, so that the mean is of the same sum however they were split.
        ratios = torch.zeros(len(pairs), dtype=torch.float64)
        for part in parts:
            ratios[part.order] = (part.policy - part.reference).double()
        return replace(objective, anchor=reference_point(ratios).item())

    def score(
        self,
        model: torch.nn.Module,
        examples: Sequence[Encoded],
        objective: Objective,
        references: Any = None,
        backward_over: float | None = None,
    ) -> Judged:
        desirable = torch.tensor([example["desirable"] for example in examples])
        anchor = objective.beta * objective.anchor

        def losses_of(policy: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
            return kto_losses(
                implicit_rewards(policy, reference, objective.beta),
                desirable.to(policy.device),
                anchor,
                objective.desirable_weight,
                objective.undesirable_weight,
            )

        def learn(policy: torch.Tensor, reference: torch.Tensor) -> None:
            if backward_over is not None:
                (losses_of(policy, reference).sum() / backward_over).backward()

        policy, reference = log_probabilities(model, examples, objective, references, learn)
        return Judged(
            losses_of(policy, reference),
            policy,
            reference,
            implicit_rewards(policy, reference, objective.beta),
            desirable,
            torch.full((len(examples),), anchor),
            torch.full((len(examples),), objective.anchor),
        )

    def check_start(
        self, recipe: Recipe, objective: Objective, loss: float, examples: Sequence[Encoded]
    ) -> None:
        """Policy and reference are equal, so all rewards and z0 are 0 and the loss is known."""
        if recipe.starts_apart:
            return
        desirable = torch.tensor([example["desirable"] for example in examples])
        weights = objective.desirable_weight, objective.undesirable_weight
        check_loss_at_start(loss, kto_at_start(desirable, *weights), objective.dtype)

    def before(self, recipe: Recipe, model: PeftModel, loss: float) -> tuple[str, str]:
        reference = roles.reference_name(model)
        if recipe.starts_apart:
            return reference, STARTS_APART
        return reference, f"loss {loss:.4f}, all rewards and z0 are 0: policy equals reference"

    def measured_beside(
        self,
        model: torch.nn.Module,
        rows: Sequence[Encoded],
        objective: Objective,
        budget: int,
        outcome: Judged,
    ) -> dict[str, Any]:
        return {COUNTS: {"rewards/accuracies": outcome.counts()}}


def mismatched(example: Encoded) -> Encoded:
    """The example's prompt with the answer to another one."""
    return {"prompt_ids": example["prompt_ids"], "response_ids": [example["mismatched_ids"]]}


def log_probabilities(
    model: torch.nn.Module,
    examples: Sequence[Encoded],
    objective: Objective,
    references: Any = None,
    learn: Any = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """log pi and log pi_ref of one micro-batch's responses, one of each example: (E,) each, on the
    CPU and without a gradient.

    ``learn`` is called with both while the batch is still laid out: where a backward pass belongs.
    """
    batch = lay_out(examples, objective.way).to(model.device)

    def reference_logps() -> torch.Tensor:
        with torch.no_grad(), roles.reference(model):
            return response_logps(model, batch, objective.way)

    with scoring_context(model, batch, objective.dtype):
        if references is None:
            reference = reference_logps()
        else:
            reference = references.logps(examples, reference_logps).to(model.device)
        with roles.policy(model):
            policy = response_logps(model, batch, objective.way)
            if learn is not None:
                learn(policy, reference)
    return policy.detach().cpu(), reference.cpu()
