"""What a rollout teaches: credit for its answers, and steps of the optimiser that follow from it.

    credit    advantages, by GAE over rewards per token, or by comparing the answers to one prompt
    learn     some passes over minibatches: the clipped surrogate, and the value's own loss

Minibatches are split by tokens into packed rows, which changes no gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from dpo_lite.data.packing import Batch
from dpo_lite.errors import UserError
from dpo_lite.model import roles
from dpo_lite.model.logprobs import sum_by_response
from dpo_lite.model.scoring import response_token_logps, scoring_context, token_values
from dpo_lite.objectives.estimators import ESTIMATORS
from dpo_lite.objectives.policy_gradient import (
    clipped_surrogate,
    generalized_advantages,
    group_advantages,
    kl_penalties,
    kl_shaped_rewards,
    leave_one_out,
    token_weights,
    value_losses,
    whitened,
)
from dpo_lite.recipe import PPOSection
from dpo_lite.training import ranks
from dpo_lite.training.loss_scale import LossScale
from dpo_lite.training.method import Objective
from dpo_lite.training.ppo import Rollout, batches_of, pieces
from dpo_lite.training.update import own_share


@dataclass(frozen=True)
class Credit:
    """What the policy and the value function learn from.

    ``advantages``: of each token (A, T), or of whole answers (A,) where they are compared.
    ``returns`` (A, T). ``kl``: what the KL term weighs in the loss; 0 where rewards pay for it.
    """

    advantages: torch.Tensor
    returns: torch.Tensor
    kl: float = 0.0


def credit(rollout: Rollout, ppo: PPOSection, beta: float) -> Credit:
    """Which token, or which whole answer, was better than expected."""
    mask, scores = rollout.mask, rollout.scores(ppo)
    in_loss = beta if ppo.kl_in == "loss" else 0.0
    beta -= in_loss
    if ESTIMATORS[ppo.estimator].compared:
        earned = (scores - beta * rollout.kl).view(-1, ppo.answers)
        if ppo.estimator == "rloo":
            advantages = leave_one_out(earned)
        else:
            advantages = group_advantages(earned, ppo.scale_rewards)
        return Credit(advantages.flatten(), rollout.values, in_loss)
    rewards = kl_shaped_rewards(scores, rollout.policy_logps, rollout.reference_logps, mask, beta)
    if ppo.whiten_rewards:
        rewards = whitened(rewards, mask, shift=False)
    advantages, returns = generalized_advantages(rewards, rollout.values, mask, ppo.gamma, ppo.lam)
    return Credit(whitened(advantages, mask), returns, in_loss)


def minibatch_gradient(
    model: torch.nn.Module,
    rollout: Rollout,
    places: Sequence[int],
    earned: Credit,
    ppo: PPOSection,
    objective: Objective,
    budget: int,
    scale: float = 1.0,
) -> dict[str, float]:
    """Add the gradient of a minibatch (the prompts at ``places``) to policy and value function.

    Losses are means over its tokens, of RLOO over its answers, of GRPO as ``ppo.average`` says.
    Returns metrics. ``scale``: of the gradients, see dpo_lite.training.loss_scale. Processes that
    train together take a share each.
    """
    share = own_share([rollout.examples[place] for place in places], objective.way)
    mine = [places[i] for i in share]
    sums = ranks.gathered(
        ranks.each(
            lambda: _share_of_gradient(
                model, rollout, places, mine, earned, ppo, objective, budget, scale
            )
        )
    )
    trained = (roles.POLICY, roles.VALUE)
    ranks.sum_gradients(p for name in trained for p in roles.parameters(model, name))
    whole = {key: sum(part[key] for part in sums) for key in sums[0]}
    return whole | {"loss": whole["loss/policy"] + whole["loss/value"]}


def _share_of_gradient(
    model: torch.nn.Module,
    rollout: Rollout,
    places: Sequence[int],
    mine: Sequence[int],
    earned: Credit,
    ppo: PPOSection,
    objective: Objective,
    budget: int,
    scale: float,
) -> dict[str, float]:
    """What the prompts at ``mine`` add to the gradient of those at ``places``, and to its sums."""
    model.train()
    way = objective.way
    weights, counted = _weights(rollout, places, ppo)
    tokens = int((weights > 0).sum())
    sums = {"loss/policy": 0.0, "loss/value": 0.0, "clip_fraction": 0.0}
    parts = pieces(rollout.examples, mine, way, budget)
    for batch, rows in batches_of(parts, way, budget):
        batch, mask = batch.to(model.device), rollout.mask[rows]

        def flat(numbers: torch.Tensor, rows=rows, mask=mask) -> torch.Tensor:
            """(A, T), or one number for all of an answer's tokens (A,) -> (N,) of this batch."""
            own = numbers[rows] if numbers.ndim == 2 else numbers[rows][:, None].expand_as(mask)
            return own[mask].to(model.device)

        with scoring_context(model, batch, objective.dtype), roles.policy(model):
            logps, old = response_token_logps(model, batch, way), flat(rollout.policy_logps)
            moved = _log_ratios(logps - old, batch, ppo)
            if ESTIMATORS[ppo.estimator].whole:
                advantages, share = earned.advantages[rows].to(model.device), 1 / counted
            else:
                advantages, share = flat(earned.advantages), flat(weights)
            losses = clipped_surrogate(moved, advantages, ppo.clip, ppo.clip_high)
            loss = (losses * share).sum()
            if earned.kl:
                penalties = kl_penalties(logps, old, flat(rollout.reference_logps))
                loss = loss + earned.kl * (penalties * flat(weights)).sum()
            (loss * scale).backward()
        sums["loss/policy"] += loss.item()
        sums["clip_fraction"] += _clipped(moved.detach(), ppo) / counted
        if roles.VALUE not in model.peft_config:
            continue
        with scoring_context(model, batch, objective.dtype), roles.value(model):
            values = token_values(model, batch)
            losses = value_losses(
                values, flat(rollout.values), flat(earned.returns), ppo.value_clip
            )
            loss = losses.sum() / tokens
            (loss * scale).backward()
        sums["loss/value"] += loss.item()
    return sums


