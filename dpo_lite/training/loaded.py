"""What a run needs in memory: tokenizer, data, and the base with the roles of its task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from peft import PeftModel

from dpo_lite.data.expected import expected
from dpo_lite.data.prepare import FEW, PreparedData, prepare
from dpo_lite.memory.of_model import plan_run
from dpo_lite.model import roles
from dpo_lite.model.adapter_files import adapter_folder, start_adapter, trained_adapter
from dpo_lite.model.base import (
    compute_dtype,
    load_base,
    load_config,
    load_tokenizer,
    position_limit,
)
from dpo_lite.model.scoring import choose_way
from dpo_lite.recipe import Recipe, load_recipe
from dpo_lite.runs.folder import Run
from dpo_lite.training.reward_source import kept_reward, reward_folder
from dpo_lite.training.update import Objective


def load_trained(run: Run) -> tuple[Recipe, object, PeftModel]:
    """The run's recipe, tokenizer, and base with the trained adapter as the policy."""
    recipe = load_recipe(run.recipe_file)
    adapter = trained_adapter(run)
    reward = recipe.task == "reward"
    model = roles.load_policy(load_base(recipe.model), adapter, head=reward)
    recipe.model.adapter = start_adapter(run, recipe)  # the run's own copy
    if recipe.reference == "start" and not reward:
        roles.add_start(model, adapter_folder(recipe.model.adapter))
    recipe.ppo.reward = kept_reward(run, recipe)
    return recipe, load_tokenizer(recipe.model), model


def load_data(
    recipe: Recipe, say: Callable[[str], None] = lambda text: None, shown: int = FEW
) -> tuple[object, PreparedData]:
    """The tokenizer and the data as token ids; no weights are loaded.

    With task: ppo the prompts leave room for an answer.
    """
    say(f"loading the tokenizer of {recipe.model.base}")
    tokenizer = load_tokenizer(recipe.model)
    limit = position_limit(load_config(recipe.model))
    return tokenizer, prepare(
        recipe.data,
        tokenizer,
        model_limit=limit,
        room=recipe.ppo.max_new_tokens if recipe.task == "ppo" else 0,
        seed=recipe.train.seed,
        shown=shown,
        say=say,
    )


@dataclass(frozen=True)
class Loaded:
    """What a run needs, in memory."""

    recipe: Recipe
    tokenizer: object
    data: PreparedData
    model: PeftModel


def load_model(recipe: Recipe) -> PeftModel:
    """The base with the policy's adapter, the start adapter where it is the reference, and for PPO
    the reward model and the value function."""
    reward = reward_folder(recipe) if recipe.task == "ppo" else None  # looked for first
    base = load_base(recipe.model)
    head = recipe.task == "reward"
    if recipe.model.adapter:
        section = recipe.model
        model = roles.continue_policy(
            base,
            section.adapter,
            recipe.reference,
            section.base,
            recipe.adapter.extra_r,
            recipe.train.seed,
            head,
        )
    else:
        model = roles.add_policy(base, recipe.adapter, recipe.train.seed, head)
    if reward:
        roles.add_reward(model, reward)
    if recipe.task == "ppo" and recipe.ppo.estimator == "ppo":
        roles.add_value(model, recipe.adapter, reward)
    return model


def how_to_score(loaded: Loaded) -> tuple[Objective, int]:
    """The objective in the fastest right way, and tokens per packed batch: for a trained run that
    is looked at again, without a preflight."""
    recipe, model = loaded.recipe, loaded.model
    few, lengths = expected(recipe, loaded.data)
    way = choose_way(model, few).way
    budget = plan_run(model, recipe, few, way, lengths.of_batch(shared=way == "forest")).budget
    return Objective.of(recipe, way, compute_dtype(model.device)), budget
