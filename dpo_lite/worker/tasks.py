"""The tasks: functions of a ``Talk``, what is ``Held``, and arguments that came as JSON.

Each returns what JSON can say, and raises UserError in one sentence. Heavy imports stand inside, so
that the process answers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from dpo_lite.worker.model_cache import Held
from dpo_lite.worker.protocol import Cancelled, Talk

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
    examine = _import(talk, "dpo_lite.jobs.doctor").examine
    report = examine(source, list(overrides), model, talk.say, examples)
    return report.to_json() | {"notes": report.notes}


def plan(
    talk: Talk, held: Held, recipe: dict[str, Any] | str, gpu: str | None = None
) -> dict[str, Any]:
    """``dpo-lite plan``: memory by part in bytes, time, and the lines that the terminal shows."""
    forecast = _import(talk, "dpo_lite.jobs.forecast").forecast
    loaded, told = _first_look(recipe)
    found = forecast(loaded, gpu, talk.say)
    return {
        "of": told,
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
    preflight = _import(talk, "dpo_lite.jobs.preflight")
    ready = _import(talk, "dpo_lite.training.loaded")
    from dpo_lite.memory.capacity import free_memory
    from dpo_lite.training.loaded import load_data

    loaded, told = _first_look(recipe)
    tokenizer, data = load_data(loaded, talk.say)
    with held.only(talk.say):  # a preflight needs the room that a run will have
        talk.say(f"loading {loaded.model.base}")
        model = ready.load_model(loaded)
        report, _ = preflight.check(ready.Loaded(loaded, tokenizer, data, model), talk.say)
        usable = free_memory(model.device)
        del model
    return {
        "of": told,
        "facts": asdict(report),
        "plan": _plan(report.plan),
        "memory": usable,
        "lines": report.lines(),
        "data": data.report.to_json() | {"notes": data.report.notes},
    }


def generate(
    talk: Talk,
    held: Held,
    run: str,
    columns: Sequence[str],
    prompt: str,
    sampling: dict[str, Any],
) -> list[dict[str, Any]]:
    """One answer per column (``compare.columns``), streamed as ``token`` events with all texts.

    ``sampling``: the fields of ``compare.lockstep.Sampling``. Each column of the result has label,
    fingerprint, text, ended, reward and tokens, a list of (text, implicit reward).
    """
    from dpo_lite.compare.columns import columns as find_columns
    from dpo_lite.recipe import load_recipe
    from dpo_lite.runs.folder import open_run

    found = open_run(run, held.runs)
    wanted = find_columns(found, columns, held.runs)
    base = load_recipe(found.recipe_file).model
    lineups = _import(talk, "dpo_lite.compare.shared_base")
    lockstep = _import(talk, "dpo_lite.compare.lockstep")
    held.take_device(talk.say)
    if not (isinstance(held.model, lineups.Lineup) and held.model.fits(base)):
        held.drop()
        talk.say(f"loading {base.base}")
        held.keep(base.base, lineups.load_lineup(found))
    talk.say("generating")
    talk.polls = True  # the model must not be left half-way between two adapters
    answers = lineups.ask(
        held.model,
        found,
        wanted,
        prompt,
        lockstep.Sampling(**sampling),
        show=lambda texts: talk.emit("token", texts=texts),
        stop=talk.cancelled.is_set,
    )
    if talk.cancelled.is_set():
        raise Cancelled
    return [asdict(said) | {"reward": said.reward} for said in answers]


def merge(
    talk: Talk, held: Held, run: str, out: str, measure: bool = True, modelfile: bool = False
) -> dict[str, Any]:
    """``dpo-lite merge``: folder, base, weights changed, and lines, notes and commands to show."""
    from pathlib import Path

    from dpo_lite.runs.folder import open_run

    found = open_run(run, held.runs)
    merge_run = _import(talk, "dpo_lite.export.run").merge_run
    with held.only(talk.say):  # both models are loaded, one after the other, to compare them
        done = merge_run(found, Path(out), measure=measure, modelfile=modelfile, say=talk.say)
    return {
        "folder": str(done.folder),
        "base": done.base,
        "changed": done.changed,
        "lines": done.change.lines() if done.change else [],
        "notes": done.notes,
        "commands": done.commands,
    }


def free(talk: Talk, held: Held) -> None:
    """Drop what is loaded; the process ends after this task, which frees all that it held."""
    held.free()


TASKS: dict[str, Task] = {
    "doctor": doctor,
    "plan": plan,
    "check": check,
    "generate": generate,
    "merge": merge,
    "free": free,
}


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


def _first_look(recipe: dict[str, Any] | str):
    """The recipe to look at, and of a road a line that says that it is the first step's."""
    from dpo_lite.runs.rlhf_steps import first_look

    return first_look(_recipe(recipe), "road")


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
        "split": plan.words(),
    }
