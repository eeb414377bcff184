"""Reference, policy and other runs answer the same prompts, from one loaded base."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from peft import PeftModel

from dpo_lite.adapters import adapter_folder, start_adapter
from dpo_lite.columns import columns, prompts_of, trained_adapter
from dpo_lite.errors import UserError
from dpo_lite.lineup import Said, ask, load_lineup
from dpo_lite.lockstep import Sampling
from dpo_lite.model import roles
from dpo_lite.model.base import load_base, load_tokenizer
from dpo_lite.recipe import Recipe, load_recipe
from dpo_lite.runs import Run
from dpo_lite.training.reward_source import kept_reward

MOST_ASKED = 3


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


def compare_answers(
    run: Run,
    names: Sequence[str],
    prompts: Sequence[str],
    sampling: Sampling,
    folder: str | Path = "runs",
) -> Iterator[tuple[str, list[Said]]]:
    """Answer each prompt as every column; without prompts those of the recipe are asked.

    ``names`` are ``reference``, ``policy`` or other runs of the same base. All that is wrong with
    them is raised before the base is loaded.
    """
    wanted = columns(run, names, folder)
    prompts = prompts or load_recipe(run.recipe_file).eval.prompts or prompts_of(run)[:MOST_ASKED]
    if not prompts:
        raise UserError('There is nothing to ask: give --prompt "..." or set eval.prompts.')
    lineup = load_lineup(run)
    for prompt in prompts:
        yield prompt, ask(lineup, run, wanted, prompt, sampling)
