"""What processes that train together make of their trials, each on its own card."""

from dpo_lite.jobs.preflight import _least
from dpo_lite.memory.trial import Trial


def test_the_card_that_has_most_to_bear_counts():
    light, heavy = (Trial(0.69, 2.0, 100, peak, None) for peak in (10, 20))
    slow = Trial(0.69, 3.0, 100, 10, None)
    assert _least([light]) is light
    assert _least([light, heavy, slow]) is heavy
    assert _least([light, slow]) is slow
    assert _least([Trial(0.69, 1.0, 100, None, 5), Trial(0.69, 2.0, 100, None, 5)]).seconds == 2
    assert _least([light, None]) is None  # memory ran out on one of them
