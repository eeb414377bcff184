"""Two models on the same items: which differences the items make sure."""

import itertools
import math
import random

import pytest

from dpo_lite.evaluate.paired import (
    changed,
    mean_change,
    outcomes,
    perplexity,
    perplexity_change,
)
from dpo_lite.rates import mcnemar, paired_words


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (1, 0), (5, 2), (6, 6), (9, 1)])
def test_mcnemar_is_the_share_of_all_tosses_as_uneven(better, worse):
    tosses = [*itertools.product((0, 1), repeat=better + worse)]
    uneven = sum(abs(2 * sum(t) - len(t)) >= abs(better - worse) for t in tosses)
    assert mcnemar(better, worse) == pytest.approx(uneven / len(tosses))
    assert mcnemar(worse, better) == mcnemar(better, worse)


def test_words_of_a_pair():
    assert paired_words(12, 5, 200) == (
        "better on 12, worse on 5 of 200 (p = 0.14): no difference told apart"
    )
    assert paired_words(1, 12, 1000).endswith("of 1,000 (p = 0.0034): worse")
    assert paired_words(40, 2, 99).endswith("(p < 0.001): better")
    assert mcnemar(30_000, 31_000) < 1e-4  # without an overflow


def test_only_right_and_wrong_are_outcomes():
    assert outcomes([1, 0, True], 2 / 3) == [True, False, True]
    assert outcomes([1.0, 0.0], 0.4) is None  # not the mean of them
    assert outcomes([1, 0.5], 0.75) is None
    assert outcomes([[True, False]], 0.5) is None
    assert outcomes([], 0.0) is None
    assert changed([True, False, False], [False, True, True]) == (2, 1)
    assert changed([True, False, False], [False, True, True], higher=False) == (1, 2)


def test_the_interval_of_a_difference_holds():
    draw = random.Random(0)
    held = 0
    for _ in range(400):
        before = [draw.gauss(0, 3) for _ in range(30)]
        after = [value + draw.gauss(0.5, 1) for value in before]
        mean, error = mean_change(before, after, (sum(before) / 30, sum(after) / 30))
        held += abs(mean - 0.5) < 1.96 * error
    assert 0.9 < held / 400 < 0.98
    assert mean_change([1, 2], [2, 3], (0.0, 2.5)) is None
    assert mean_change(["a", 2], [2, 3], (1.0, 2.5)) is None


def test_the_interval_of_perplexities_holds():
    """Long items weigh more; the true change is 0.1 nats per unit."""
    draw = random.Random(0)
    held = 0
    for _ in range(400):
        units = [draw.randint(5, 60) for _ in range(40)]
        before = [(-3.0 * n + draw.gauss(0, n), n) for n in units]
        after = [(logp - 0.1 * n + draw.gauss(0, 0.3 * n), n) for logp, n in before]
        values = (perplexity(before), perplexity(after))
        ratio, error = perplexity_change(before, after, values)
        assert ratio == pytest.approx(math.log(values[1] / values[0]))
        held += abs(ratio - 0.1) < 1.96 * error
    assert 0.9 < held / 400 < 0.98
    assert perplexity_change([(-1, 1)], [(-1, 1)], (math.e, math.e)) is None
    assert perplexity_change([(-1, 0), (-1, 1)], [(-1, 1), (-1, 1)], (1.0, 1.0)) is None
