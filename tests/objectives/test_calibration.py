"""Reliability by hand, and a model whose word is true."""

import math
import random

import pytest

from dpo_lite.objectives.calibration import reliability
from dpo_lite.report.reward import draw_calibration


def test_by_hand():
    """Four pairs at p = 0.75, of which two are right; one at p = 0.9, right; a tie."""
    log3, log9 = math.log(3), math.log(9)
    found = reliability([log3, -log3, log3, -log3, log9, 0.0], bins=5)
    assert found["pairs"] == 5
    first, second = found["bins"]
    assert (first["low"], first["high"], first["count"]) == (0.7, 0.8, 4)
    assert first["confidence"] == pytest.approx(0.75)
    assert first["right"] == 0.5
    assert (second["count"], second["right"]) == (1, 1.0)
    assert found["error"] == pytest.approx((4 * 0.25 + 1 * 0.1) / 5)


def test_no_pairs_and_the_surest():
    assert reliability([0.0, 0.0]) == {"pairs": 0, "error": None, "bins": []}
    (only,) = reliability([1e6, 800.0])["bins"]
    assert (only["high"], only["confidence"], only["right"]) == (1.0, 1.0, 1.0)


def test_whose_word_is_true_is_calibrated():
    """Labels drawn with the model's own probabilities."""
    draw = random.Random(0)
    rewards = [draw.gauss(0, 2) for _ in range(20_000)]
    margins = [r if draw.random() < 1 / (1 + math.exp(-r)) else -r for r in rewards]
    assert reliability(margins)["error"] < 0.02
    assert reliability([3 * margin for margin in margins])["error"] > 0.1  # too sure


def test_the_picture_is_drawn_of_nothing_too(tmp_path):
    sets = {"a": {"calibration": reliability([])}, "b": {"calibration": reliability([1.0, -2.0])}}
    for shown in (sets, {}):
        draw_calibration(shown, tmp_path / "calibration.png")
        assert (tmp_path / "calibration.png").stat().st_size > 0
