"""A point of the frontier: what the policy of a step is worth on held-out prompts."""

from __future__ import annotations

import gc
from pathlib import Path

import torch

from dpo_lite.device_lock import device_lock
from dpo_lite.doctor import load_data
from dpo_lite.drawn import measure, ruler_of
from dpo_lite.model import roles
from dpo_lite.model.base import compute_dtype, load_base
from dpo_lite.model.scoring import choose_way
from dpo_lite.preflight import Loaded, plan_run
from dpo_lite.recipe import Recipe
from dpo_lite.training.ppo_preflight import expected
from dpo_lite.training.update import Objective


def measured(ruler: Recipe, adapter: Path, answers: int) -> dict[str, dict[str, float]]:
    """What a policy's drawn answers to each held-out set are worth, as ``drawn.measure`` says.

    ``ruler``: a recipe of PPO that names the reward model and, as its start, the SFT adapter.
    """
    with device_lock("measuring"):
        try:
            return _measured(ruler, adapter, answers)
        finally:  # the next step is another process and needs the room
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def _measured(ruler: Recipe, adapter: Path, answers: int) -> dict[str, dict[str, float]]:
    tokenizer, data = load_data(ruler)
    model = roles.load_policy(load_base(ruler.model), adapter)
    roles.add_start(model, ruler.model.adapter)
    few, lengths = expected(ruler, data)
    way = choose_way(model, few).way
    objective = Objective.of(ruler, way, compute_dtype(model.device))
    budget = plan_run(model, ruler, few, way, lengths.of_batch(shared=way == "forest")).budget
    by = ruler_of(Loaded(ruler, tokenizer, data, model), objective, budget)
    return {name: measure(by, list(rows), "policy", answers) for name, rows in data.evals.items()}
