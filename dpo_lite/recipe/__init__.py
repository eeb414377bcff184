"""The recipe: one YAML file that says what a run does.

``sections`` and the section files beside it hold the keys, ``schema`` puts them together,
``loading`` reads files and overrides, ``replaced`` says which keys go with what is overridden,
``faults`` puts what is wrong into words, ``tables`` lists the keys.
"""

from dpo_lite.recipe.data_section import DataSection, HeldOutSource, MixedSource, OneSource
from dpo_lite.recipe.judge_section import JudgeSection
from dpo_lite.recipe.loading import (
    MAX_RECIPE_BYTES,
    RECIPES_FOLDER,
    apply_override,
    apply_overrides,
    find_recipe,
    load_recipe,
    parse_yaml,
    read_recipe,
    recipe_stem,
    recipe_text,
    to_yaml,
    validate_recipe,
)
from dpo_lite.recipe.rewards import JUDGE, OneReward
from dpo_lite.recipe.schema import Recipe
from dpo_lite.recipe.sections import (
    AdapterSection,
    EvalSection,
    HubSection,
    ModelSection,
    RunSection,
    Section,
)
from dpo_lite.recipe.tables import default_text, keys_table, known_keys
from dpo_lite.recipe.task_sections import PPOSection, RLHFSection
from dpo_lite.recipe.train_section import TrainSection

__all__ = [
    "JUDGE",
    "MAX_RECIPE_BYTES",
    "RECIPES_FOLDER",
    "AdapterSection",
    "DataSection",
    "EvalSection",
    "HeldOutSource",
    "HubSection",
    "JudgeSection",
    "MixedSource",
    "ModelSection",
    "OneReward",
    "OneSource",
    "PPOSection",
    "RLHFSection",
    "Recipe",
    "RunSection",
    "Section",
    "TrainSection",
    "apply_override",
    "apply_overrides",
    "default_text",
    "find_recipe",
    "keys_table",
    "known_keys",
    "load_recipe",
    "parse_yaml",
    "read_recipe",
    "recipe_stem",
    "recipe_text",
    "to_yaml",
    "validate_recipe",
]
