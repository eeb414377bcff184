"""DPO and its family: pairs or rankings, scored by the policy's own implicit reward.

The score of a response is beta * (log pi - log pi_ref) (arXiv:2305.18290, Eq. 5), so policy and
reference score the same rows, one after the other, on one base. A loss that compares with no
reference takes beta * log pi.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from dpo_lite.data.packing import Batch, Encoded
from dpo_lite.data.prepare import PreparedData
from dpo_lite.errors import UserError
from dpo_lite.model import roles
from dpo_lite.model.logprobs import sum_by_response
from dpo_lite.model.scoring import (
    lay_out,
    response_logps,
    response_token_logps,
    scoring_context,
)
from dpo_lite.objectives.losses import LOSSES
from dpo_lite.objectives.preference import (
    implicit_rewards,
    loss_at_start,
    moved_beta,
    preference_losses,
    sft_loss,
    shared_weights,
)
from dpo_lite.rates import COUNTS
from dpo_lite.recipe import Recipe
from dpo_lite.training.comparing import (
    accuracy_counts,
    check_responses,
    ends_of,
    reward_metrics,
    share_counts,
)
from dpo_lite.training.method import STARTS_APART, Loaded, Objective, Rehearsal, Sets
from dpo_lite.training.most_wrong import most_wrong
from dpo_lite.training.offline import Offline
from dpo_lite.training.trainer import MOVING_FILE
from dpo_lite.training.update import joined, scored_parts

# Policy and reference run the same kernels on the same weights; what is left is rounding.
IDENTITY_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-3, torch.float16: 2e-4}


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
    betas: torch.Tensor  # of the update, the same for all
    order: list[int] = field(default_factory=list)  # places of the examples in the input

    def margin(self, beta: float) -> float:
        """The mean margin of rewards, had they been those of ``beta``: in fp64, so that what is
        kept of it hangs on the examples' order alone."""
        return (beta / self.betas * (self.rewards_first - self.rewards_last)).double().mean().item()

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

    def likelier(self) -> dict[str, torch.Tensor]:
        """Whether each example's first response is likelier than the last (E,), by role."""
        return {
            "reference": self.reference_first > self.reference_last,
            "policy": self.policy_first > self.policy_last,
        }


class DPO(Offline):
    def compares(self, recipe: Recipe) -> bool:
        return not LOSSES[recipe.train.loss].reference_free

    def checkpoint_files(self, recipe: Recipe) -> list[str]:
        moves = [MOVING_FILE] if recipe.train.dynamic_beta else []
        return [*super().checkpoint_files(recipe), *moves]

    def check_data(self, recipe: Recipe, data: PreparedData) -> None:
        check_responses(recipe, data)

    def over_all(
        self,
        model: torch.nn.Module,
        examples: Sequence[Encoded],
        objective: Objective,
        budget: int,
        references: Any = None,
    ) -> Objective:
        """With the beta that these examples move it to; where nothing is learned it stays."""
        if not objective.dynamic_beta or not torch.is_grad_enabled():
            return objective
        with torch.no_grad():
            parts = scored_parts(
                model,
                examples,
                objective.way,
                budget,
                lambda some: self.score(model, some, objective, references),
                references=references,
            )
        if references is not None:
            references.share()
        margin = joined(parts).margin(objective.beta)
        beta = moved_beta(objective.beta, objective.dynamic_beta, margin, objective.mean_margin)
        return replace(objective, beta=beta)

    def most_wrong(self, rows: Sequence[Encoded], outcome: Any, tokenizer: Any) -> Any:
        margins = outcome.rewards_first - outcome.rewards_last

        def decode(ids: Sequence[int]) -> str:
            return tokenizer.decode(ids, skip_special_tokens=True)

        return most_wrong(rows, margins, decode)

    def score(
        self,
        model: torch.nn.Module,
        examples: Sequence[Encoded],
        objective: Objective,
        references: Any = None,
        backward_over: float | None = None,
    ) -> Outcome:
        loss, device = LOSSES[objective.loss], model.device
        batch = lay_out(examples, objective.way).to(device)
        first, last = ends_of(batch.group_sizes)

        with scoring_context(model, batch, objective.dtype):
            if loss.reference_free:
                reference = compared = torch.zeros(sum(batch.group_sizes), device=device)
            else:
                reference, compared = reference_logps(model, examples, batch, objective, references)
            with roles.policy(model):
                policy, weighed = own_logps(model, batch, objective)
                per_token = batch.response_lengths if loss.per_token else None
                rewards = implicit_rewards(weighed, compared, objective.beta, per_token)
                losses = preference_losses(
                    objective.loss,
                    rewards,
                    batch.response_lengths,
                    batch.group_sizes,
                    objective.beta,
                    objective.label_smoothing,
                    objective.options,
                )
                total = losses
                if objective.sft_weight:
                    chosen = sft_loss(policy[first], batch.response_lengths[first])
                    total = losses + objective.sft_weight * chosen
                if backward_over is not None:
                    (total.sum() / backward_over).backward()
        scored = (policy.detach().cpu(), reference.cpu(), rewards.detach().cpu())
        ends_of_all = [values[place] for values in scored for place in (first, last)]
        betas = torch.full((len(losses),), objective.beta, dtype=torch.float64)
        return Outcome(losses.detach().cpu(), *ends_of_all, betas)

    def check_start(
        self, recipe: Recipe, objective: Objective, loss: float, examples: Sequence[Encoded]
    ) -> None:
        if self.compares(recipe) and not recipe.starts_apart:
            check_identity(loss, objective, examples)

    def reference_name(self, recipe: Recipe, model: PeftModel) -> str:
        return super().reference_name(recipe, model) if self.compares(recipe) else "none"

    def before(self, recipe: Recipe, model: PeftModel, loss: float) -> tuple[str, str]:
        if not self.compares(recipe):
            return "none: the loss compares with nothing", f"loss {loss:.4f}"
        reference = roles.reference_name(model)
        if recipe.starts_apart:
            return reference, STARTS_APART
        return reference, f"loss {loss:.4f}, all rewards 0: policy equals reference"

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
        if loaded.recipe.train.engine == "trl":
            from dpo_lite.training.trl_engine import trl_trainer  # TRL takes seconds to import

            return trl_trainer(loaded, objective, budget, folder, recorder, references, held_out)
        return super().trainer(
            loaded, objective, budget, folder, recorder, references, held_out, rehearsal
        )

    def measured_beside(
        self,
        model: torch.nn.Module,
        rows: Sequence[Encoded],
        objective: Objective,
        budget: int,
        outcome: Outcome,
    ) -> dict[str, Any]:
        likelier = outcome.likelier()
        if LOSSES[objective.loss].reference_free:
            del likelier["reference"]  # it was not asked
        counts = {role: share_counts(of) for role, of in likelier.items()}
        accuracy = accuracy_counts(outcome.rewards_first, outcome.rewards_last)
        return {
            "likelihood": {role: of["successes"] / of["n"] for role, of in counts.items()},
            COUNTS: {"rewards/accuracies": accuracy, "likelihood": counts},
        }


