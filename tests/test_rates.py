"""Rates: their intervals by hand, what is told apart, and how they are written."""

import math

import pytest

from dpo_lite.rates import (
    FEWEST,
    Rate,
    differ,
    explained,
    logged_rate,
    margin_text,
    of_how_many,
    pooled,
    rate,
    rate_at,
    wilson,
)


def test_wilson_by_hand():
    """8 of 10 with z = 1.96: (0.8 + 0.19208 ± 1.96 * sqrt(0.016 + 0.009604)) / 1.38416."""
    low, high = wilson(0.8, 10)
    spread = 1.96 * math.sqrt(0.8 * 0.2 / 10 + 1.96**2 / 400)
    assert low == pytest.approx((0.8 + 0.19208 - spread) / 1.38416)
    assert high == pytest.approx((0.8 + 0.19208 + spread) / 1.38416)
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)
    assert wilson(0.0, 3)[0] == 0.0
    assert wilson(1.0, 3)[1] == 1.0
    # All of n: n / (n + z²).
    assert wilson(1.0, 7)[0] == pytest.approx(7 / (7 + 1.96**2))


def test_the_difference_of_newcombes_table():
    """His example (a): 56 of 70 and 48 of 80, whose difference is 0.0524 to 0.3339."""
    one, other = Rate(56 / 70, 70), Rate(48 / 80, 80)
    below, above = one.share - one.interval[0], other.interval[1] - other.share
    assert one.share - other.share - math.hypot(below, above) == pytest.approx(0.0524, abs=1e-3)
    assert differ(one, other)
    assert differ(other, one)


def test_what_is_told_apart():
    assert not differ(Rate(1.0, 4), Rate(0.75, 4))
    assert not differ(Rate(1.0, 148), Rate(0.99, 148))
    assert differ(Rate(1.0, 148), Rate(0.9, 148))
    assert not differ(Rate(0.5), Rate(0.5, 10))
    # Of numbers that nobody kept: whether they are equal, or inside of the other's interval.
    assert differ(Rate(0.5), Rate(0.6))
    assert not differ(Rate(0.5), Rate(0.6, 10))
    assert differ(Rate(0.1), Rate(0.6, 10))


def test_words():
    assert Rate(6 / 7, 7).words() == "86% (6 of 7, 49–97%)"
    assert Rate(6 / 7, 7).cell() == "86% (49–97%)"
    assert Rate(0.75).words() == Rate(0.75).cell() == "75%"
    assert Rate(0.75).cell(1) == "75.0%"
    assert Rate(1200 / 1600, 1600).words(1) == "75.0% (1,200 of 1,600, 73–77%)"
    assert explained(["| 86% (49–97%) |"])
    assert not explained(["86%", "(a note)"])
    assert [margin_text(m) for m in (0, 1.234, 0.01, 0.0008, -0.00081)] == [
        "0.00",
        "1.23",
        "0.01",
        "0.0008",
        "-0.0008",
    ]


def test_what_is_known_of_a_rate():
    assert rate(0, 0) is None
    assert Rate(1.0, FEWEST - 1).few
    assert not Rate(1.0, FEWEST).few
    assert not Rate(1.0).few  # of how many is not known
    assert not Rate(0.55, 100).above(0.5)
    assert Rate(0.55, 1000).above(0.5)
    assert Rate(0.55).above(0.5)


def test_results_with_and_without_their_numbers():
    new = {
        "rewards/accuracies": 0.5,
        "generation": {"reference": 0.25, "policy": None},
        "counts": {
            "rewards/accuracies": {"successes": 1, "n": 2, "ties": 1},
            "generation": {"reference": {"successes": 1, "n": 4}},
        },
    }
    assert rate_at(new, "rewards/accuracies") == Rate(0.5, 2)
    assert rate_at(new, "generation", "reference") == Rate(0.25, 4)
    assert rate_at(new, "generation", "policy") is None
    assert rate_at(new, "likelihood", "policy") is None
    old = {key: value for key, value in new.items() if key != "counts"}
    assert rate_at(old, "rewards/accuracies") == Rate(0.5)
    assert rate_at(old, "generation", "reference") == Rate(0.25)


def test_several_sets_together():
    assert pooled([Rate(1.0, 10), Rate(0.5, 30)]) == Rate(25 / 40, 40)
    assert pooled([Rate(1.0, 10), Rate(0.5)]) is None
    assert pooled([]) is None
    assert of_how_many([None, Rate(1.0, 3), Rate(0.0, 3)]) == 3
    assert of_how_many([Rate(1.0, 3), Rate(0.0, 4)]) is None
    assert of_how_many([Rate(1.0)]) is None


def test_a_line_of_the_metrics():
    line = {"eval_t_rewards/accuracies": 0.5, "eval_t_pairs": 8, "truthful": 0.25, "prompts": 4}
    assert logged_rate(line, "rewards/accuracies", "eval_t_") == Rate(0.5, 8)
    assert logged_rate(line, "truthful") == Rate(0.25, 4)
    assert logged_rate(line, "rewards/accuracies") is None


def test_a_share_that_cannot_be_one_has_no_interval():
    """Of a damaged file: it is shown as it stands."""
    assert [Rate(*of).interval for of in ((1.2, 9), (-0.1, 9), (0.5, -3), (float("nan"), 9))] == (
        [None] * 4
    )
    assert Rate(1.2, 9).words() == "120%"
