"""The tasks: functions of a ``Talk``, what is ``Held``, and arguments that came as JSON.

Each returns what JSON can say, and raises UserError in one sentence. Heavy imports stand inside, so
that the process answers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from dpo_lite.worker.held import Held
from dpo_lite.worker.talk import Talk

Task = Callable[..., Any]


def doctor(
    talk: Talk,
    held: Held,
    source: str,
    overrides: Sequence[str] = (),
    model: str | None = None,
    examples: int = 3,
) -> dict[str, Any]:
    """The data doctor's report as ``dpo-lite data --json`` gives it, with its notes."""
    examine = _import(talk, "dpo_lite.doctor").examine
    report = examine(source, list(overrides), model, talk.say, examples)
    return report.to_json() | {"notes": report.notes}


def plan(
    talk: Talk, held: Held, recipe: dict[str, Any] | str, gpu: str | None = None
) -> dict[str, Any]:
    """``dpo-lite plan``: memory by part in bytes, time, and the lines that the terminal shows."""
    forecast = _import(talk, "dpo_lite.forecast").forecast
    found = forecast(_recipe(recipe), gpu, talk.say)
    return {
        "plan": _plan(found.plan),
        "memory": found.memory,
        "fits": found.fits,
        "advice": found.advice,
        "epoch": found.epoch,
        "notes": found.notes,
        "lines": found.lines(),
    }


def check(talk: Talk, held: Held, recipe: dict[str, Any] | str) -> dict[str, Any]:
    """``dpo-lite check``: the preflight's facts and lines, the plan, and the data's report."""
    preflight = _import(talk, "dpo_lite.preflight")
    from dpo_lite.doctor import load_data

    loaded = _recipe(recipe)
    tokenizer, data = load_data(loaded, talk.say)
    held.free()  # a preflight needs the room that a run will have
    talk.say(f"loading {loaded.model.base}")
    model = preflight.load_model(loaded)
    report, _ = preflight.check(preflight.Loaded(loaded, tokenizer, data, model), talk.say)
    return {
        "facts": asdict(report),
        "plan": _plan(report.plan),
        "lines": report.lines(),
        "data": data.report.to_json() | {"notes": data.report.notes},
    }


def free(talk: Talk, held: Held) -> None:
    """Drop what is loaded; the process ends after this task, which frees all that it held."""
    held.free()


TASKS: dict[str, Task] = {"doctor": doctor, "plan": plan, "check": check, "free": free}


def _import(talk: Talk, name: str) -> Any:
    """A module that needs torch: the first time takes seconds, so say what is going on."""
    import importlib
    import sys

    if "torch" not in sys.modules:
        talk.say("starting torch and transformers")
    module = importlib.import_module(name)
    from dpo_lite.quiet import quiet_progress_bars

    quiet_progress_bars()
    return module


def _recipe(recipe: dict[str, Any] | str):
    """A recipe from its YAML text, or from its values."""
    from dpo_lite.errors import UserError
    from dpo_lite.recipe import parse_yaml, validate_recipe

    values = parse_yaml(recipe, "the recipe") if isinstance(recipe, str) else recipe
    if not isinstance(values, dict):
        raise UserError("The recipe holds no keys; it starts with sections such as `model:`.")
    return validate_recipe(values, "the recipe")


def _plan(plan) -> dict[str, Any]:
    return {
        "parts": plan.parts,
        "total": plan.total,
        "budget": plan.budget,
        "checkpointing": plan.checkpointing,
    }
