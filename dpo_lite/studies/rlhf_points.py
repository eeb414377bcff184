"""A point of the frontier: what the policy of a step is worth on held-out prompts."""

from __future__ import annotations

from pathlib import Path

from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.model.device_memory import release
from dpo_lite.recipe import Recipe
from dpo_lite.runs.device_lock import device_lock
from dpo_lite.training.loaded import Loaded, how_to_score
from dpo_lite.training.ppo_evaluation import measure, ruler_of
from dpo_lite.training.recipe_data import load_data


def measured(ruler: Recipe, adapter: Path, answers: int) -> dict[str, dict[str, float]]:
    """What a policy's drawn answers to each held-out set are worth, as ``drawn.measure`` says.

    ``ruler``: a recipe of PPO that names the reward model and, as its start, the SFT adapter.
    """
    with device_lock("measuring"):
        try:
            return _measured(ruler, adapter, answers)
        finally:  # the next step is another process and needs the room
            release()


def _measured(ruler: Recipe, adapter: Path, answers: int) -> dict[str, dict[str, float]]:
    tokenizer, data = load_data(ruler)
    model = roles.load_policy(load_base(ruler.model), adapter)
    roles.add_start(model, ruler.model.adapter)
    loaded = Loaded(ruler, tokenizer, data, model)
    by = ruler_of(loaded, *how_to_score(loaded))
    return {name: measure(by, list(rows), "policy", answers) for name, rows in data.evals.items()}
