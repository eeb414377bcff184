"""KTO's keys: weights by the data's labels, and what is refused beside them."""

import pytest

from dpo_lite.errors import UserError
from dpo_lite.recipe import load_recipe, validate_recipe
from dpo_lite.tasks import TASKS
from dpo_lite.tasks.kto import balanced


def recipe(task="kto", data=None, **train):
    values = {"task": task, "model": {"base": "x"}, "data": {"train": "y", **(data or {})}}
    return validate_recipe(values | {"train": train}, "test")


@pytest.mark.parametrize(
    ("given", "counts", "weights"),
    [
        (("auto", "auto"), (10, 10), (1, 1)),
        (("auto", "auto"), (12, 10), (1, 1)),  # 1.2, between 1 and 4/3
        (("auto", "auto"), (10, 100), (10, 1)),  # 10 · 10 / 100 = 1
        (("auto", "auto"), (100, 10), (1, 7.5)),  # 100 / (7.5 · 10) = 4/3
        ((2.0, "auto"), (10, 10), (2, 1.5)),  # 2 / 1.5 = 4/3
        ((0.5, "auto"), (10, 10), (0.5, 0.5)),
        (("auto", 2.0), (10, 10), (2, 2)),
        (("auto", 0.5), (10, 10), (2 / 3, 0.5)),
        ((3.0, 1.0), (1, 100), (3, 1)),  # as it is said
        (("auto", "auto"), (10, 0), (1, 1)),
        (("auto", "auto"), (0, 3), (1, 1)),
    ],
)
def test_weights_make_both_kinds_count_about_alike(given, counts, weights):
    assert balanced(*given, *counts) == pytest.approx(weights)


def test_what_a_recipe_says():
    settled = recipe()
    assert settled.data.pairs == "unpaired"
    assert settled.train.beta == 0.1
    assert settled.objective == "kto, beta 0.1, good and bad answers weigh auto and auto"
    TASKS["kto"].weigh(settled, {"good": 10, "bad": 100, "of_pairs": 0})
    assert settled.objective == "kto, beta 0.1, good and bad answers weigh 10 and 1"
    assert recipe("dpo").train.desirable_weight is None
    assert load_recipe("kto-quickstart").task == "kto"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"loss": "ipo"}, r"task: kto has a loss of its own; leave train.loss away"),
        ({"sft_weight": 1.0}, r"leave train.sft_weight away"),
        ({"task": "dpo", "desirable_weight": 2.0}, r"undesirable_weight are for task: kto"),
        ({"data": {"pairs": "all"}}, r"data.pairs: all is for .* task: kto takes unpaired"),
        ({"task": "dpo", "data": {"pairs": "unpaired"}}, "unpaired is for task: kto; task: dpo"),
        ({"desirable_weight": 0}, "train.desirable_weight"),
        ({"engine": "trl"}, "train.engine: trl runs DPO only"),
    ],
)
def test_what_is_refused(keys, words):
    with pytest.raises(UserError, match=words):
        recipe(**keys)
