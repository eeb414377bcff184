"""What a preflight knows of answers that are not drawn yet: their size, and one rollout's trial."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dpo_lite.data.tokens import Encoder
from dpo_lite.errors import UserError
from dpo_lite.memory.plan import MemoryPlan
from dpo_lite.model import roles
from dpo_lite.model.device_memory import halving, told
from dpo_lite.model.generation import all_ends
from dpo_lite.model.scoring import batch_tokens
from dpo_lite.recipe import Recipe
from dpo_lite.training.method import Objective
from dpo_lite.training.ppo import Rollout, draw_answers, judge_answers
from dpo_lite.training.reward_source import rewarder

CPU_AT_ONCE = 256  # answers drawn together where no card's memory limits them
# Of a log-ratio per token.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-2, torch.float16: 2e-3}


@dataclass(frozen=True)
class Drawing:
    """The trial rollout: ``seconds`` and ``answers`` of its drawing, and what it showed."""

    seconds: float
    answers: int
    tokens: int  # of the answers and their prompts in packed rows
    at_once: int
    ended: float  # share of answers that came to their end
    lowest: float  # reward
    highest: float

    @property
    def words(self) -> str:
        return (
            f"{self.answers} answers, up to {self.at_once} at once, {self.ended:.0%} came to their "
            f"end; rewards from {self.lowest:.2f} to {self.highest:.2f}"
        )


def answers_at_once(model: torch.nn.Module, plan: MemoryPlan, tokens: int) -> int:
    """How many answers are drawn together: their keys and values take the place of the activations.

    ``tokens``: of the longest prompt with its answer.
    """
    if model.device.type == "cpu":
        return CPU_AT_ONCE
    config = model.get_base_model().config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    element = torch.finfo(model.get_base_model().dtype).bits // 8
    each = 2 * config.num_hidden_layers * heads * size * element * tokens
    return max(1, (plan.activations + plan.head + plan.workspace) // each)


def try_rollout(
    model: torch.nn.Module,
    recipe: Recipe,
    prompts: Sequence[dict[str, Any]],
    encoder: Encoder,
    objective: Objective,
    plan: MemoryPlan,
    tokens: int,
) -> Drawing:
    """Draw and judge one rollout. Raises UserError where the policy is not where it should start,
    or the reward fails."""
    ends = all_ends(model, encoder)
    at_once = answers_at_once(model, plan, tokens)
    judged_by = rewarder(model, recipe, objective, encoder.tokenizer)
    torch.manual_seed(recipe.train.seed)
    started = time.perf_counter()
    drawn, at_once = halving(
        lambda count: draw_answers(model, list(prompts), recipe.ppo, ends, count), at_once
    )
    seconds = time.perf_counter() - started
    with told(
        f"{plan.budget:,} tokens of drawn answers, scored by every role",
        "lower train.token_budget or ppo.max_new_tokens",
    ):
        rollout = judge_answers(model, drawn, judged_by, ends, objective, plan.budget)
    if not recipe.starts_apart:
        _check_identity(rollout, objective)
    rewards = rollout.rewards
    return Drawing(
        seconds,
        len(rewards),
        sum(batch_tokens(example, objective.way) for example in drawn),
        at_once,
        rollout.ended.float().mean().item(),
        rewards.min().item(),
        rewards.max().item(),
    )


def _check_identity(rollout: Rollout, objective: Objective) -> None:
    """Before the first update the policy is the reference: the KL of its answers is 0."""
    ratios = (rollout.policy_logps - rollout.reference_logps)[rollout.mask].abs()
    if ratios.mean() > TOLERANCE[objective.dtype]:
        raise UserError(
            f"Before the first update policy and reference differ by {ratios.mean():.4f} nats per "
            "token although nothing was trained, so the reference is wrong; check `reference` and "
            "`model.adapter`."
        )


def rollout_seconds(
    model: torch.nn.Module, recipe: Recipe, gradient_seconds: float, drawing: Drawing
) -> float:
    """Of a whole rollout, given the seconds of one gradient over all its tokens."""
    forward = gradient_seconds / 2
    judges = sum(one.is_adapter for one in recipe.ppo.rewards)
    judged = 2 + judges + (roles.VALUE in model.peft_config)
    learned = recipe.ppo.passes * 2 * (1 + (roles.VALUE in model.peft_config))
    return drawing.seconds + forward * (judged + learned)
