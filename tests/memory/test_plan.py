"""The plan for a Llama 3.1 8B that nobody has here: what it gives up, in which order, and when."""

from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig

from dpo_lite.errors import UserError
from dpo_lite.memory.capacity import GIB, card, host_needs, passes, seconds_per_epoch
from dpo_lite.memory.longest import longest_example, longest_pair
from dpo_lite.memory.plan import Choice, advice, choices, choose_plan, predict
from dpo_lite.memory.trial import AFTER_FAILURE, Trial, settle
from dpo_lite.model.dry_run import costs_of_config, divided
from dpo_lite.model.tiles import TILE
from dpo_lite.recipe import Recipe

EXAMPLES = [
    {"prompt_ids": list(range(3, 83)), "response_ids": [list(range(40)), list(range(50))]}
] * 4
LAYERS = 32


def recipe(**changes):
    values = {"model": {"base": "some/base"}, "data": {"train": "builtin:myths"}}
    for key, value in changes.items():
        section, _, name = key.partition("_")
        values.setdefault(section, {})[name] = value
    return Recipe(**values)


@pytest.fixture(scope="module")
def costs():
    config = LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_attention_heads=32,
        num_key_value_heads=8,
        num_hidden_layers=LAYERS,
        vocab_size=128256,
    )
    return costs_of_config(config, recipe(), torch.bfloat16, EXAMPLES, fuse=True)


@pytest.mark.slow
def test_the_weights_of_a_large_base_are_known_without_them(costs):
    # 6.98 G linear weights at 4.127 bits, embeddings and head of 0.525 G each at 16 bits.
    by_hand = (6_979_321_856 * 4.127 / 8 + 2 * 525_336_576 * 2) / GIB
    assert costs.weights / GIB == pytest.approx(by_hand, rel=1e-3)
    assert costs.embedding == 525_336_576 * 2
    assert costs.trained == 41_943_040  # rank 16 on all linear layers


@pytest.mark.slow
def test_weights_that_are_divided_over_two_cards(costs):
    """Half of all but the scales, and whole at a time a layer and the embedding before it."""
    scales = 6_979_321_856 * 0.127 / 8
    layer = 6_979_321_856 / LAYERS * 4.127 / 8 + 2 * 4096 * 2
    embedding = 525_336_576 * 2
    by_hand = scales + (costs.weights - scales) / 2 + layer + embedding
    assert divided(costs, 2).weights == pytest.approx(by_hand, rel=1e-3)
    assert divided(costs, 2).trained == costs.trained
    assert divided(costs, 4).weights < divided(costs, 2).weights


def test_eight_billion_at_4096_tokens_in_ten_gib(costs):
    plan = predict(costs, Choice("layers", LAYERS), 4096)
    assert plan.total < 10 * GIB


@pytest.mark.parametrize(
    ("memory", "how"),
    [
        ("80GB", "none"),
        ("24GB", "none"),
        ("20GB", "selective"),
        ("12GB", "layers"),
        ("9GB", "layers"),
    ],
)
def test_no_more_is_given_up_than_a_card_needs(costs, memory, how):
    plan = choose_plan(costs, recipe(), 1024, card(memory)[0])
    assert plan.choice.recompute == how
    assert plan.total <= card(memory)[0]
    assert plan.budget >= 4096


def test_the_head_and_a_layers_workspace_are_not_in_use_together(costs):
    """2^24 logits of 12 bytes, and a product of 4,096 by 14,336 unpacked twice beside the gradients
    of its tokens: the larger of the two counts."""
    for budget in (512, 4096):
        plan = predict(costs, Choice(), budget)
        workspace = 4 * 4096 * 14336 + 6 * budget * 14336
        assert plan.head + plan.workspace == max(12 * 2**24, workspace)


def test_layers_are_recomputed_one_by_one(costs):
    """Between selective and all layers: the fewest that fit, so one fewer would not."""
    asked = recipe()
    for gib in range(10, 20):
        plan = choose_plan(costs, asked, 1024, gib * GIB)
        if plan.choice.recompute == "layers" and plan.choice.optimizer == "adamw":
            fewer = replace(plan.choice, recomputed=plan.choice.recomputed - 1)
            assert predict(costs, fewer, plan.budget).total > gib * GIB
            break
    else:
        pytest.fail("no card between selective and all layers")