def own_logps(
    model: torch.nn.Module, batch: Batch, objective: Objective
) -> tuple[torch.Tensor, torch.Tensor]:
    """log pi of each response under the role that the model wears, and what is compared of it:
    with ld_alpha the tokens behind the shorter answer's length count for less. (R,) each."""
    if objective.ld_alpha is None:
        logps = response_logps(model, batch, objective.way)
        return logps, logps
    tokens = response_token_logps(model, batch, objective.way)
    weights = shared_weights(batch.response, batch.response_lengths, objective.ld_alpha)
    count = sum(batch.group_sizes)
    whole = sum_by_response(tokens, batch.response, count)
    return whole, sum_by_response(tokens * weights, batch.response, count)


def reference_logps(
    model: torch.nn.Module,
    examples: Sequence[Encoded],
    batch: Batch,
    objective: Objective,
    references: Any = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same of the reference, remembered where it can be.

    What is compared with ld_alpha depends on the other answer's length, and what is kept must not:
    so the part that both have is kept as what it is, the log-probability of an answer that ends
    there, h. Of the whole answer's l it is (1 - alpha) h + alpha l.
    """

    def computed() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad(), roles.reference(model):
            return own_logps(model, batch, objective)

    if references is None:
        return computed()
    alpha = objective.ld_alpha
    if alpha is None:
        logps = references.logps(examples, lambda: computed()[0]).to(model.device)
        return logps, logps

    def heads_too() -> torch.Tensor:
        with torch.no_grad(), roles.reference(model):
            whole, heads = own_logps(model, batch, replace(objective, ld_alpha=0.0))
        return torch.stack([whole, heads], 1).flatten()

    known = references.logps([*map(with_heads, examples)], heads_too).to(model.device)
    whole, heads = known.view(-1, 2).unbind(1)
    return whole, (1 - alpha) * heads + alpha * whole


def with_heads(example: Encoded) -> Encoded:
    """Behind each of the two answers its beginning, as long as the shorter one."""
    answers = example["response_ids"]
    shared = min(map(len, answers))
    return {
        "prompt_ids": example["prompt_ids"],
        "response_ids": [ids for answer in answers for ids in (answer, answer[:shared])],
    }


def check_identity(loss: float, objective: Objective, examples: Sequence[Encoded]) -> None:
    """At step 0 policy and reference are equal, so the loss is known. Else the reference is wrong.

    The loss is ln 2 = 0.6931 for DPO whatever the data, since all implicit rewards are zero.
    """
    sizes = [len(example["response_ids"]) for example in examples]
    expected = sum(loss_at_start(objective.loss, k, objective.beta) for k in sizes) / len(sizes)
    check_loss_at_start(loss, expected, objective.dtype)


def check_loss_at_start(loss: float, expected: float, dtype: torch.dtype) -> None:
    """Raise UserError where the loss is not that of a policy which equals its reference."""
    tolerance = IDENTITY_TOLERANCE[dtype] * max(1.0, expected)
    if not abs(loss - expected) <= tolerance:
        raise UserError(
            f"Before the first update the loss is {loss:.6f}, not {expected:.6f}: policy and "
            "reference differ although nothing was trained, so the reference is wrong; check "
            "`reference` and `model.adapter`."
        )
