"""A run's adapter at another strength: what it adds to the base, times s.

LoRA adds c·B·A to a weight and is linear in B, so s·B is the adapter at strength s and plain PEFT
loads it, whatever reads the file. Where the policy is held to an adapter that it started from,
strength goes from there: start + s·(policy − start), both adapters' ranks side by side, exactly.

This scales weights, where ``dpo-lite compare --strength`` mixes log-probabilities. Near the ends
both say the same, in between they differ a little, so what came of it is measured.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from dpo_lite.errors import UserError
from dpo_lite.files import new_folder, refuse_existing, write_json
from dpo_lite.model import roles
from dpo_lite.model.adapter_files import (
    CONFIG,
    TOKENIZER,
    WEIGHTS,
    adapter_folder,
    config_of,
    is_reward,
    judges_only,
    start_adapter,
    trained_adapter,
)
from dpo_lite.model.stacking import Adapter, concatenated
from dpo_lite.model.tensor_files import load_tensors
from dpo_lite.recipe import Recipe, load_recipe
from dpo_lite.runs.folder import Run
from dpo_lite.tasks import TASKS
from dpo_lite.training.loaded import how_to_score, load_trained
from dpo_lite.training.method import Loaded
from dpo_lite.training.recipe_data import load_data
from dpo_lite.training.sampling import deciding_kl

FACTS = "strength.json"
UP = (".lora_B.", ".lora_embedding_B")  # what the adapter's addition is linear in
DOWN = (".lora_A.", ".lora_embedding_A")
MOST = 10.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """``rows``: (set, measure, reference, before, after) as texts; ``kl``: before and after."""

    folder: Path
    strength: float
    rows: list[tuple[str, ...]] = field(default_factory=list)
    kl: tuple[float, float] | None = None


def export_run(
    run: Run, out: Path, strength: float, measure: bool = True, say: Say = lambda text: None
) -> Exported:
    """Write the run's adapter at a strength into a new folder, and measure what that changed.

    Raises UserError where its strength cannot be set in the weights.
    """
    adapter = trained_adapter(run)
    if is_reward(adapter):
        raise UserError(judges_only(run.name, "name the run of a policy"))
    if not 0 < strength <= MOST:
        raise UserError(f"--strength is a number above 0 and up to {MOST:g}, not {strength:g}.")
    refuse_existing(out)
    made = at_strength(run, load_recipe(run.recipe_file), strength)

    def write() -> None:
        say("writing the adapter")
        _write(made, adapter, out)

    done = Exported(out, strength)
    if measure:
        done = _measured(run, done, write, say)
    else:
        write()
    facts = {"run": run.name, "strength": strength, "kl": done.kl, "measured": done.rows}
    write_json(out / FACTS, facts)
    return done


def at_strength(run: Run, recipe: Recipe, strength: float) -> Adapter:
    """The run's adapter with what it adds to its reference times ``strength``."""
    policy = scaled(read_plain(trained_adapter(run)), strength)
    start = start_adapter(run, recipe) if recipe.reference == "start" else None
    if start is None or strength == 1:
        return policy
    try:
        return concatenated(policy, scaled(read_plain(adapter_folder(start)), 1 - strength))
    except UserError as error:
        raise UserError(
            f"{run.name} is held to the adapter that it started from, and its strength from there"
            f" is a sum of both: {error}"
        ) from error


def read_plain(folder: Path) -> Adapter:
    """A saved adapter that is linear in B. Raises UserError for another one."""
    config, tensors = config_of(folder), load_tensors(folder / WEIGHTS)
    others = sorted(name for name in tensors if not any(part in name for part in UP + DOWN))
    if config.get("use_dora"):
        what = "is DoRA, whose rows have lengths of their own"
    elif others:
        what = f"has more than LoRA's two matrices ({others[0]})"
    else:
        return Adapter(config, tensors)
    raise UserError(
        f"{folder} {what}, so its strength is no factor of its weights; see it by"
        " `dpo-lite compare --strength`."
    )


def scaled(adapter: Adapter, strength: float) -> Adapter:
    """What it adds, times ``strength``; at 1 not a bit changes."""
    tensors = {
        name: tensor * strength if any(part in name for part in UP) else tensor
        for name, tensor in adapter.tensors.items()
    }
    return replace(adapter, tensors=tensors)


def _write(made: Adapter, source: Path, out: Path) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in made.tensors.items()}
    with new_folder(out):
        save_file(tensors, out / WEIGHTS, metadata={"format": "pt"})
        write_json(out / CONFIG, made.config)
        for name in TOKENIZER:
            if (source / name).is_file():
                shutil.copyfile(source / name, out / name)


def _measured(run: Run, done: Exported, write: Callable[[], None], say: Say) -> Exported:
    """Held-out scores and KL of the run's adapter and, on the same base, of what is written."""
    say("loading the base")
    recipe, _, model = load_trained(run)
    tokenizer, data = load_data(recipe, say)
    loaded = Loaded(recipe, tokenizer, data, model)
    before, kl_before = _scores(loaded, say)
    write()
    roles.exchange_policy(model, done.folder)
    after, kl_after = _scores(loaded, say)
    task = TASKS[recipe.task]
    rows = [
        (name, measure, *cells, changed[-1])
        for name in before
        for (measure, *cells), (_, *changed) in zip(
            task.result_rows(before[name]), task.result_rows(after[name]), strict=True
        )
    ]
    kl = None if kl_before is None or kl_after is None else (kl_before, kl_after)
    return replace(done, rows=rows, kl=kl)


def _scores(loaded: Loaded, say: Say) -> tuple[dict[str, dict[str, Any]], float | None]:
    """results.json's scores of every held-out set, and the KL in nats per answer."""
    say("scoring held-out rows")
    objective, budget = how_to_score(loaded)
    sets = {name: list(rows) for name, rows in loaded.data.evals.items() if len(rows)}
    method = TASKS[loaded.recipe.task].mechanics
    scores = method.evaluate(loaded, sets, objective, budget, None, lambda count: None)
    return scores, deciding_kl(loaded, 0) if sets else None
