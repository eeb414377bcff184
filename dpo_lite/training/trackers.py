"""A run's metrics for those who look at them in TensorBoard, trackio, Weights & Biases and others.

What metrics.jsonl gets goes to transformers' own callbacks as well, under the names that they give
(``train/…``, ``eval/…``), with the recipe as the run's settings. A tracker that fails is told once
and left out: it must not end a training.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import torch
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from dpo_lite.errors import UserError
from dpo_lite.recipe import Recipe
from dpo_lite.runs.folder import Run
from dpo_lite.training import ranks
from dpo_lite.training.trainer import on_one_card, training_arguments

PROJECT = "dpo_lite"
# Where each says which project a run belongs to; what the user has set stays.
PROJECTS = ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME", "SWANLAB_PROJECT")


def check_trackers(recipe: Recipe) -> None:
    """Raise UserError for a tracker that is not installed."""
    for name in recipe.run.report_to:
        if find_spec(name) is None:
            raise UserError(
                f"run.report_to: {name} is not installed; `pip install {name}`, or leave it out."
            )


class Settings:
    """What a callback asks transformers' arguments for: the recipe, and where the run belongs."""

    project = PROJECT
    trackio_space_id = trackio_bucket_id = None
    trackio_static_space_id = False  # nothing is published that was not asked for
    hub_private_repo = True

    def __init__(self, run: Run, recipe: Recipe, arguments: TrainingArguments):
        self.output_dir, self.run_name = str(run.path), run.name
        self.values, self.arguments = recipe.model_dump(mode="json"), arguments

    def to_dict(self) -> dict[str, Any]:
        return dict(self.values)

    def to_sanitized_dict(self) -> dict[str, Any]:
        """Flat, of numbers and texts, for what takes no others."""
        flat = {
            f"{section}.{key}" if isinstance(value, dict) else section: inner
            for section, value in self.values.items()
            for key, inner in (value.items() if isinstance(value, dict) else [("", value)])
        }
        plain = (bool, int, float, str)
        return {k: v if isinstance(v, plain) else json.dumps(v) for k, v in flat.items()}

    def to_json_string(self) -> str:
        return json.dumps(self.values, indent=2, ensure_ascii=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.arguments, name)


def held_out_numbers(results: Mapping[str, Any]) -> dict[str, float]:
    """results.json as a line of metrics: every number of every held-out set, and of its answers."""
    found = {}
    for name, metrics in results["sets"].items():
        said = (metrics.get("generation") or {}).get("policy")
        numbers = dict(metrics) | ({} if said is None else {"generation": said})
        for key, value in numbers.items():
            if isinstance(value, int | float):
                found[f"eval_{name}_{key}"] = value
    return found


class Trackers:
    """Told what a run logs. Of processes that train together the first one tells."""

    def __init__(
        self, run: Run, recipe: Recipe, model: torch.nn.Module, say: Callable[[str], None]
    ):
        self.run, self.recipe, self.model, self.say = run, recipe, model, say
        self.callbacks: list[Any] = []
        self.settings: Settings | None = None
        self.state = TrainerState()

    def begin(self, arguments: TrainingArguments | None, state: TrainerState) -> None:
        names = self.recipe.run.report_to
        if not names or not ranks.first():
            return
        for variable in PROJECTS:
            os.environ.setdefault(variable, PROJECT)
        if arguments is None:  # PPO's loop is no Trainer
            made = training_arguments(self.recipe, self.run.checkpoints, self.model.device)
            arguments = on_one_card(TrainingArguments(**made))
        self.settings, self.state = Settings(self.run, self.recipe, arguments), state
        self.callbacks = [kind() for kind in get_reporting_integration_callbacks(names)]
        for callback in self.callbacks:
            if hasattr(callback, "logging_dir"):  # TensorBoard's, where a resumed run goes on
                callback.logging_dir = callback.logging_dir or str(self.run.path / "tensorboard")
        self._tell("on_train_begin")

    def log(self, logs: dict[str, Any]) -> None:
        self._tell("on_log", logs=dict(logs))

    def end(self) -> None:
        self._tell("on_train_end")
        self.callbacks = []

    def _tell(self, event: str, **more: Any) -> None:
        for callback in list(self.callbacks):
            try:
                getattr(callback, event)(
                    self.settings, self.state, TrainerControl(), model=self.model, **more
                )
            except Exception as error:  # somebody else's program, over a network
                self.callbacks.remove(callback)
                name = type(callback).__name__.removesuffix("Callback")
                self.say(f"{name} is left out from now on: {str(error).splitlines()[0][:200]}")
