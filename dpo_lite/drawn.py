"""What a policy's drawn answers to held-out prompts are worth: reward, KL, truthfulness.

Drawn and not greedy, for the KL is a number of the whole distribution: reward and KL of one and the
same answers are what PPO and DPO trade against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch

from dpo_lite.generation import BATCH
from dpo_lite.markers import classify, has_markers
from dpo_lite.model import roles
from dpo_lite.recipe import PPOSection
from dpo_lite.training.ppo import Rewarder, draw, judge
from dpo_lite.training.update import Objective

SEED = 20_000  # of the answers drawn for an evaluation, whatever the training's


def drawn_metrics(
    model: torch.nn.Module,
    tokenizer,
    prompts: Sequence[dict[str, Any]],
    role: Callable,
    rewarder: Rewarder,
    ppo: PPOSection,
    ends: Collection[int],
    objective: Objective,
    budget: int,
    at_once: int = BATCH,
    answers: int = 1,
) -> dict[str, float]:
    """Of so many answers to each prompt, drawn by ``role`` (roles.policy or roles.reference):

    ``reward``, ``kl`` in nats per answer with its standard error (0 of the reference), ``ended``,
    and with markers ``truthful``, the share that makes the chosen claim.
    """
    torch.manual_seed(SEED)
    some = ppo.model_copy(update={"answers": answers})
    drawn = draw(model, list(prompts), some, ends, at_once, role)
    rollout = judge(model, drawn, rewarder, ends, objective, budget)
    kl = rollout.kl if role is roles.policy else torch.zeros(1)
    found = {
        "reward": rollout.rewards.mean().item(),
        "kl": kl.mean().item(),
        "kl_error": (kl.std(unbiased=False) / len(kl) ** 0.5).item(),
        "ended": rollout.ended.float().mean().item(),
    }
    if has_markers(prompts):
        found["truthful"] = chosen_share(drawn, tokenizer)
    return found


def chosen_share(drawn: Sequence[dict[str, Any]], tokenizer) -> float:
    """Share of the drawn answers that make the chosen claim."""
    verdicts = [
        classify(
            tokenizer.decode(ids, skip_special_tokens=True),
            example["chosen_markers"],
            example["rejected_markers"],
        )
        for example in drawn
        for ids in example["response_ids"]
    ]
    return verdicts.count("chosen") / len(verdicts)
