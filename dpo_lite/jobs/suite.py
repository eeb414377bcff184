"""A suite of tasks on a run: what is missing is asked, kept in the run's folder, and reported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from peft import PeftModel
from rich.console import Console

from dpo_lite.data.tokens import encoder_of
from dpo_lite.errors import UserError
from dpo_lite.evaluate.forgetting import (
    FORGETTING,
    WIKITEXT,
    ground_of,
    measure_forgetting,
    paragraphs,
)
from dpo_lite.evaluate.suite import Asked, evaluate_task
from dpo_lite.evaluate.task_table import need_harness, open_tasks
from dpo_lite.model.adapter_files import WEIGHTS, judges_only, trained_adapter
from dpo_lite.model.base import position_limit
from dpo_lite.model.download import fetch_weights
from dpo_lite.model.identity import files_hash
from dpo_lite.model.scoring import causal_lm
from dpo_lite.recipe import Recipe, load_recipe
from dpo_lite.report.run import write_report
from dpo_lite.report.suite import keep_entry, kept_entry
from dpo_lite.runs.device_lock import device_lock
from dpo_lite.runs.folder import Run
from dpo_lite.runs.progress import doing, open_bars
from dpo_lite.runs.rlhf_steps import refuse_composed
from dpo_lite.tasks import TASKS
from dpo_lite.training.loaded import load_trained

Say = Callable[[str], None]
TASK_FILES = ("*.yaml", "*.yml", "*.py", "*.json", "*.jsonl", "*.csv")
INSTEAD = "name the run of a policy, whose answers tasks are about"


def check_suite(recipe: Recipe) -> None:
    """Raise UserError where the recipe's suite could not be asked at the end: before training."""
    names = recipe.eval.suite
    if not names:
        return
    if TASKS[recipe.task].head:
        raise UserError(f"eval.suite: {judges_only('this', 'leave eval.suite away')}")
    _resolved(names, recipe)


def evaluate_suite(run: Run, names: Sequence[str], asked: Asked, console: Console) -> list[Any]:
    """Ask a finished run what is missing of a suite; returns the entries of all of it.

    Raises UserError where a task cannot be asked; what was asked before is kept.
    """
    refuse_composed(run)
    recipe = load_recipe(run.recipe_file)
    if TASKS[recipe.task].head:
        raise UserError(judges_only(run.name, INSTEAD))
    trained_adapter(run)
    named = _resolved(names, recipe, asked.folder)
    settings = _settings(run, named, asked)
    if any(kept_entry(run.path, name, own) is None for name, own in settings.items()):
        with device_lock(f"dpo-lite eval {run.name}", say=console.print):
            with doing(console, "loading the base") as spinner:
                fetch_weights(recipe.model, spinner.update)
                recipe, tokenizer, model = load_trained(run)
            _ask(run, recipe, tokenizer, model, named, settings, asked, console)
    write_report(run)
    entries = [kept_entry(run.path, name, own) for name, own in settings.items()]
    return [entry for entry in entries if entry]


def suite_of_run(
    run: Run, recipe: Recipe, tokenizer: Any, model: PeftModel, console: Console
) -> None:
    """Ask a run that has just been trained what its recipe names; what fails is told and left."""
    asked = Asked(limit=recipe.eval.suite_limit)
    for name in recipe.eval.suite:
        try:
            named = _resolved([name], recipe)
            settings = _settings(run, named, asked)
            _ask(run, recipe, tokenizer, model, named, settings, asked, console)
        except UserError as error:
            again = f"`dpo-lite eval {run.path} --suite {name}` asks it again"
            console.print(f"{error} {again}.", style="yellow", markup=False, highlight=False)


def _resolved(
    names: Sequence[str], recipe: Recipe, folder: str | None = None
) -> dict[str, Path | Any]:
    """By name what it is: a text of one's own, or the harness's table of tasks, which has it."""
    found: dict[str, Path | Any] = {}
    tasks = []
    for name in dict.fromkeys(names):
        if name.partition(":")[0] == FORGETTING:
            found[name] = ground_of(name, recipe.model.base)
            tasks += [] if found[name] else [WIKITEXT]
        else:
            found[name] = None
            tasks.append(name)
    manager = open_tasks(tasks, folder) if tasks else None
    return {name: text or manager for name, text in found.items()}


def _settings(run: Run, named: dict[str, Path | Any], asked: Asked) -> dict[str, dict[str, Any]]:
    """By name all that decides its numbers."""
    adapter = files_hash([trained_adapter(run) / WEIGHTS])[:16]
    settings: dict[str, dict[str, Any]] = {}
    for name, what in named.items():
        if isinstance(what, Path):
            own = {"limit": asked.limit, "text": files_hash([what])[:16]}
        else:
            folder = asked.folder and _folder_hash(Path(asked.folder))
            version = getattr(need_harness(), "__version__", None)
            own = asdict(asked) | {"folder": folder, "lm_eval": version}
        settings[name] = own | {"adapter": adapter}
    return settings


def _folder_hash(folder: Path) -> str:
    """Of one's own tasks: a change of them is another task."""
    files = sorted(path for pattern in TASK_FILES for path in folder.rglob(pattern))
    return files_hash(files)[:16]


def _ask(
    run: Run,
    recipe: Recipe,
    tokenizer: Any,
    model: PeftModel,
    named: dict[str, Path | Any],
    settings: dict[str, dict[str, Any]],
    asked: Asked,
    console: Console,
) -> None:
    """Task after task, each kept when it is done."""
    was_training, lm = model.training, None
    model.eval()
    try:
        for name, what in named.items():
            if kept_entry(run.path, name, settings[name]):
                continue
            with open_bars(console) as bar:
                if isinstance(what, Path):
                    limit = position_limit(causal_lm(model).config)
                    texts = paragraphs(what, asked.limit)
                    entry = measure_forgetting(model, tokenizer, texts, limit, bar)
                else:
                    lm = lm or _harness(recipe, tokenizer, model)
                    task = WIKITEXT if name == FORGETTING else name
                    entry = evaluate_task(lm, what, task, asked, bar)
            keep_entry(run.path, {"suite": name, "settings": settings[name], **entry})
    finally:
        model.train(was_training)


def _harness(recipe: Recipe, tokenizer: Any, model: PeftModel) -> Any:
    from dpo_lite.evaluate.harness import HarnessLM

    return HarnessLM(model, encoder_of(tokenizer, recipe.data))