def test_eight_gib(costs):
    """The optimiser in 8 bits, the embedding on the host; with 7 GiB the layers' inputs too."""
    memory = card("8GB")[0]
    plan = choose_plan(costs, recipe(), 1024, memory)
    assert plan.total <= memory
    assert plan.choice == Choice("layers", LAYERS, "adamw_8bit", "cpu")
    assert plan.budget >= 4096
    less = choose_plan(costs, recipe(), 1024, card("7GB")[0])
    assert less.choice == Choice("offload", LAYERS, "adamw_8bit", "cpu")
    assert less.total <= card("7GB")[0]
    held = choose_plan(costs, recipe(model_embeddings="gpu", train_optimizer="adamw"), 1024, memory)
    assert held.choice == Choice("offload", LAYERS)  # what it says stays, so all else goes
    assert held.total <= memory


def test_tiles_only_where_an_example_is_longer_than_one(costs):
    """All layers recomputed come first, the optimiser's precision after them."""
    for longest, tiles in ((TILE, False), (TILE + 64, True)):
        found = list(choices(costs, recipe(), longest))
        assert [choice.tile for choice in found if choice.tile] == [TILE] * 4 * tiles
        first = next((number for number, choice in enumerate(found) if choice.tile), None)
        if first is not None:
            assert found[first - 1] == Choice("layers", LAYERS)
            assert found[first] == Choice("layers", LAYERS, tile=TILE)
            assert found[first + 1].optimizer == "adamw_8bit"
    asked = recipe(train_checkpointing="selective")
    assert not any(choice.tile for choice in choices(costs, asked, 2 * TILE))
    assert not any(c.tile for c in choices(replace(costs, tiled=0.0), recipe(), 2 * TILE))


def test_a_tile_has_what_a_whole_row_would(costs):
    """Of a row shorter than a tile nothing changes; each further token costs what attention keeps,
    and no MLP: less than half."""
    whole, tiled = Choice("offload", LAYERS), Choice("offload", LAYERS, tile=TILE)
    assert predict(costs, tiled, TILE).parts == predict(costs, whole, TILE).parts

    def each(choice):
        more, less = (predict(costs, choice, count * TILE).total for count in (16, 8))
        return (more - less) / (8 * TILE)

    assert each(tiled) < 0.5 * each(whole)


@pytest.mark.parametrize(
    ("memory", "tokens"), [("8GB", 8_000), ("12GB", 24_000), ("16GB", 45_000), ("24GB", 80_000)]
)
def test_how_long_an_example_may_be(costs, memory, tokens):
    """On each card more than twice as long as without tiles; one step longer does not fit."""
    usable = card(memory)[0]
    room = longest_example(costs, recipe(), usable)
    assert room.budget > tokens
    assert room.total <= usable
    assert room.on_host == LAYERS * 2 * 4096 * room.budget
    needs = host_needs(room, costs, on_card=True)
    assert needs["the layers' inputs"] == room.on_host
    assert ("the embedding" in needs) == (room.choice.embeddings == "cpu")
    assert choose_plan(costs, recipe(), room.budget + 256, usable).total > usable
    assert longest_example(replace(costs, tiled=0.0), recipe(), usable).budget < room.budget / 1.9


def test_no_example_is_longer_than_the_base_has_positions(costs):
    """2,000 positions, to be filled by both responses; what is looked for goes in steps of 256."""
    most = longest_pair(2000)
    assert most == 4096
    assert longest_example(costs, recipe(), card("24GB")[0], most).budget == most
    assert longest_pair(None) == longest_pair(2**30) == 2**20


def test_a_base_that_does_not_fit_has_no_longest_example(costs):
    assert longest_example(costs, recipe(), card("5GB")[0]) is None


def test_what_the_recipe_says_stays(costs):
    asked = recipe(train_checkpointing=True, train_optimizer="adamw_8bit", train_token_budget=1024)
    plan = choose_plan(costs, asked, 512, card("3090")[0])
    assert plan.choice == Choice("layers", LAYERS, "adamw_8bit", "gpu")
    assert plan.budget == 1024


