"""`dpo-lite merge`: a run's adapter merged, measured, and made ready for other programs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dpo_lite.errors import UserError
from dpo_lite.export import llama_cpp, ollama
from dpo_lite.export.change import Change, measure_change
from dpo_lite.export.merge import merge
from dpo_lite.files import write_json
from dpo_lite.model.adapter_files import TOKENIZER
from dpo_lite.recipe import load_recipe
from dpo_lite.runs.checkpoints import find_checkpoint
from dpo_lite.runs.folder import Run
from dpo_lite.runs.rlhf_steps import refuse_composed
from dpo_lite.tasks import TASKS


@dataclass(frozen=True)
class Merged:
    folder: Path
    base: str
    changed: int  # weights
    change: Change | None
    commands: list[str] = field(default_factory=list)  # to go on with
    notes: list[str] = field(default_factory=list)


def merge_run(
    run: Run,
    out: Path,
    base: str | None = None,
    checkpoint: str | None = None,
    measure: bool = True,
    gguf_ready: bool = False,
    modelfile: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Merged:
    """Merge into the 16-bit base: the run's, what its quantised base is a copy of, or ``base``.

    ``measure`` reports the change of log-probabilities (only for the finished adapter).
    """
    wanted, revision = source_of(run, base)
    recipe = load_recipe(run.recipe_file)
    if checkpoint is None and not run.adapter.is_dir():
        raise UserError(
            f"{run.path} has no adapter yet ({run.status()['state']}); finish it, or merge what "
            "there is with --checkpoint last."
        )
    adapter = run.adapter if checkpoint is None else find_checkpoint(run, checkpoint)[0]
    done = merge(wanted, revision, str(adapter), out, say, recipe.model.trust_remote_code)
    for name in TOKENIZER:  # the run's own, where it differs from the base's
        if (run.adapter / name).is_file():
            shutil.copyfile(run.adapter / name, out / name)
    change = measure_change(run, out, say=say) if measure and checkpoint is None else None
    facts = {"run": run.name, "base": wanted, "revision": revision, "weights": done["changed"]}
    write_json(out / "merge.json", facts | {"change": change and change.to_json()})
    commands, notes = [], []
    if gguf_ready or modelfile:
        llama_cpp.make_ready(out)
        commands += llama_cpp.commands(out)
    if modelfile:
        note = ollama.write_modelfile(out, f"./{out.name}-Q4_K_M.gguf")
        notes += [f"Modelfile: {note}"] if note else []
        commands.append(f"ollama create {out.name.lower()} -f {out / 'Modelfile'}")
    return Merged(out, wanted, done["changed"], change, commands, notes)


def source_of(run: Run, base: str | None = None) -> tuple[str, str | None]:
    """The 16-bit base that a run's adapter is merged into, and its revision.

    Raises UserError for a run whose adapter is no language model's.
    """
    refuse_composed(run)
    recipe, manifest = load_recipe(run.recipe_file), run.manifest()
    if TASKS[recipe.task].head:
        instead = "its adapter is loaded as its card says (`dpo-lite push --dry-run`)"
        raise UserError(
            f"{run.name} is a reward model, whose head no language model has; {instead}."
        )
    wanted = base or manifest.get("quantised_from") or recipe.model.base
    return wanted, manifest.get("base_revision") if wanted == recipe.model.base else None
