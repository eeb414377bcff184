"""What answers are rewarded by: a reward adapter beside the policy, or a Python function.

A function is called as TRL calls its reward functions, with lists of the same length,

    def shorter_is_better(prompts, completions, **columns):
        return [-len(text.split()) for text in completions]

and returns a number per completion. ``columns`` are those of the data that are no prompt: at
present ``chosen_markers`` and ``rejected_markers``.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import math
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from dpo_lite.errors import UserError
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
from dpo_lite.model.safetensors_header import tensor_places
from dpo_lite.names import is_function
from dpo_lite.recipe import Recipe
from dpo_lite.runs.folder import Run
from dpo_lite.training.method import Objective
from dpo_lite.training.ppo import pieces
from dpo_lite.training.reward_model import rewards_of

COLUMNS = ("chosen_markers", "rejected_markers")
Function = Callable[..., Sequence[float]]


def reward_folder(recipe: Recipe) -> Path | None:
    """The folder of the reward adapter that the recipe names, None where it names a function.

    Raises UserError in words where it is no reward model of this base.
    """
    name = recipe.ppo.reward
    if is_function(name):
        return None
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
    if heads != [roles.HEAD_WEIGHT] or places[roles.HEAD_WEIGHT].shape[0] != 1:
        shapes = ", ".join(f"{key} {list(places[key].shape)}" for key in heads) or "none"
        raise UserError(
            f"{name} has another head than a linear one with a single number and no bias "
            f"({roles.HEAD_WEIGHT}); it has: {shapes}."
        )


def keep_reward(run: Run, recipe: Recipe) -> None:
    """Copy the reward adapter into the run's folder: its source may go away before a resume."""
    source = reward_folder(recipe)
    if source:
        run.reward.mkdir(exist_ok=True)
        for name in (CONFIG, WEIGHTS, REWARD_FILE):
            if (source / name).is_file():
                shutil.copyfile(source / name, run.reward / name)


def kept_reward(run: Run, recipe: Recipe) -> str | None:
    """Where the reward is now: in the run's folder, or where the recipe says."""
    return str(run.reward) if (run.reward / CONFIG).is_file() else recipe.ppo.reward


def rewarder(
    model: torch.nn.Module, recipe: Recipe, objective: Objective, tokenizer
) -> Callable[[Sequence[dict[str, Any]], int], torch.Tensor]:
    """What gives answers their rewards: examples with answers, and tokens per packed batch of the
    reward model -> (A,), on the CPU."""
    if folder := reward_folder(recipe):
        mean = read_mean(folder)

        def by_model(examples: Sequence[dict[str, Any]], budget: int) -> torch.Tensor:
            way, dtype = objective.way, objective.dtype
            parts = pieces(examples, range(len(examples)), way, budget)
            packed = [part.example for part in parts]
            rewards = rewards_of(model, packed, way, dtype, budget, role=roles.reward)
            return torch.tensor([score for scores in rewards for score in scores]) - mean

        return by_model
    name = recipe.ppo.reward
    function = load_function(name)

    def plain(ids: Sequence[int]) -> str:
        return tokenizer.decode(ids, skip_special_tokens=True)

    return lambda examples, budget: called(function, name, examples, plain)


def function_file(reward: str) -> Path:
    """The file that holds the function, in or under the current folder."""
    file = reward.rpartition(":")[0]
    path = Path(file).resolve()
    if not path.is_relative_to(Path.cwd()) or not path.is_file():
        raise UserError(f"ppo.reward: there is no file {file} in or under the current folder.")
    return path


def function_print(recipe: Recipe) -> str | None:
    """A hash of the file that rewards, for a resumed run must be rewarded by the same code."""
    if not is_function(recipe.ppo.reward):
        return None
    return hashlib.sha256(function_file(recipe.ppo.reward).read_bytes()).hexdigest()


def load_function(reward: str) -> Function:
    """The function that ``file.py:function`` names; what its file imports may lie beside it."""
    path = function_file(reward)
    file, _, name = reward.rpartition(":")
    module = _module(file, path, path.read_bytes())
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError(f"ppo.reward: {file} has no function {name}.")
    return function


@functools.cache
def _module(file: str, path: Path, code: bytes) -> ModuleType:
    """The file as a module, run once as long as its ``code`` is the same: it may load a model."""
    spec = importlib.util.spec_from_file_location(f"ppo_reward_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for their module there
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UserError(f"ppo.reward: {file} does not load: {error!r}.") from error
    return module


def called(
    function: Function, name: str, examples: Sequence[dict[str, Any]], decode: Callable
) -> torch.Tensor:
    """The function's rewards of all answers of the examples, in their order: (A,), fp32.

    Raises UserError where it fails, or does not return a finite number per answer.
    """
    arguments: dict[str, list] = {"prompts": [], "completions": []}
    arguments |= {column: [] for column in COLUMNS if column in examples[0]}
    for example in examples:
        for ids in example["response_ids"]:
            arguments["prompts"].append(example["prompt"])
            arguments["completions"].append(decode(ids))
            for column in arguments.keys() & set(COLUMNS):
                arguments[column].append(example[column])
    try:
        rewards = [float(value) for value in function(**arguments)]
    except Exception as error:
        raise UserError(f"ppo.reward: {name} failed: {error!r}.") from error
    count = len(arguments["completions"])
    if len(rewards) != count or not all(map(math.isfinite, rewards)):
        raise UserError(
            f"ppo.reward: {name} must return a finite number for each of the {count} completions; "
            f"it returned {len(rewards)}, such as {rewards[:3]}."
        )
    return torch.tensor(rewards)