@pytest.mark.parametrize("checkpointing", [True, "selective", "offload", "auto"])
def test_a_large_budget_that_is_asked_for_is_kept(costs, checkpointing):
    asked = recipe(train_checkpointing=checkpointing, train_token_budget=8192)
    plan = choose_plan(costs, asked, 512, card("12GB")[0])
    assert plan.budget == 8192
    assert plan.choice.recompute != "none"


def test_no_more_tokens_than_an_update_has(costs):
    assert choose_plan(costs, recipe(), 100, card("h200")[0], most=1600).budget == 1600
    assert choose_plan(costs, recipe(), 100, None, most=1600).budget == 1600
    assert choose_plan(costs, recipe(), 100, None).budget == 2048


def test_a_model_that_cannot_recompute_gets_smaller_batches(costs):
    plan = choose_plan(replace(costs, recomputable=False), recipe(), 512, card("12GB")[0])
    assert plan.choice.recompute == "none"


def test_what_does_not_fit_gets_advice(costs):
    memory = card("5GB")[0]
    plan = choose_plan(costs, recipe(), 1024, memory)
    assert plan.total > memory
    asked = recipe(train_optimizer="adamw", model_embeddings="gpu", train_checkpointing=True)
    memory = card("8GB")[0]
    plan = choose_plan(costs, asked, 4096, memory)
    ways = " ".join(advice(plan, costs, asked, memory))
    assert "train.checkpointing=auto" in ways
    assert "data.max_length=" in ways
    assert "train.optimizer=auto saves 0.23 GiB" in ways
    assert "model.embeddings=auto saves 0.98 GiB" in ways
    assert advice(plan, costs, asked, card("3090")[0]) == []
    with pytest.raises(UserError, match="no card that is known"):
        card("voodoo")


def test_time_counts_forward_passes(costs):
    """Policy, its gradient, the reference; all layers again is one more, a known reference less."""
    assert passes(Choice(), LAYERS) == 3
    assert passes(Choice("layers", LAYERS), LAYERS) == 4
    assert passes(Choice("layers", 8), LAYERS, cached=True) == 2.25
    best, worst = seconds_per_epoch(costs, Choice(), 1000, 0, 1e12)
    assert worst / best == pytest.approx(0.6 / 0.35)
    assert best == pytest.approx(2 * costs.linear * 1000 * 3 / 1e12 / 0.6)


class Card:
    """A card whose updates take ``factor`` times what is predicted, and which holds ``memory``."""

    def __init__(self, costs, memory, factor):
        self.costs, self.memory, self.factor = costs, memory, factor
        self.tried = []

    def choose(self, factor):
        return choose_plan(self.costs, recipe(), 1024, self.memory, factor=factor)

    def attempt(self, plan):
        self.tried.append(plan)
        needed = predict(self.costs, plan.choice, plan.budget, self.factor)
        if needed.total > self.memory:
            return None
        moments = needed.adapter_and_optimizer - 8 * self.costs.trained
        return Trial(0.69, 1.0, plan.budget, needed.total - moments, None)


def test_a_right_plan_is_tried_once(costs):
    here = Card(costs, card("12GB")[0], 1.0)
    plan, trial = settle(costs, here.choose, here.attempt)
    assert len(here.tried) == 1
    assert plan.total == pytest.approx(here.tried[0].total, rel=1e-6)
    assert trial.tokens == plan.budget


@pytest.mark.parametrize("factor", [1.4, 2.0])
def test_a_plan_that_is_too_bold_gives_up_more(costs, factor):
    here = Card(costs, card("12GB")[0], factor)
    plan, _ = settle(costs, here.choose, here.attempt)
    assert len(here.tried) > 1
    assert plan.total <= here.memory
    assert here.attempt(plan) is not None


def test_a_plan_that_is_too_timid_gives_up_less(costs):
    here = Card(costs, card("12GB")[0], 0.6)
    first = here.choose(1.0)
    plan, _ = settle(costs, here.choose, here.attempt)
    assert plan.choice.recomputed < first.choice.recomputed or plan.choice.recompute != "layers"
    assert here.attempt(plan) is not None


def test_what_fits_nowhere_stops_in_words(costs):
    here = Card(costs, 6.5 * GIB, AFTER_FAILURE**8)
    with pytest.raises(UserError, match="do not fit in the GPU's memory"):
        settle(costs, here.choose, here.attempt)
