"""What a policy's drawn answers to held-out prompts are worth: reward, KL, truthfulness.

Drawn and not greedy, for the KL is a number of the whole distribution: reward and KL of one and the
same answers are what PPO and DPO trade against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dpo_lite.data.markers import classify, has_markers
from dpo_lite.data.tokens import encoder_of
from dpo_lite.model import roles
from dpo_lite.model.device_memory import halving
from dpo_lite.model.generation import BATCH, all_ends
from dpo_lite.recipe import PPOSection
from dpo_lite.training.method import Objective
from dpo_lite.training.ppo import Earned, Rewarder, Rollout, draw_answers, judge_answers
from dpo_lite.training.ppo_split import own_prompts, own_seed, rolled_together
from dpo_lite.training.reward_source import add_rewards, reward_folders, rewarder

if TYPE_CHECKING:
    from dpo_lite.training.method import Loaded

SEED = 20_000  # of the answers drawn for an evaluation, whatever the training's
MOST = 512  # held-out prompts that are answered
ROLES = {"reference": roles.reference, "policy": roles.policy}


@dataclass(frozen=True)
class Ruler:
    """All that drawn answers are measured by; ``budget``: tokens per packed batch."""

    model: torch.nn.Module
    tokenizer: Any
    ppo: PPOSection
    rewarder: Rewarder
    ends: Collection[int]
    objective: Objective
    budget: int


def ruler_of(
    loaded: Loaded,
    objective: Objective,
    budget: int,
    replies: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Ruler:
    """The ruler of a recipe of PPO; reward models join the loaded roles where they are missing.

    ``replies``: where a judge's are kept, the run's own file if not given. ``say`` is told where it
    is asked again.
    """
    model, recipe, tokenizer = loaded.model, loaded.recipe, loaded.tokenizer
    add_rewards(model, reward_folders(recipe))
    judged_by = rewarder(model, recipe, objective, tokenizer, replies, say)
    return replace(unrewarded(loaded, objective, budget), rewarder=judged_by)


def unrewarded(loaded: Loaded, objective: Objective, budget: int) -> Ruler:
    """The same where somebody else says what answers are worth: all of them earn 0."""
    ends = all_ends(loaded.model, encoder_of(loaded.tokenizer, loaded.recipe.data))

    def nothing(examples: Sequence[dict[str, Any]], budget: int) -> Earned:
        return Earned(torch.zeros(sum(len(example["response_ids"]) for example in examples)))

    ppo = loaded.recipe.ppo
    return Ruler(loaded.model, loaded.tokenizer, ppo, nothing, ends, objective, budget)


def measure(
    ruler: Ruler, prompts: Sequence[dict[str, Any]], role: str, answers: int = 1
) -> dict[str, float]:
    """Of so many answers to each prompt, drawn by the ``policy`` or the ``reference``:

    ``reward`` and ``kl`` in nats per answer (0 of the reference), each with its standard error,
    ``ended``, and with markers ``truthful``, the share that makes the chosen claim; of so many
    ``prompts`` and ``answers``. Answers to one prompt are much alike, so a share is as sure as the
    number of prompts makes it. Of more than 512 prompts so many are drawn, always the same.
    """
    places = np.random.default_rng(SEED).permutation(len(prompts))[:MOST]
    counted = [prompts[place] for place in sorted(places.tolist())]
    some = ruler.ppo.model_copy(update={"answers": answers})
    own, seed = own_prompts(counted), own_seed(SEED)

    def drawing(at_once: int) -> list[dict[str, Any]]:
        torch.manual_seed(seed)
        return draw_answers(ruler.model, own, some, ruler.ends, at_once, ROLES[role])

    def roll() -> Rollout:
        drawn, _ = halving(drawing, BATCH)
        return judge_answers(
            ruler.model, drawn, ruler.rewarder, ruler.ends, ruler.objective, ruler.budget
        )

    rollout = rolled_together(counted, roll)
    kl = rollout.kl if role == "policy" else torch.zeros(1)
    measured = {
        "reward": rollout.rewards.mean().item(),
        "reward_error": _error(rollout.rewards),
        "kl": kl.mean().item(),
        "kl_error": _error(kl),
        "ended": rollout.ended.float().mean().item(),
        "prompts": len(counted),
        "answers": len(rollout.rewards),
    }
    if rollout.parts is not None:
        means = rollout.parts.mean(0).tolist()
        labels = [f"rewards/{one.label}/mean" for one in ruler.ppo.rewards]
        measured |= dict(zip(labels, means, strict=True))
    if has_markers(counted):
        measured["truthful"] = chosen_share(rollout.examples, ruler.tokenizer)
    return measured


def _error(values: torch.Tensor) -> float:
    """The standard error of the mean of (R,)."""
    return (values.std(unbiased=False) / len(values) ** 0.5).item()


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
