"""What answers are rewarded by: reward adapters beside the policy, Python functions, a judge.

Of several the weighted sum is trained on, and each is measured by itself.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from dpo_lite.errors import UserError
from dpo_lite.judge.verdicts import Places
from dpo_lite.model import roles
from dpo_lite.model.adapter_files import (
    CONFIG,
    REWARD_FILE,
    WEIGHTS,
    adapter_folder,
    check_adapter,
    is_reward,
)
from dpo_lite.model.heads import read_mean
from dpo_lite.model.identity import files_hash
from dpo_lite.model.safetensors_header import tensor_places
from dpo_lite.model.saved_adapter import HEAD_WEIGHT
from dpo_lite.recipe import OneReward, Recipe
from dpo_lite.runs.folder import Run
from dpo_lite.training.judge_reward import scorer
from dpo_lite.training.method import Objective
from dpo_lite.training.ppo import Earned, Rewarder, pieces
from dpo_lite.training.reward_function import called, function_print, load_function
from dpo_lite.training.reward_model import rewards_of

# Examples with answers, and tokens per packed batch: (A,), NaN where a judge said nothing.
Source = Callable[[Sequence[dict[str, Any]], int], torch.Tensor]


# --- reward adapters ------------------------------------------------------------------------------


def reward_folders(recipe: Recipe) -> list[Path]:
    """The folders of the reward adapters that the recipe names, in their order.

    Raises UserError in words where one is no reward model of this base.
    """
    return [_folder(recipe, one) for one in recipe.ppo.rewards if one.is_adapter]


def _folder(recipe: Recipe, one: OneReward) -> Path:
    name = one.source
    try:
        folder = adapter_folder(name)
        if not is_reward(folder):
            raise UserError(f"{name} is no reward model; train one with task: reward.")
        check_adapter(folder, recipe.model.base, name, head=True)
        _check_head(folder, name)
    except UserError as error:
        words = str(error).removeprefix("model.adapter: ")
        raise UserError(f"ppo.reward: {words}") from None
    return folder


def _check_head(folder: Path, name: str) -> None:
    """An adapter of another maker may have another head; ours is one number without a bias."""
    places = tensor_places(folder / WEIGHTS)
    heads = sorted(key for key in places if "lora_" not in key)
    if heads != [HEAD_WEIGHT] or places[HEAD_WEIGHT].shape[0] != 1:
        shapes = ", ".join(f"{key} {list(places[key].shape)}" for key in heads) or "none"
        raise UserError(
            f"{name} has another head than a linear one with a single number and no bias "
            f"({HEAD_WEIGHT}); it has: {shapes}."
        )


def add_rewards(model: torch.nn.Module, folders: Sequence[Path]) -> None:
    """Put the reward adapters beside the policy that are not there yet."""
    for number, folder in enumerate(folders):
        if roles.reward_role(number) not in model.peft_config:
            roles.add_reward(model, folder, number)


def keep_reward(run: Run, recipe: Recipe) -> None:
    """Copy the reward adapters into the run's folder: a source may go away before a resume."""
    for number, source in enumerate(reward_folders(recipe)):
        copy = run.reward_copy(number)
        copy.mkdir(exist_ok=True)
        for name in (CONFIG, WEIGHTS, REWARD_FILE):
            if (source / name).is_file():
                shutil.copyfile(source / name, copy / name)


def kept_reward(run: Run, recipe: Recipe) -> str | list[str | OneReward] | None:
    """``ppo.reward`` with the adapters where they are now: in the run's folder, or where the
    recipe says."""
    found, number = [], 0
    for one in recipe.ppo.rewards:
        if one.is_adapter:
            copy = run.reward_copy(number)
            number += 1
            if (copy / CONFIG).is_file():
                one = one.model_copy(update={"source": str(copy)})
        found.append(one)
    if isinstance(recipe.ppo.reward, str):
        return found[0].source
    return found or None


def reward_print(recipe: Recipe) -> str | None:
    """What a resumed run must be rewarded by again, as a hash: the file of a function alone, None
    of an adapter alone, whose copy is in the run's folder; of several all of it and the weights."""
    if isinstance(recipe.ppo.reward, str):
        one = recipe.ppo.rewards[0]
        return None if one.is_adapter or one.is_judge else function_print(one.source)

    def content(one: OneReward) -> str:
        if one.is_adapter:
            return files_hash([_folder(recipe, one) / WEIGHTS])
        return one.source if one.is_judge else function_print(one.source)

    facts = [[one.weight, content(one)] for one in recipe.ppo.rewards]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


# --- rewards of answers ---------------------------------------------------------------------------


def rewarder(
    model: torch.nn.Module,
    recipe: Recipe,
    objective: Objective,
    tokenizer,
    replies: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Rewarder:
    """What gives answers their rewards, by all sources of ``ppo.reward``.

    ``replies``: where a judge's are kept; the run's own file if not given, and where there is no
    run yet nowhere. ``say`` is told where a judge is asked again.
    """
    rewards = recipe.ppo.rewards
    sources = _sources(model, recipe, objective, tokenizer, replies or replies_of_run(recipe), say)
    weights = torch.tensor([one.weight for one in rewards])

    def earned(examples: Sequence[dict[str, Any]], budget: int) -> Earned:
        columns = [source(examples, budget).float() for source in sources]
        unread = None
        for place, one in enumerate(rewards):
            if one.is_judge:
                unread = columns[place].isnan()
                columns[place] = columns[place].where(~unread, columns[place].nanmean())
        parts = torch.stack(columns, 1)
        return Earned(parts @ weights, parts if len(rewards) > 1 else None, unread)

    return earned


def _sources(
    model: torch.nn.Module,
    recipe: Recipe,
    objective: Objective,
    tokenizer,
    replies: Path | None,
    say: Callable[[str], None],
) -> list[Source]:
    """A function for each reward, in their order."""

    def plain(ids: Sequence[int]) -> str:
        return tokenizer.decode(ids, skip_special_tokens=True)

    found: list[Source] = []
    folders = iter(enumerate(reward_folders(recipe)))
    for one in recipe.ppo.rewards:
        if one.is_adapter:
            found.append(_by_adapter(model, objective, *next(folders)))
        elif one.is_judge:
            found.append(scorer(recipe.judge, plain, replies, say))
        else:
            found.append(_by_function(one.source, plain))
    return found


def _by_adapter(model: torch.nn.Module, objective: Objective, number: int, folder: Path) -> Source:
    mean = read_mean(folder)

    def by_model(examples: Sequence[dict[str, Any]], budget: int) -> torch.Tensor:
        way, dtype = objective.way, objective.dtype
        parts = pieces(examples, range(len(examples)), way, budget)
        packed = [part.example for part in parts]
        rewards = rewards_of(
            model, packed, way, dtype, budget, role=lambda model: roles.reward(model, number)
        )
        return torch.tensor([score for scores in rewards for score in scores]) - mean

    return by_model


def _by_function(name: str, decode: Callable[[Sequence[int]], str]) -> Source:
    function = load_function(name)
    return lambda examples, budget: called(function, name, examples, decode)


def replies_of_run(recipe: Recipe) -> Path | None:
    """Where the run keeps what its judge replied, if there is such a run by now."""
    if not recipe.run.name:
        return None
    folder = Path(recipe.run.folder) / recipe.run.name
    return Places(folder).rewards if (folder / "recipe.yaml").is_file() else None
