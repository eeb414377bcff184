"""The recipes of an on-policy round: of its drawing, and of the training on what was drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpo_lite.data.encoding import reading_of
from dpo_lite.data.glance import glance
from dpo_lite.data.held_out_sets import HELD_OUT_SHARE
from dpo_lite.data.sources import read_source
from dpo_lite.recipe import DataSection, HeldOutSource, Recipe, validate_recipe
from dpo_lite.tasks import TASKS

LEARNS = "dpo"  # the task of a round's training


def drawing_recipe(recipe: Recipe, adapter: Path, ppo: dict[str, Any], seed: int) -> Recipe:
    """The run's recipe as one that draws: its base, data and judge, the adapter, and who rewards.

    ``ppo``: reward, answers and max_new_tokens of the section of that name.
    """
    values = recipe.model_dump(include={"model", "data", "judge"}, exclude_unset=True)
    values["model"] = values.get("model", {}) | {"adapter": str(adapter)}
    values["data"].pop("pairs", None)
    return validate_recipe(
        values
        | {"task": "ppo", "ppo": {"estimator": "rloo"} | ppo, "train": {"seed": seed}}
        | {"run": {"folder": recipe.run.folder}},
        "the drawing",
    )


def recipe_of_pairs(recipe: Recipe, adapter: Path, out: Path) -> Recipe:
    """The round's training: DPO on the pairs, from the adapter that drew them and held to it.

    Held out is what the run held out; loss and learning rate are the run's, where it was DPO too.
    """
    include = {"model", "eval"} | ({"train"} if TASKS[recipe.task] is TASKS[LEARNS] else set())
    values = recipe.model_dump(mode="json", include=include, exclude_unset=True)
    values["model"] = values.get("model", {}) | {"adapter": str(adapter)}
    shared = recipe.data.model_dump(
        include={"template", "max_length", "revision", "encoding", "strip_prompt"}
    )
    values["data"] = {"train": str(out), "eval": _held_out(recipe.data)} | shared
    if recipe.data.raw:
        values["data"]["format"] = "raw"
    own = {"task": LEARNS, "reference": "start", "run": {"folder": recipe.run.folder}}
    return validate_recipe(values | own, "the next round")


def _held_out(data: DataSection) -> list[str | dict[str, Any]] | None:
    """What a run holds out as sources that are the same beside other training data, each with its
    own format and columns: splits by their whole names, a share of its prompts as such. Those of
    which no two answers are compared are left out.
    """
    reading = reading_of(data)
    first = read_source(data.sources[0].source, data.revision, reading)
    parts = data.held_out
    if parts is None:
        own = data.sources[0].model_dump(include={"format", "columns"})
        parts = [HeldOutSource(source=name, **own) for name in first.held_out_splits]
    found = [
        part.model_copy(update={"source": first.sibling(part.source)})
        if part.source in first.splits
        else part
        for part in parts
    ]
    if share := data.eval_share or (0.0 if found else HELD_OUT_SHARE):
        sources = [part.model_dump(exclude={"weight"}) for part in data.sources]
        found += [HeldOutSource(**source, share=share) for source in sources]
    pairs: list[str | dict[str, Any]] = []
    for part in found:
        seen = glance(read_source(part.source, data.revision, reading), part.columns, part.format)
        if seen.first is not None and len(seen.first.responses) > 1:
            own = part.model_dump(exclude_none=True)
            own = {key: value for key, value in own.items() if (key, value) != ("format", "auto")}
            pairs.append(own if len(own) > 1 else part.source)
    return pairs or None
