"""Shortcuts and doubtful labels on made data, where it is known what was planted."""

import math
import random

import numpy as np
import pytest

from dpo_lite.data.doubts import doubts
from dpo_lite.data.linear import dense, fit, folds_of, out_of_fold, sigmoid
from dpo_lite.data.shortcuts import (
    FEATURES,
    FIRST,
    TOGETHER,
    TextPair,
    overlap,
    shortcuts,
    tokens,
)

WORDS = [f"w{i}" for i in range(300)]
POLITE = ["please", "thank", "kindly", "gladly", "welcome"]
RUDE = ["whatever", "stupid", "obviously", "duh", "nope"]


def neutral(draw, length):
    return " ".join(draw.choices(WORDS, k=length))


def made(n, answers, seed=0):
    """Two pairs a prompt; ``answers(draw)`` makes chosen and rejected."""
    draw = random.Random(seed)
    return [TextPair(f"question {i // 2}", *answers(draw), row=i) for i in range(n)]


def flipped(pairs, share, seed=0):
    """Some pairs the wrong way round, and which."""
    draw = random.Random(seed)
    wrong = {place for place in range(len(pairs)) if draw.random() < share}
    turned = [
        p._replace(chosen=p.rejected, rejected=p.chosen) if place in wrong else p
        for place, p in enumerate(pairs)
    ]
    return turned, wrong


def by_name(pairs):
    return {shortcut.name: shortcut for shortcut in shortcuts(pairs)}


def test_one_feature_is_fitted_to_the_closed_form():
    """7 of 10 labels go with a feature of ±1: without a penalty sigma(w) = 0.7, w = ln(7/3)."""
    x = dense(np.array([[1.0]] * 7 + [[-1.0]] * 3))
    assert fit(x, 1e-9)[0] == pytest.approx(math.log(7 / 3), rel=1e-4)
    # with one the gradient vanishes: 7 sigma(-w) - 3 sigma(w) = penalty w
    w = fit(x, 2.0)[0]
    assert 7 * sigmoid(-w) - 3 * sigmoid(w) == pytest.approx(2 * w, abs=1e-6)


def test_a_prompt_is_in_one_fold_whatever_the_order():
    groups = [f"p{i // 3}" for i in range(60)]
    fold = folds_of(groups)
    assert all(len(set(fold[i : i + 3])) == 1 for i in range(0, 60, 3))
    assert np.bincount(fold).tolist() == [12] * 5
    assert folds_of(groups[::-1]).tolist() == fold[::-1].tolist()


def test_a_margin_is_of_a_model_that_has_not_seen_the_row():
    """Every group has a feature of its own, so no other fold knows it: all margins are 0."""
    x = dense(np.eye(10))
    assert not out_of_fold(x, np.arange(10) % 5, 1.0).any()
    assert (x.times(fit(x, 1.0)) > 0).all()


def test_length_that_is_planted_is_measured():
    def answers(draw):
        longer, shorter = neutral(draw, 30), neutral(draw, 10)
        return (longer, shorter) if draw.random() < 0.78 else (shorter, longer)

    pairs = made(600, answers)
    found = by_name(pairs)
    true = sum(len(p.chosen) > len(p.rejected) for p in pairs) / len(pairs)
    length = found["length"]
    assert length.rate.share == pytest.approx(true)  # each fold learns the same direction
    assert (length.points, length.pairs, length.rate.n) == ("the longer", 600, 300)
    assert length.rate.interval[0] > 0.7
    assert found[TOGETHER].rate.share > 0.7
    turned = [p._replace(chosen=p.rejected, rejected=p.chosen) for p in pairs]
    assert by_name(turned)["length"].points == "the shorter"


def test_data_without_a_shortcut_come_to_a_half():
    found = by_name(made(800, lambda draw: (neutral(draw, 20), neutral(draw, 20))))
    for name in ("length", "overlap with the prompt", FIRST, TOGETHER):
        rate = found[name].rate
        assert rate is None or not rate.above(0.5)
    assert found["markdown"].rate is None  # no pair is told apart by it
    assert found["refusal"].rate is None


@pytest.mark.parametrize(
    ("name", "with_it", "without"),
    [
        ("markdown", "**w1** w2\n- w3", "w1 w2 w3 w4 w5"),
        ("refusal", "I'm sorry, w1 w2", "w1 w2 w3 w4"),
        ("overlap with the prompt", "question w1", "w1 w2 w3"),
        (FIRST, "Sure w1", "Well w1"),
    ],
)
def test_each_feature_is_found(name, with_it, without):
    found = by_name(made(200, lambda draw: (with_it, without)))[name]
    assert found.rate.share == 1.0
    assert found.pairs == 200


def test_features_by_hand():
    assert overlap("What is a bat?", "A bat sees") == pytest.approx(2 / 3)
    marks = FEATURES["markdown"][0]
    assert marks("", "# a\n- b\n1. c\n**d** `e`") == pytest.approx(math.log(1 + 6))
    assert tokens("Don't, 猫が") == ["don", "'", "t", ",", "猫", "が"]


def polite(draw):
    def answer(kind):
        words = draw.choices(WORDS, k=20)
        words[draw.randrange(20)] = draw.choice(kind)
        return " ".join(words)

    return answer(POLITE), answer(RUDE)


def test_flipped_labels_are_found():
    """5 % of 500 labels turned round: at least 9 of 10 listed are wrong, and 7 of 10 are listed."""
    pairs, wrong = flipped(made(500, polite), 0.05, seed=1)
    found = doubts(pairs)
    listed = set(found.doubtful)
    assert len(listed & wrong) >= 0.9 * len(listed)
    assert len(listed & wrong) >= 0.7 * len(wrong)
    assert found.right[found.doubtful].tolist() == sorted(found.right[found.doubtful])
    assert found.agreed.n == found.sure
    assert found.agreed.share == pytest.approx(1 - len(listed) / found.sure)


def test_labels_that_are_right_are_not_doubted():
    assert doubts(made(500, polite)).doubtful == []


def test_labels_by_chance_are_doubted_by_nobody():
    found = doubts(made(400, lambda draw: (neutral(draw, 20), neutral(draw, 20))))
    assert not found.told
    assert found.doubtful == []
