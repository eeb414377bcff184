"""Adapters by name: a run, a folder or a Hub id, and what keeps one from being continued.

Nothing here loads a model: an adapter that does not do is refused before the base is read.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

from dpo_lite.errors import UserError
from dpo_lite.files import read_json
from dpo_lite.model.adapter_settings import HEADED, refusal
from dpo_lite.model.adds_nothing import adds_nothing
from dpo_lite.model.safetensors_header import tensor_places
from dpo_lite.names import is_public, plain_name
from dpo_lite.recipe import Recipe
from dpo_lite.runs.folder import Run
from dpo_lite.runs.rlhf_steps import refuse_composed

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
REWARD_FILE = "reward.json"  # beside a reward adapter: what its scores are centred by
FETCHED = [CONFIG, WEIGHTS, "*.json", "*.jinja", "tokenizer.model", "merges.txt"]


def adapter_folder(name: str) -> Path:
    """The local folder of an adapter; one on the Hub is fetched into its cache, never a pickle."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if (folder.parent / "recipe.yaml").is_file():
            refuse_composed(Run(folder.parent))
            state = Run(folder.parent).status()["state"]
            raise UserError(f"model.adapter: {folder.parent} has no adapter yet, it is {state}.")
        folder = _from_hub(name)
    if not (folder / CONFIG).is_file():
        raise UserError(f"model.adapter: {name} holds no {CONFIG}; give the folder of an adapter.")
    if not (folder / WEIGHTS).is_file():
        raise UserError(
            f"model.adapter: {name} has no {WEIGHTS}. Other files may be pickles, which can run "
            "any code when they are read, so they are not; save the adapter as safetensors."
        )
    tensor_places(folder / WEIGHTS)  # says so where it is damaged
    return folder


def is_reward(folder: Path) -> bool:
    """Whether an adapter is a reward model: it has a scalar head and no words to say."""
    return config_of(folder).get("task_type") == HEADED


def config_of(folder: Path) -> dict[str, Any]:
    """An adapter's configuration, empty where it has none. Raises UserError where it is damaged."""
    config = read_json(folder / CONFIG) or {}
    saved = config.get("modules_to_save") or []
    listed = saved if isinstance(saved, list) else [saved, None]
    if not all(isinstance(n, str) for n in (config.get("base_model_name_or_path") or "", *listed)):
        raise UserError(f"{folder / CONFIG} is damaged (names in it are no text); copy it again.")
    if not all(isinstance(config.get(key) or 0, (int, float)) for key in ("r", "lora_alpha")):
        raise UserError(f"{folder / CONFIG} is damaged (its rank is no number); copy it again.")
    return config


def mean_of(folder: Path) -> float | None:
    """The mean reward that is taken off, of a reward model; None where there is none beside it.

    Raises UserError where the file is damaged.
    """
    file = folder / REWARD_FILE
    if not file.is_file():
        return None
    try:
        mean = json.loads(file.read_bytes())["mean"]
        if type(mean) in (int, float) and math.isfinite(mean):
            return float(mean)
    except (ValueError, RecursionError, KeyError, TypeError, OverflowError):
        pass
    raise UserError(f"{file} is damaged (it holds no mean of rewards); copy the adapter again.")


def judges_only(name: str, instead: str) -> str:
    """Why a reward model does not do where answers are wanted."""
    return f"{name} is a reward model: it judges answers and gives none; {instead}."


def check_adapter(folder: Path, base: str | None, name: str, head: bool = False) -> dict[str, Any]:
    """Raise UserError where training cannot go on from this adapter; returns its configuration.

    ``head``: whether it may be, or is to become, a reward model.
    """
    config = config_of(folder)
    if is_reward(folder) and not head:
        raise UserError(judges_only(name, "name the adapter of a policy"))
    if why := refusal(config):
        raise UserError(f"model.adapter: {name} {why}")
    _check_base(config.get("base_model_name_or_path"), base, name)
    if not any(".lora_" in key for key in tensor_places(folder / WEIGHTS)):
        raise UserError(f"model.adapter: {name} holds no LoRA weights; train or copy it again.")
    if adds_nothing(folder / WEIGHTS):
        raise UserError(
            f"model.adapter: {name} was never trained (all its B matrices are zero, so it changes "
            "nothing): was it frozen by mistake? Leave model.adapter away, or train it first."
        )
    return config


def _check_base(made_for: str | None, base: str | None, name: str) -> None:
    """Names are compared where both name a model; shapes are compared when it is loaded."""
    if not made_for or not base or made_for == base:
        return
    known = all(n.startswith("builtin:") or is_public(n) for n in (made_for, base))
    if known and plain_name(made_for) != plain_name(base):
        raise UserError(
            f"model.adapter: {name} was trained on {made_for}, not on {base}; set "
            f"model.base={made_for}."
        )


def keep_start(run: Run, recipe: Recipe) -> None:
    """Copy the adapter that a run starts from into its folder: its source may go away."""
    if recipe.model.adapter:
        source = adapter_folder(recipe.model.adapter)
        names = [path for path in source.iterdir() if path.suffix in (".json", ".jinja", ".model")]
        run.start.mkdir(exist_ok=True)
        for path in [*names, source / WEIGHTS]:
            shutil.copyfile(path, run.start / path.name)


def start_adapter(run: Run, recipe: Recipe) -> str | None:
    """Where the adapter that a run started from is now: in its folder, or where the recipe says."""
    if recipe.model.adapter and (run.start / CONFIG).is_file():
        return str(run.start)
    return recipe.model.adapter


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError

    if not is_public(name):
        raise UserError(f"model.adapter: there is no folder {name}, and no run of that name.")
    try:
        return Path(snapshot_download(name, allow_patterns=FETCHED))
    except (HTTPError, OSError, ValueError) as error:
        status = getattr(getattr(error, "response", None), "status_code", 0)
        reason = {
            401: "is not on the Hub, or private: log in with `hf auth login`",
            403: "is gated: accept its conditions on the Hub",
            404: "is not on the Hub, or private: log in with `hf auth login`",
        }.get(status, "is neither a run, a folder nor in the cache, and the Hub cannot be reached")
        raise UserError(f"model.adapter: {name} {reason}.") from None


def trained_adapter(run: Run) -> Path:
    refuse_composed(run)
    if not (run.adapter / CONFIG).is_file():
        raise UserError(
            f"{run.path} has no adapter yet ({run.status()['state']}); finish it with"
            f" `dpo-lite train --resume {run.path}`."
        )
    return run.adapter


# What a tokenizer may consist of. A run saves one beside its adapter only where it differs.
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)
