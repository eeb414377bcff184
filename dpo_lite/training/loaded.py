"""What a run needs in memory: the base with the roles of its task, and how it is scored."""

from __future__ import annotations

from contextlib import nullcontext

from peft import PeftModel

from dpo_lite.memory.of_model import plan_run
from dpo_lite.model import roles
from dpo_lite.model.adapter_files import adapter_folder, start_adapter, trained_adapter
from dpo_lite.model.base import load_base, load_tokenizer, on_the_host
from dpo_lite.model.choosing import choose_way
from dpo_lite.model.device_memory import told
from dpo_lite.model.precision import dtype_of
from dpo_lite.recipe import Recipe, load_recipe
from dpo_lite.runs.folder import Run
from dpo_lite.tasks import TASKS
from dpo_lite.training.method import Loaded, Objective
from dpo_lite.training.reward_source import kept_reward


def load_trained(run: Run) -> tuple[Recipe, object, PeftModel]:
    """The run's recipe, tokenizer, and base with the trained adapter as the policy."""
    recipe = load_recipe(run.recipe_file)
    adapter = trained_adapter(run)
    head = TASKS[recipe.task].head
    with told(*_weights(recipe)):
        model = roles.load_policy(load_base(recipe.model), adapter, head)
    recipe.model.adapter = start_adapter(run, recipe)  # the run's own copy
    if recipe.reference == "start" and not head:
        roles.add_start(model, adapter_folder(recipe.model.adapter))
    recipe.ppo.reward = kept_reward(run, recipe)
    return recipe, load_tokenizer(recipe.model), model


def load_model(recipe: Recipe, in_parts: bool = False) -> PeftModel:
    """The base with all the roles of the recipe's task.

    ``in_parts``: on the host, since the device will hold only a part of it.
    """
    with told(*_weights(recipe)), on_the_host() if in_parts else nullcontext():
        return TASKS[recipe.task].mechanics.load(recipe)


def _weights(recipe: Recipe) -> tuple[str, str]:
    """What is loaded and what helps where it does not fit, in words."""
    smaller = "a smaller base" if recipe.model.quantization == "nf4" else "model.quantization=nf4"
    remedy = f"take {smaller}, or free the card of other programs"
    return f"the weights of {recipe.model.base}", remedy


def how_to_score(loaded: Loaded) -> tuple[Objective, int]:
    """The objective in the fastest right way, and tokens per packed batch: for a trained run that
    is looked at again, without a preflight."""
    recipe, model = loaded.recipe, loaded.model
    few, lengths = TASKS[recipe.task].mechanics.expected(recipe, loaded.data)
    way = choose_way(model, few).way
    budget = plan_run(model, recipe, few, way, lengths.of_batch(shared=way == "forest")).budget
    return Objective.of(recipe, way, dtype_of(model)), budget
