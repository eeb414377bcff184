"""What is compared with what: a column is one set of weights, named and fingerprinted.

Read from run folders alone; nothing is loaded here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dpo_lite.errors import UserError
from dpo_lite.model.adapter_files import (
    CONFIG,
    WEIGHTS,
    is_reward,
    judges_only,
    start_adapter,
    trained_adapter,
)
from dpo_lite.recipe import Recipe, load_recipe
from dpo_lite.runs.folder import Run, open_run
from dpo_lite.runs.rlhf_steps import refuse_composed
from dpo_lite.tasks import TASKS

REFERENCE = "reference"
POLICY = "policy"
AT = "@"  # between a policy's name and its strength; no run's name has it
MOST_STRENGTH = 10.0


@dataclass(frozen=True)
class Column:
    """``adapter``: a folder or Hub id, None for the bare base. Equal fingerprints, equal model.

    ``between``: of a mixture its reference and its policy, of which ``strength`` counts.
    """

    label: str
    adapter: str | None
    fingerprint: str
    between: tuple[Column, Column] | None = None
    strength: float = 1.0

    @property
    def parts(self) -> tuple[Column, ...]:
        """The columns that must be loaded for it."""
        return self.between or (self,)


def columns(main: Run, names: Sequence[str], folder: str | Path = "runs") -> list[Column]:
    """Columns by name: ``reference`` and ``policy`` of the main run, or another run's name.

    A policy at another strength is its name, an @ and the strength: ``policy@0.5`` (see mixing).

    Raises UserError where a run has no adapter, a reward model's, or not the main run's base.
    """
    refuse_composed(main)
    recipe = load_recipe(main.recipe_file)
    if TASKS[recipe.task].head:
        raise UserError(judges_only(main.name, f"see them by `dpo-lite best-of {main.name}`"))
    compared = [_column(main, recipe, name, folder) for name in names]
    if not compared:
        raise UserError("There is nothing to compare; name reference, policy or a run.")
    return compared


def _column(main: Run, recipe: Recipe, name: str, folder: str | Path) -> Column:
    name, at, strength = name.partition(AT)
    if at:
        return _at_strength(main, recipe, name, read_strength(strength), folder)
    if name == REFERENCE:
        return _reference(main, recipe)
    run = main if name in (POLICY, main.name) else open_run(name, folder)
    adapter = str(trained_adapter(run))
    if is_reward(Path(adapter)):
        raise UserError(judges_only(run.name, "name the run of a policy"))
    if run.path != main.path:
        _check_same_base(main, recipe, run, load_recipe(run.recipe_file))
    return Column(run.name, adapter, fingerprint(recipe, adapter))


def _reference(run: Run, recipe: Recipe) -> Column:
    adapter = start_adapter(run, recipe) if recipe.reference == "start" else None
    return Column(REFERENCE, adapter, fingerprint(recipe, adapter))


def _at_strength(
    main: Run, recipe: Recipe, name: str, strength: float, folder: str | Path
) -> Column:
    """A run's policy at a strength, from that run's own reference."""
    if name == REFERENCE:
        raise UserError("A strength is of a policy; the reference is strength 0.")
    policy = _column(main, recipe, name, folder)
    own = main if policy.label == main.name else open_run(name, folder)
    reference = _reference(own, load_recipe(own.recipe_file))
    if strength in (0, 1):  # one of the two as it is
        same = policy if strength else reference
        return replace(same, label=f"{policy.label}{AT}{strength:g}")
    return mixture(reference, policy, strength)


def mixture(reference: Column, policy: Column, strength: float) -> Column:
    made_of = f"{reference.fingerprint} {policy.fingerprint} {strength!r}"
    digest = hashlib.sha256(made_of.encode()).hexdigest()[:12]
    label = f"{policy.label}{AT}{strength:g}"
    return Column(label, None, digest, (reference, policy), strength)


def read_strength(text: str) -> float:
    """Raises UserError for what is no strength."""
    try:
        strength = float(text)
    except ValueError:
        strength = math.nan
    if not 0 <= strength <= MOST_STRENGTH:
        raise UserError(
            f"A strength is a number from 0, the reference, over 1, the policy, to"
            f" {MOST_STRENGTH:g}, not {text!r}."
        )
    return strength


def _check_same_base(main: Run, recipe: Recipe, run: Run, other: Recipe) -> None:
    """One loaded base serves all columns, and one prompt is laid out in one way for all."""
    facts = {
        "model.base": lambda r: r.model.base,
        "model.revision": lambda r: r.model.revision,
        "model.quantization": lambda r: r.model.quantization,
        "data.format raw": lambda r: r.data.raw,
        "data.template": lambda r: r.data.template,
    }
    for key, of in facts.items():
        if of(recipe) != of(other):
            raise UserError(
                f"{run.name} cannot stand beside {main.name}: its {key} is {of(other)}, not "
                f"{of(recipe)}; compare runs of one base."
            )


def fingerprint(recipe: Recipe, adapter: str | None) -> str:
    """Twelve digits of a hash: of the adapter's files, else of the names of base and adapter."""
    digest = hashlib.sha256()
    if adapter and Path(adapter).is_dir():
        for name in (CONFIG, WEIGHTS):
            digest.update((Path(adapter) / name).read_bytes())
    else:
        model = recipe.model
        digest.update(repr((model.base, model.revision, model.quantization, adapter)).encode())
    return digest.hexdigest()[:12]


def prompts_of(run: Run) -> list[str]:
    """What the run was asked before and after its training: the recipe's prompts come first."""
    asked = load_recipe(run.recipe_file).eval.prompts
    return list(dict.fromkeys([*asked, *(s["prompt"] for s in run.records("samples.jsonl"))]))
