"""A round of votes as HTML: nameless while it is open, escaped, with the pair it is on."""

import re

from dpo_lite.ui.round_views import arena, progress
from tests.compare.test_rounds import round_of, vote


def test_the_open_pair_has_no_names_and_four_keys():
    going = round_of(("<b>yes", "no"), ("c", "d"))
    html = arena(going)
    assert "demo" not in html
    assert "<b>yes" not in html
    assert re.findall(r'data-key="(\w+)"', html) == [
        "ArrowLeft",
        "ArrowUp",
        "ArrowDown",
        "ArrowRight",
    ]
    assert 'data-pair="0"' in html
    assert "keys vote" in html
    assert html.index("dl-ballot") < html.index("dl-asked")  # the buttons stand still
    vote(going, "A")
    assert 'data-pair="1"' in arena(going)
    assert "left demo, right reference" in progress(going)


def test_what_stands_where_no_pair_is():
    going = round_of(("same", "same"))
    assert "on its way" in arena(going)
    going.ended = True
    assert "nothing to vote on" in arena(going)
    assert arena(None) == progress(None) == ""
    going = round_of(("a", "b"))
    vote(going, "A")
    going.ended = True
    assert "The round is over. demo wins 100%" in arena(going)
