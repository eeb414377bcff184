"""Numbers as lines of blocks."""

import math

from dpo_lite.report.words import bars, sparkline


def test_a_curve_goes_from_the_lowest_block_to_the_full_one():
    assert sparkline(range(8)) == "▁▂▃▄▅▆▇█"
    assert sparkline([0.5] * 3) == "▄▄▄"
    assert len(sparkline(range(1000))) == 40


def test_a_value_that_is_no_number_is_a_gap():
    assert sparkline([0.0, 8.0, math.nan]) == "▁█ "


def test_a_count_of_one_is_seen_and_none_is_a_gap():
    assert bars([1000, 1, 0, 500]) == "█▁ ▄"
    assert bars([0, 0]) == "  "
