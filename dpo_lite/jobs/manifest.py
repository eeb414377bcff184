"""The facts that make a run reproducible, as its manifest.json keeps them."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch

import dpo_lite
from dpo_lite.jobs.preflight import Report
from dpo_lite.model.base import compute_device, true_base
from dpo_lite.model.precision import COMPUTED_IN, dtype_of, name_of
from dpo_lite.model.text_model import classes
from dpo_lite.tasks import TASKS
from dpo_lite.training.loaded import Loaded

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "trl", "datasets")


def manifest(loaded: Loaded, report: Report) -> dict[str, Any]:
    """The facts that make a run reproducible."""
    recipe = loaded.recipe
    device = compute_device()
    config = loaded.model.get_base_model().config
    return {
        "dpo_lite": dpo_lite.__version__,
        "versions": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "processes": report.processes,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "base": recipe.model.base,
        "base_revision": getattr(config, "_commit_hash", None) or recipe.model.revision,
        "quantised_from": true_base(recipe.model),
        "loads_as": classes(config),
        "quantization": recipe.model.quantization,
        COMPUTED_IN: name_of(dtype_of(loaded.model)),
        "linear_4bit": report.linear_4bit,
        "share_4bit": round(report.held.share, 4),
        "trained_parameters": report.trained,
        "reference": report.reference,
        "start_adapter": recipe.model.adapter,
        "scoring": report.scoring.way,
        "scoring_reason": report.scoring.reason,
        "task": recipe.task,
        "objective": {
            "loss": recipe.train.loss,
            "beta": recipe.train.beta,
            "label_smoothing": recipe.train.label_smoothing,
            **recipe.train.loss_options,
        },
        **TASKS[recipe.task].mechanics.manifest(recipe),
        "seed": recipe.train.seed,
        "data": {
            "fingerprint": loaded.data.fingerprint,
            "examples": len(loaded.data.train),
            "held_out": {name: len(rows) for name, rows in loaded.data.evals.items()},
            "drawn_from": loaded.data.report.drawn_from,
            "max_length": loaded.data.max_length,
        },
        "predicted_memory": report.plan.total,
    }
