"""A run's metrics for those who look at them in TensorBoard, trackio, Weights & Biases and others.

What metrics.jsonl gets goes to transformers' own callbacks as well, under the names that they give
(``train/…``, ``eval/…``), with the recipe as the run's settings, and sample answers as a table. A
tracker that fails is told once and left out: it must not end a training.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import torch
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from dpo_lite.errors import UserError
from dpo_lite.recipe import Recipe
from dpo_lite.runs.folder import Run
from dpo_lite.runs.lines import SAMPLES
from dpo_lite.training import ranks
from dpo_lite.training.tracker_media import (
    TAKES_NO_FILES,
    answers_rows,
    send_adapter,
    tell_answers,
)
from dpo_lite.training.trainer import on_one_card, training_arguments

PROJECT = "dpo_lite"
# Where each says which project a run belongs to; what the user has set stays.
PROJECTS = ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME")


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


def open_run(name: str) -> Any:
    """The run that a tracker of this process has open, of those whose callbacks leave it open."""
    module = sys.modules.get(name)  # the callback imports it
    if module is None:
        return None
    try:
        return {"wandb": lambda: module.run, "swanlab": lambda: module.get_run()}[name]()
    except RuntimeError:  # swanlab from 0.8 on says so that there is none
        return None


def open_swanlab(run: str) -> None:
    """Its callback asks for an open run in a way that newer ones refuse where there is none."""
    swanlab = sys.modules.get("swanlab")
    if swanlab and open_run("swanlab") is None:
        project = os.environ.get("SWANLAB_PROJECT", PROJECT)
        swanlab.init(project=project, experiment_name=run)


class Trackers:
    """Told what a run logs. Of processes that train together the first one tells."""

    def __init__(
        self, run: Run, recipe: Recipe, model: torch.nn.Module, say: Callable[[str], None]
    ):
        self.run, self.recipe, self.model, self.say = run, recipe, model, say
        self.callbacks: dict[str, Any] = {}
        self.to_close: list[str] = []
        self.settings: Settings | None = None
        self.state = TrainerState()

    def begin(self, arguments: TrainingArguments | None, state: TrainerState) -> None:
        names = list(dict.fromkeys(self.recipe.run.report_to))
        if not names or not ranks.first():
            return
        for variable in PROJECTS:
            os.environ.setdefault(variable, PROJECT)
        if arguments is None:  # PPO's loop is no Trainer
            made = training_arguments(self.recipe, self.run.checkpoints, self.model.device)
            arguments = on_one_card(TrainingArguments(**made))
        self.settings, self.state = Settings(self.run, self.recipe, arguments), state
        kinds = get_reporting_integration_callbacks(names)
        self.callbacks = {name: kind() for name, kind in zip(names, kinds, strict=True)}
        # Left open, the next run of a sweep would be told to the first one's.
        may_stay = [name for name in ("wandb", "swanlab") if name in names]
        self.to_close = [name for name in may_stay if open_run(name) is None]
        for callback in self.callbacks.values():
            if hasattr(callback, "logging_dir"):  # TensorBoard's, where a resumed run goes on
                callback.logging_dir = callback.logging_dir or str(self.run.path / "tensorboard")
        self._each(lambda name, callback: name == "swanlab" and open_swanlab(self.run.name))
        self._tell("on_train_begin")

    def log(self, logs: dict[str, Any]) -> None:
        self._tell("on_log", logs=dict(logs))

    def answers(self, last: bool = False) -> None:
        """The policy's answers of this update as a table, or ``last`` those after the training."""
        if not self.callbacks:
            return
        rows = answers_rows(self.run.records(SAMPLES), self.state.global_step, last)
        if rows:
            told = (self.settings, self.state, TrainerControl())
            self._each(lambda name, callback: tell_answers(name, callback, rows, *told))

    def adapter(self) -> None:
        """The finished adapter, where the recipe asks for it and the tracker takes files."""
        if not self.recipe.run.report_adapter:
            return
        for name in set(TAKES_NO_FILES) & set(self.callbacks):
            self.say(f"{name} takes no files; the adapter is in {self.run.adapter}")
        self._each(
            lambda name, callback: (
                name in TAKES_NO_FILES or send_adapter(name, self.run.name, self.run.adapter)
            )
        )

    def end(self) -> None:
        self._tell("on_train_end")
        for name in self.to_close:
            with contextlib.suppress(Exception):
                if open_run(name) is not None:
                    sys.modules[name].finish()
        self.callbacks, self.to_close = {}, []

    def _tell(self, event: str, **more: Any) -> None:
        told = (self.settings, self.state, TrainerControl())
        self._each(lambda name, callback: getattr(callback, event)(*told, model=self.model, **more))

    def _each(self, work: Callable[[str, Any], Any]) -> None:
        for name, callback in list(self.callbacks.items()):
            try:
                work(name, callback)
            except Exception as error:  # somebody else's program, over a network
                del self.callbacks[name]
                why = (str(error).splitlines() or [type(error).__name__])[0][:200]
                self.say(f"{name} is left out from now on: {why}")
