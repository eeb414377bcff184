"""A run made of runs: SFT, a reward model, PPO on its rewards, and DPO beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpo_lite.tasks.spec import DEMONSTRATIONS, PAIRWISE, PROMPTS, Recipe, Task


class RLHF(Task):
    name = "rlhf"
    description = "all of them one after the other"
    runner = "dpo_lite.studies.rlhf"
    unit = "run"
    pairs = (*PAIRWISE, *DEMONSTRATIONS, PROMPTS)  # each of its steps takes its own
    sections = ("ppo", "rlhf")
    composed = True
    not_swept = (
        "it has values of its own to run through, rlhf.ppo_betas, rlhf.dpo_betas and rlhf.seeds"
    )
    no_answers = ("No answers here", "Each of its runs has its own; open one above.")

    def settle(self, recipe: Recipe) -> None:
        """Each of its steps is a recipe, settled when it is made; here what no step would take."""
        rlhf, plain = recipe.rlhf, type(recipe.train)()
        places = {
            "train.beta": (recipe.train.beta != plain.beta, "rlhf.ppo_betas and rlhf.dpo_betas"),
            "train.seed": (recipe.train.seed != plain.seed, "rlhf.seeds"),
            "adapter.extra_r": (recipe.adapter.extra_r, "rlhf.sft"),
            "ppo.reward": (recipe.ppo.reward, "rlhf.reward, whose model it is"),
            "hub.push": (recipe.hub.push, "`push` of one of its runs"),
        }
        for key, (is_set, place) in places.items():
            if is_set:
                raise ValueError(f"task: rlhf does not take {key}; see {place}")
        for key in ("ppo_betas", "dpo_betas", "seeds"):
            values = getattr(rlhf, key)
            if len(set(values)) < len(values):
                raise ValueError(f"rlhf.{key} has a value twice; name each once")

    def objective(self, recipe: Recipe) -> str:
        return "SFT, a reward model, PPO on its rewards; DPO from the same SFT"

    def facts(self, recipe: Mapping[str, Any]) -> list[str]:
        rlhf = recipe["rlhf"]
        ppo, dpo = (", ".join(f"{b:g}" for b in rlhf[f"{name}_betas"]) for name in ("ppo", "dpo"))
        seeds = rlhf["seeds"]
        return [
            "SFT, a reward model",
            f"PPO at beta {ppo}",
            f"DPO at beta {dpo}",
            f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}",
        ]
