"""A recipe of another task: what was said for the task that it had goes back to its default."""

from __future__ import annotations

from dpo_lite.recipe.edit import inline
from dpo_lite.recipe.replaced import value_of
from dpo_lite.recipe.schema import Recipe, sections_of_tasks
from dpo_lite.recipe.tables import known_keys
from dpo_lite.tasks import TASKS
from dpo_lite.tasks.spec import OF_PAIRS

OF_A_TASK = (
    "data.pairs",
    "train.loss",
    "train.label_smoothing",
    "train.sft_weight",
    "train.simpo_gamma",
    "train.dpop_lambda",
    "train.centering",
    "train.desirable_weight",
    "train.undesirable_weight",
    "train.keep_by",
    *(f"train.{key}" for key in OF_PAIRS),
)
OF_ANSWERS = ("eval.prompts", "eval.sample_steps", "eval.suite")  # which a head does not give


def keys_for(recipe: Recipe, task: str) -> list[str]:
    """What a recipe must say otherwise, as ``key=value``, so that it is one of this task.

    Empty where it is one already. What the other task needs beside it (``ppo.reward``) is the
    caller's to add.
    """
    if recipe.task == task:
        return []
    values = recipe.model_dump()
    known = known_keys()
    foreign = [s for s in sections_of_tasks() if s not in TASKS[task].sections]
    keys = [*OF_A_TASK, *(key for key in known if key.partition(".")[0] in foreign)]
    keys += OF_ANSWERS if TASKS[task].head else ()
    resets = []
    for key in keys:
        default = known[key].get_default(call_default_factory=True)
        if value_of(values, key) != default:
            resets.append(f"{key}={inline(default)}")
    return [f"task={task}", *resets]
