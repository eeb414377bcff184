"""What the heads of shipped recipes promise, planned from the shapes of their bases alone."""

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from dpo_lite.recipe import library

SCRIPTS = Path(__file__).parents[2] / "scripts"
ON_CARDS = [entry for entry in library.shipped() if entry.card[0].isdigit()]

# Parameters in billions, of published checkpoints.
TEXT = {
    "Qwen/Qwen2.5-0.5B-Instruct": 0.494,
    "meta-llama/Llama-3.2-1B-Instruct": 1.236,
    "meta-llama/Llama-3.1-8B-Instruct": 8.03,
    "mistralai/Mistral-7B-v0.1": 7.24,
    "Qwen/Qwen3-1.7B": 1.72,
    "Qwen/Qwen3-4B": 4.02,
    "Qwen/Qwen3-14B": 14.77,
    "Qwen/Qwen3-30B-A3B-Instruct-2507": 30.53,
    "HuggingFaceTB/SmolLM3-3B": 3.08,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 0.1345,
    "HuggingFaceTB/SmolLM2-360M-Instruct": 0.362,
    "LiquidAI/LFM2.5-1.2B-Instruct": 1.17,
    "ibm-granite/granite-4.0-micro": 3.40,
    "openai/gpt-oss-20b": 20.91,
}
# Of those that also see or hear: of the text model, to the digit that name or card tell.
ROUNDED = {
    "Qwen/Qwen3.5-0.8B": 0.8,
    "Qwen/Qwen3.5-2B": 2,
    "Qwen/Qwen3.5-4B": 4,
    "Qwen/Qwen3.5-9B": 9,
    "google/gemma-4-E4B-it": 8,  # with the embeddings of its layers
    "google/gemma-4-12B-it": 12,
    "mistralai/Ministral-3-3B-Instruct-2512-BF16": 3.4,
    "mistralai/Ministral-3-8B-Instruct-2512-BF16": 8.4,
}


@pytest.fixture(scope="module")
def scripts():
    """The two scripts, which import each other as they do when they run."""
    sys.path.insert(0, str(SCRIPTS))
    yield importlib.import_module("recipe_shapes"), importlib.import_module("recipe_estimates")
    sys.path.remove(str(SCRIPTS))


def test_the_base_of_every_recipe_for_a_card_has_a_shape(scripts):
    shapes, _ = scripts
    assert set(shapes.SHAPES) == {entry.base for entry in ON_CARDS} == {*TEXT, *ROUNDED}


@pytest.mark.parametrize("base", [*TEXT, *ROUNDED])
def test_a_shape_has_the_parameters_of_its_base(base, scripts):
    """A wrong width, number of layers or tie of the embedding is off by more than that."""
    shapes, _ = scripts
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shapes.config_of(base))
    billions = model.num_parameters() / 1e9
    if base in TEXT:
        assert billions == pytest.approx(TEXT[base], rel=5e-3)
    else:
        assert billions == pytest.approx(ROUNDED[base], rel=0.07)


DENSE = {"llama", "mistral", "qwen2", "qwen3", "smollm3"}  # planned in tests/memory, built small


@pytest.mark.long  # eight architectures, each run without data in some seconds
def test_recipes_fit_their_cards_in_about_the_time_they_say(scripts):
    """Of each kind of base that is more than dense layers alike, the recipe with the largest."""
    shapes, estimates = scripts
    largest = {}
    for entry in sorted(ON_CARDS, key=lambda e: (TEXT | ROUNDED)[e.base]):
        largest[shapes.SHAPES[entry.base]["model_type"]] = entry
    for kind in largest.keys() - DENSE:
        entry = largest[kind]
        plan, memory, time = estimates.estimate(entry.recipe, int(entry.card.split()[0]))
        assert plan.total <= memory, entry.name
        told, now = map(words_and_numbers, (entry.time.removesuffix(" (estimate)"), time))
        assert now[2:] == told[2:], entry.name
        assert now[:2] == pytest.approx(told[:2], rel=0.25, abs=1), entry.name


def words_and_numbers(time: str) -> tuple:
    """`6 to 11 h on a 3060` as 6, 11, h and 3060."""
    low, high, unit, card = re.fullmatch(r"(\d+) to (\d+) (h|min) on a (.+)", time).groups()
    return int(low), int(high), unit, card


def test_times_are_whole_hours_or_minutes(scripts):
    _, estimates = scripts
    assert estimates.span(20 * 3600, 34.4 * 3600) == "20 to 34 h"
    assert estimates.span(12 * 60, 21 * 60) == "12 to 21 min"
    assert estimates.span(50 * 60, 89 * 60) == "50 to 89 min"


def test_the_rows_of_the_table(scripts):
    _, estimates = scripts
    times = {16: {"c": "27 to 45 h on a 4060 Ti"}, 8: {"a": "6 to 11 h", "b": "20 to 34 h"}}
    assert estimates.table(times) == (
        "| 8 GB | `a`, `b` | 6 to 34 h on a 3060 |\n| 16 GB | `c` | 27 to 45 h on a 4060 Ti |"
    )
