"""The calls: each does what the command of its name does, by the same functions.

Keyword arguments are keys of a recipe (docs/recipes.md): by the last part of their name where it is
one key's alone (``beta``, ``lr``, ``base``), by the whole name in ``keys={"train.beta": 0.05}``. A
name that is no key's is the same sentence as on the command line. Whatever a user can put right
raises UserError.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from dpo_lite.api.asked import asked_recipe
from dpo_lite.api.views import Answers, Plan, Run
from dpo_lite.errors import UserError, in_words
from dpo_lite.imports import quick_imports
from dpo_lite.recipe import load_recipe
from dpo_lite.runs.folder import Run as Folder
from dpo_lite.runs.folder import open_run
from dpo_lite.runs.rlhf_steps import first_look
from dpo_lite.runs.transcript import WIDTH, Transcript
from dpo_lite.tasks import TASKS
from dpo_lite.training import launcher

Named = str | Path | Mapping[str, Any] | None
P = ParamSpec("P")
R = TypeVar("R")


def _told(call: Callable[P, R]) -> Callable[P, R]:
    """What a disk or a card has caused is a UserError too; several processes are refused."""

    @wraps(call)
    def told(*given: P.args, **named: P.kwargs) -> R:
        if launcher.launched():
            raise UserError(
                f"{call.__name__}() is for one process; to train in several, launch the command:"
                " torchrun --nproc-per-node 2 -m dpo_lite train RECIPE (docs/several-cards.md)."
            )
        try:
            return call(*given, **named)
        except UserError:
            raise
        except Exception as error:
            words = in_words(error)
            if words is None:
                raise
            raise UserError(words) from error

    return told


@_told
def train(
    recipe: Named = None,
    /,
    *,
    keys: Mapping[str, Any] | None = None,
    resume: str | Path | Run | None = None,
    verbose: bool = False,
    **given: Any,
) -> Run:
    """Train: data, preflight, answers before, training, evaluation, answers after.

    ``train("quickstart", beta=0.05)`` starts from a recipe, ``train(base=..., data=rows)`` from
    none. ``data`` and ``eval`` take rows as well: a list of dicts, a pandas DataFrame or a
    ``datasets.Dataset``. ``resume`` goes on with a stopped run. Interrupting it (Ctrl-C, a
    notebook's stop) finishes the update, saves and returns the stopped run.
    """
    console = _console(verbose)
    if resume is not None:
        if recipe is not None or keys or given:
            raise UserError(
                "resume goes on with the run's own recipe; leave the recipe and the keys away."
            )
        run = _folder(resume, "runs")
        return _trained(lambda: _runner(load_recipe(run.recipe_file)).resume(run, console))
    if recipe is None and not keys and not given:
        raise UserError(
            'Which recipe? train("quickstart"), or train(base="...", data=[...]);'
            " `dpo-lite recipes` lists them."
        )
    asked, stem = asked_recipe(recipe, keys, given, _say(console))
    return _trained(lambda: _runner(asked).start(asked, stem, console))


@_told
def plan(
    recipe: Named = None,
    /,
    *,
    gpu: str | None = None,
    keys: Mapping[str, Any] | None = None,
    **given: Any,
) -> Plan:
    """Memory and time before anything is downloaded: ``plan("qwen3-4b", gpu="12GB").fits``.

    ``gpu``: a card's name or memory; without it this machine. All else as in ``train``.
    """
    asked, stem = asked_recipe(recipe, keys, given, _say(_console(False)))
    first, note = first_look(asked, stem)
    with quick_imports():
        from dpo_lite.jobs.forecast import forecast
    return Plan(forecast(first, gpu), note)


@_told
def compare(
    run: str | Path | Run,
    /,
    *prompts: str,
    beside: Sequence[str] = (),
    reference: bool = True,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    repetition_penalty: float = 1.0,
    max_new_tokens: int = 64,
    seed: int = 0,
    runs: str | Path = "runs",
) -> Answers:
    """Reference, policy and other runs answer the same prompts, from one loaded base.

    ``beside``: names of other runs of this base. Without prompts those of the recipe are asked. At
    temperature 0 it is greedy; else all columns draw by the same noise.
    """
    folder = _folder(run, runs)
    with quick_imports():
        from dpo_lite.compare.answers import compare_answers
        from dpo_lite.compare.columns import POLICY, REFERENCE
        from dpo_lite.compare.lockstep import Sampling
        from dpo_lite.model.device_memory import release
        from dpo_lite.model.download import fetch_weights
        from dpo_lite.runs.device_lock import device_lock
    names = [*([REFERENCE] if reference else []), POLICY, *beside]
    sampling = Sampling(temperature, top_p, top_k, repetition_penalty, max_new_tokens, seed)
    found, say = Answers(), _say(_console(False))
    with device_lock("compare", say=say):
        fetch_weights(load_recipe(folder.recipe_file).model, say)
        for prompt, answers in compare_answers(folder, names, prompts, sampling, runs):
            found.append(
                {
                    "prompt": prompt,
                    "answers": {answer.label: answer.text for answer in answers},
                    "rewards": {answer.label: answer.reward for answer in answers},
                }
            )
    release()
    return found


@_told
def load(run: str | Path | Run, /, *, runs: str | Path = "runs") -> tuple[Any, Any]:
    """The model with the run's adapter on it, as PEFT's, and the tokenizer: to generate with.

    ``model.generate`` answers as the policy, and as the base inside ``with
    model.disable_adapter():``. Raises UserError for a reward model, which answers nothing.
    """
    folder = _folder(run, runs)
    with quick_imports():
        from dpo_lite.model.adapter_files import judges_only
        from dpo_lite.model.download import fetch_weights
        from dpo_lite.training.loaded import load_trained
    recipe = load_recipe(folder.recipe_file)
    if TASKS[recipe.task].head:
        raise UserError(judges_only(folder.name, f"see them by `dpo-lite score {folder.name}`"))
    fetch_weights(recipe.model, _say(_console(False)))
    _, tokenizer, model = load_trained(folder)
    model.requires_grad_(False)
    model.eval()
    model.config.use_cache = True  # which a training has no use for
    return model, tokenizer


@_told
def show(run: str | Path, /, *, runs: str | Path = "runs") -> Run:
    """A run that is there already, by its name or folder; also while it trains."""
    return Run(_folder(run, runs))


def _folder(run: str | Path | Run, runs: str | Path) -> Folder:
    if isinstance(run, Run):
        return run.folder
    if not isinstance(run, str | Path):
        raise UserError(f"A run is named by its name or folder, not by a {type(run).__name__}.")
    return open_run(run, runs)


def _runner(recipe: Any) -> Any:
    """The module that takes the recipe's run through."""
    return TASKS[recipe.task].run


def _trained(work: Callable[[], Folder]) -> Run:
    """The run that the work leaves; its model's memory is given back."""
    try:
        return Run(work())
    finally:
        from dpo_lite.model.device_memory import release

        release()


def _console(verbose: bool) -> Transcript:
    """Bars on a terminal; in a notebook lines, of which rich would make an output each."""
    if "ipykernel" in sys.modules:
        return Transcript(verbose, force_jupyter=False, force_terminal=False, width=WIDTH)
    return Transcript(verbose)


def _say(console: Transcript) -> Callable[[str], None]:
    return lambda text: console.print(text, markup=False, highlight=False)