def _log_ratios(log_ratios: torch.Tensor, batch: Batch, ppo: PPOSection) -> torch.Tensor:
    """Of the actions that are clipped, from those of all tokens (N,): of each token (N,), whole
    answers (A,), or of each token its answer's mean (N,; GSPO, arXiv:2507.18071, Eq. 7)."""
    whole = ESTIMATORS[ppo.estimator].whole
    if not whole and ppo.ratio == "token":
        return log_ratios
    sums = sum_by_response(log_ratios, batch.response, sum(batch.group_sizes))
    return sums if whole else (sums / batch.response_lengths)[batch.response]


def _weights(rollout: Rollout, places: Sequence[int], ppo: PPOSection) -> tuple[torch.Tensor, int]:
    """What each token of the minibatch counts in its loss (A, T), zero elsewhere; and how many
    actions it has, tokens or whole answers."""
    each = len(rollout.rewards) // len(rollout.examples)
    rows = [place * each + number for place in places for number in range(each)]
    mask, whole = rollout.mask[rows], ESTIMATORS[ppo.estimator].whole
    average, longest = ("constant", 1) if whole else (ppo.average, ppo.max_new_tokens)
    weights = torch.zeros(rollout.mask.shape)
    weights[rows] = token_weights(mask, average, len(rows), longest)
    return weights, len(rows) if whole else int(mask.sum())


def _clipped(log_ratios: torch.Tensor, ppo: PPOSection) -> int:
    """How many ratios have gone further than they may."""
    by = log_ratios.exp() - 1
    if ppo.clip_high is None:
        return int((by.abs() > ppo.clip).sum())
    return int(((by < -ppo.clip) | (by > ppo.clip_high)).sum())


def learn(
    prompts: int,
    size: int,
    passes: int,
    gradient: Callable[[Sequence[int]], dict[str, float]],
    optimizer: torch.optim.Optimizer,
    max_grad_norm: float,
    after_step: Callable[[], None] = lambda: None,
    scale: LossScale | None = None,
) -> dict[str, float]:
    """Some passes over a rollout's prompts, ``size`` a step; returns the steps' mean metrics.

    ``gradient(places)`` is minibatch_gradient with all but the places settled. The gradients of
    policy and value function are cut to ``max_grad_norm`` each on its own: the value's, large at
    first, must not slow the policy. ``scale``: that by which they are too large, if any; a step
    whose gradient overflows is left out.
    """
    measured: list[dict[str, float]] = []
    for _ in range(passes):
        order = torch.randperm(prompts).tolist()
        for start in range(0, len(order), size):
            optimizer.zero_grad(set_to_none=True)
            metrics = gradient(order[start : start + size])
            if not math.isfinite(metrics["loss"]):
                raise UserError(
                    f"The loss became {metrics['loss']}; lower train.lr, or look at the rewards."
                )
            if scale and not scale.settle(p for g in optimizer.param_groups for p in g["params"]):
                measured.append(metrics | {"grad_norm": 0.0})
                continue
            norms = [
                torch.nn.utils.clip_grad_norm_(group["params"], max_grad_norm).item()
                for group in optimizer.param_groups
            ]
            if not all(map(math.isfinite, norms)):
                raise UserError("A gradient is not finite; lower train.lr, or look at the rewards.")
            optimizer.step()
            after_step()
            measured.append(metrics | {"grad_norm": norms[0]})
    return {key: sum(m[key] for m in measured) / len(measured) for key in measured[0]}
