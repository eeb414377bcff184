"""The tasks: functions of a ``Channel``, the ``ModelCache``, and arguments that came as JSON.

Each returns what JSON can say, and raises UserError in one sentence. Imports that need torch stand
inside, behind ``_start_torch``, so that the process answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dpo_lite.compare.columns import columns as find_columns
from dpo_lite.errors import UserError
from dpo_lite.imports import quick_imports
from dpo_lite.recipe import Recipe, load_recipe, parse_yaml, validate_recipe
from dpo_lite.runs.folder import open_run
from dpo_lite.runs.rlhf_steps import first_look
from dpo_lite.worker.model_cache import ModelCache
from dpo_lite.worker.protocol import Cancelled, Channel

Task = Callable[..., Any]


def doctor(
    channel: Channel,
    cache: ModelCache,
    source: str,
    overrides: Sequence[str] = (),
    model: str | None = None,
    examples: int = 3,
    code: bool = True,
) -> dict[str, Any]:
    """The data doctor's report as ``dpo-lite data --json`` gives it, with its notes.

    ``code``: whether Python code that comes with the base may run, if the recipe says so.
    """
    _start_torch(channel)
    from dpo_lite.jobs.doctor import examine

    report = examine(source, list(overrides), model, channel.say, examples, code=code)
    return report.to_json() | {"notes": report.notes}


def plan(
    channel: Channel, cache: ModelCache, recipe: dict[str, Any] | str, gpu: str | None = None
) -> dict[str, Any]:
    """``dpo-lite plan``: memory by part in bytes, time, and the lines that the terminal shows."""
    _start_torch(channel)
    from dpo_lite.jobs.forecast import forecast

    looked_at, note = _first_look(recipe)
    outlook = forecast(looked_at, gpu, channel.say)
    return {
        "of": note,
        "plan": _plan(outlook.plan),
        "memory": outlook.memory,
        "fits": outlook.fits,
        "advice": outlook.advice,
        "epochs": outlook.epochs,
        "notes": outlook.notes,
        "lines": outlook.lines(),
    }


def check(channel: Channel, cache: ModelCache, recipe: dict[str, Any] | str) -> dict[str, Any]:
    """``dpo-lite check``: the preflight's facts and lines, the plan, and the data's report."""
    _start_torch(channel)
    from dpo_lite.jobs import preflight
    from dpo_lite.memory.capacity import free_memory
    from dpo_lite.memory.device_words import device_words
    from dpo_lite.model.download import fetch_weights
    from dpo_lite.training.loaded import Loaded, load_model
    from dpo_lite.training.recipe_data import load_data

    looked_at, note = _first_look(recipe)
    tokenizer, data = load_data(looked_at, channel.say)
    with cache.only(channel.say):  # a preflight needs the room that a run will have
        fetch_weights(looked_at.model, channel.say)
        channel.say(f"loading {looked_at.model.base}")
        model = load_model(looked_at)
        report, _ = preflight.check(Loaded(looked_at, tokenizer, data, model), channel.say)
        usable = free_memory(model.device)
        del model
    return {
        "of": note,
        "facts": asdict(report),
        "plan": _plan(report.plan),
        "memory": usable,
        "lines": [f"device     {device_words()}", *report.lines()],
        "data": data.report.to_json() | {"notes": data.report.notes},
    }


def generate(
    channel: Channel,
    cache: ModelCache,
    run: str,
    columns: Sequence[str],
    prompt: str | list[dict[str, str]],
    sampling: dict[str, Any],
) -> list[dict[str, Any]]:
    """One answer per column (``compare.columns``), streamed as ``token`` events with all texts.

    ``prompt``: one user turn, or the messages before the answer. ``sampling``: the fields of
    ``compare.lockstep.Sampling``. Each column of the result has label, fingerprint, text, ended,
    reward and tokens, a list of (text, implicit reward).
    """
    trained = open_run(run, cache.runs)
    wanted = find_columns(trained, columns, cache.runs)
    section = load_recipe(trained.recipe_file).model
    _start_torch(channel)
    from dpo_lite.compare.lockstep import Sampling
    from dpo_lite.compare.shared_base import SharedBase, ask, load_shared_base
    from dpo_lite.model.download import fetch_weights

    cache.take_device(channel.say)
    if not (isinstance(cache.model, SharedBase) and cache.model.fits(section)):
        cache.drop()
        fetch_weights(section, channel.say)
        channel.say(f"loading {section.base}")
        cache.keep(section.base, load_shared_base(trained))
    channel.say("reading the prompt")
    channel.polls = True  # the model must not be left half-way between two adapters
    answers = ask(
        cache.model,
        trained,
        wanted,
        prompt,
        Sampling(**sampling),
        show=lambda texts: channel.emit("token", texts=texts),
        stop=channel.cancelled.is_set,
    )
    if channel.cancelled.is_set():
        raise Cancelled
    return [asdict(answer) | {"reward": answer.reward} for answer in answers]


def merge(
    channel: Channel,
    cache: ModelCache,
    run: str,
    out: str,
    measure: bool = True,
    modelfile: bool = False,
) -> dict[str, Any]:
    """``dpo-lite merge``: folder, base, weights changed, and lines, notes and commands to show."""
    trained = open_run(run, cache.runs)
    _start_torch(channel)
    from dpo_lite.export.run import merge_run

    with cache.only(channel.say):  # both models are loaded, one after the other, to compare them
        merged = merge_run(
            trained, Path(out), measure=measure, modelfile=modelfile, say=channel.say
        )
    return {
        "folder": str(merged.folder),
        "base": merged.base,
        "changed": merged.changed,
        "lines": merged.change.lines() if merged.change else [],
        "notes": merged.notes,
        "commands": merged.commands,
    }


def gguf(
    channel: Channel,
    cache: ModelCache,
    run: str,
    out: str,
    quant: str,
    measure: bool = True,
) -> dict[str, Any]:
    """``dpo-lite export --to gguf``: folder, files, what survived, and lines to show."""
    trained = open_run(run, cache.runs)
    _start_torch(channel)
    from dpo_lite.export.to_gguf import export_gguf

    with cache.only(channel.say):  # the merged model is loaded beside nothing else
        done = export_gguf(trained, Path(out), quant, measure=measure, say=channel.say)
    return {
        "folder": str(done.folder),
        "files": [file.name for file in done.files],
        "rows": done.rows,
        "warnings": done.warnings,
        "notes": done.notes,
        "commands": done.commands,
    }


def free(channel: Channel, cache: ModelCache) -> None:
    """Drop what is loaded; the process ends after this task, which frees all that it held."""
    cache.free()


TASKS: dict[str, Task] = {
    "doctor": doctor,
    "plan": plan,
    "check": check,
    "generate": generate,
    "merge": merge,
    "gguf": gguf,
    "free": free,
}


def _start_torch(channel: Channel) -> None:
    """Before imports that need torch: the first time they take seconds, so say what is going on."""
    if "torch" not in sys.modules:
        channel.say("starting torch and transformers")
        with quick_imports():
            import dpo_lite.jobs.preflight  # noqa: F401


def _first_look(recipe: dict[str, Any] | str) -> tuple[Recipe, str]:
    """The recipe to look at, and of a run of runs a line that says that it is the first step's."""
    return first_look(_recipe(recipe), "rlhf")


def _recipe(recipe: dict[str, Any] | str) -> Recipe:
    """A recipe from its YAML text, or from its values."""
    values = parse_yaml(recipe, "the recipe") if isinstance(recipe, str) else recipe
    if not isinstance(values, dict):
        raise UserError("The recipe holds no keys; it starts with sections such as `model:`.")
    return validate_recipe(values, "the recipe")


def _plan(plan: Any) -> dict[str, Any]:
    return {
        "parts": plan.parts,
        "total": plan.total,
        "budget": plan.budget,
        "split": plan.words(),
    }
