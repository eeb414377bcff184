"""Reference, policy and other runs answer the same prompts, from one loaded base."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from dpo_lite.compare.columns import columns, prompts_of
from dpo_lite.compare.lockstep import Sampling
from dpo_lite.compare.shared_base import ScoredAnswer, ask, load_shared_base
from dpo_lite.errors import UserError
from dpo_lite.recipe import load_recipe
from dpo_lite.runs.folder import Run

MOST_ASKED = 3


def compare_answers(
    run: Run,
    names: Sequence[str],
    prompts: Sequence[str],
    sampling: Sampling,
    folder: str | Path = "runs",
) -> Iterator[tuple[str, list[ScoredAnswer]]]:
    """Answer each prompt as every column; without prompts those of the recipe are asked.

    ``names`` are ``reference``, ``policy`` or other runs of the same base. All that is wrong with
    them is raised before the base is loaded.
    """
    wanted = columns(run, names, folder)
    prompts = prompts or load_recipe(run.recipe_file).eval.prompts or prompts_of(run)[:MOST_ASKED]
    if not prompts:
        raise UserError('There is nothing to ask: give --prompt "..." or set eval.prompts.')
    base = load_shared_base(run)
    for prompt in prompts:
        yield prompt, ask(base, run, wanted, prompt, sampling)
