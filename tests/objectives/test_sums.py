"""Sums of losses: their names, their parts, and their arithmetic by hand."""

import math

import pytest
import torch

from dpo_lite.errors import UserError
from dpo_lite.objectives.losses import LOSSES
from dpo_lite.objectives.preference import loss_at_start, preference_losses
from dpo_lite.objectives.sums import parts_of, summands, written
from dpo_lite.recipe import validate_recipe

MPO = {"sigmoid": 0.8, "bco_pair": 0.2, "sft": 1}


def train(**keys):
    return validate_recipe(
        {"model": {"base": "x"}, "data": {"train": "y"}, "train": keys}, "test"
    ).train


def test_by_hand():
    # rewards log 3 and -log 3: margin log 9, -log sigma = log(10/9); BCO 2 log(4/3)
    rewards = torch.tensor([math.log(3), -math.log(3)])
    name = "0.8 sigmoid + 0.2 bco_pair"
    found = preference_losses(name, rewards, torch.tensor([4, 7]), [2], 0.1)
    assert found.item() == pytest.approx(0.8 * math.log(10 / 9) + 0.2 * 2 * math.log(4 / 3))
    assert loss_at_start(name, 2, 0.1) == pytest.approx(0.8 * math.log(2) + 0.4 * math.log(2))


def test_each_part_takes_what_it_names():
    """ipo lengths and beta, dpop its lambda, sigmoid the smoothing."""
    rewards, lengths = torch.tensor([1.0, -2.0, 0.3, 0.1]), torch.tensor([5, 4, 3, 2])
    others = (lengths, [2, 2], 0.1, 0.2, {"dpop_lambda": 3.0})
    whole = preference_losses("1 sigmoid + 0.5 ipo + 2 dpop", rewards, *others)
    parts = [preference_losses(part, rewards, *others) for part in ("sigmoid", "ipo", "dpop")]
    assert torch.allclose(whole, parts[0] + 0.5 * parts[1] + 2 * parts[2])


@pytest.mark.parametrize("value", [MPO, "0.8 sigmoid + 0.2*bco_pair + sft"])
def test_a_recipe_with_a_sum(value):
    section = train(loss=value)
    assert section.loss == "0.8 sigmoid + 0.2 bco_pair"
    assert (section.sft_weight, section.beta) == (1, 0.1)
    assert section.objective == "0.8 sigmoid + 0.2 bco_pair, beta 0.1, SFT weight 1"
    again = train(loss=section.loss, sft_weight=section.sft_weight)  # as a run's recipe has it
    assert again.loss == section.loss
    assert [(w, loss.name) for w, loss in summands(LOSSES[again.loss])] == [
        (0.8, "sigmoid"),
        (0.2, "bco_pair"),
    ]


def test_names():
    assert written(parts_of({"sigmoid": 1})) == "sigmoid"
    assert written(parts_of("2 ipo")) == "2 ipo"
    assert parts_of("sigmoid + hinge") == {"sigmoid": 1.0, "hinge": 1.0}
    assert summands(LOSSES["hinge"]) == ((1.0, LOSSES["hinge"]),)
    with pytest.raises(KeyError):
        LOSSES["no_such_loss"]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"loss": {"sigmoid": 1, "simpo": 1}}, "no sum of one reward"),
        ({"loss": {"sigmoid": 1, "cpo": 1}}, "no reference"),
        ({"loss": {"sigmoid": 1, "plackett_luce": 1}}, "whole rankings"),
        ({"loss": {"sigmoid": -1}}, "above 0"),
        ({"loss": {"sigmoid": True}}, "above 0"),
        ({"loss": {"sigmoyd": 1}}, "no loss 'sigmoyd'"),
        ({"loss": "sigmoid + sigmoid"}, "more than once"),
        ({"loss": {"sft": 1}}, "besides sft"),
        ({"loss": {"sigmoid": 1, "sft": 1}, "sft_weight": 2}, "one weight"),
        ({"loss": {"sigmoid": 1, "robust": 1}}, "needs train.label_smoothing"),
        ({"loss": {"sigmoid": 1, "dpop": 1}, "engine": "trl"}, "trl has no"),
        ({"loss": "simpo", "ld_alpha": 0.5}, "held to a reference"),
        ({"loss": "plackett_luce", "dynamic_beta": 0.6}, "held to a reference"),
        ({"dynamic_beta": 0.6, "engine": "trl"}, "trl has no train.dynamic_beta"),
        ({"ld_alpha": 1.5}, "at most 1"),
    ],
)
def test_what_does_not_go_together(keys, words):
    with pytest.raises(UserError, match=words):
        train(**keys)


@pytest.mark.parametrize("key", ["ld_alpha", "dynamic_beta"])
def test_what_is_of_pairs_stands_in_no_other_task(key):
    values = {"model": {"base": "x"}, "data": {"train": "y"}, "task": "sft", "train": {key: 0.5}}
    with pytest.raises(UserError, match=key):
        validate_recipe(values, "test")
