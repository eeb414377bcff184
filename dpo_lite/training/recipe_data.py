"""A recipe's tokenizer and its data as token ids; no weights are loaded."""

from __future__ import annotations

from collections.abc import Callable

from dpo_lite.data.prepare import FEW, PreparedData, prepare
from dpo_lite.model.base import load_config, load_tokenizer, position_limit
from dpo_lite.recipe import Recipe
from dpo_lite.tasks import TASKS


def load_data(
    recipe: Recipe, say: Callable[[str], None] = lambda text: None, shown: int = FEW
) -> tuple[object, PreparedData]:
    """The tokenizer, and the data rendered by it and cut to what the base can read.

    What of the recipe follows from the data (weights of labels that are `auto`) is put in.
    """
    say(f"loading the tokenizer of {recipe.model.base}")
    tokenizer = load_tokenizer(recipe.model)
    config = load_config(recipe.model)
    data = prepare(
        recipe.data,
        tokenizer,
        model_limit=position_limit(config),
        vocabulary=getattr(config.get_text_config(), "vocab_size", None),
        room=TASKS[recipe.task].room(recipe),
        seed=recipe.train.seed,
        eval_limit=recipe.eval.limit,
        shown=shown,
        say=say,
    )
    TASKS[recipe.task].weigh(recipe, data.report.labels)
    return tokenizer, data
