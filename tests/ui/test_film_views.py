"""A prompt's answers as a strip: in the order of training, with what is new marked."""

import re

from dpo_lite.ui.film_views import films, filmstrip, most_wrong

SAMPLES = [
    {"when": "before", "prompt": "<p>", "answer": "bats are blind"},
    {"when": "before", "prompt": "other", "answer": "x"},
    {"when": "after", "prompt": "<p>", "answer": "bats can see"},
    {"when": "during", "step": 1000, "prompt": "<p>", "answer": "bats can see"},
    {"when": "during", "step": 5, "prompt": "<p>", "answer": "bats are blind"},
]


def test_frames_stand_in_the_order_of_training():
    strips = films(SAMPLES, "update")
    assert list(strips) == ["<p>", "other"]  # what says most comes first
    assert list(strips["<p>"]) == ["reference", "update 5", "update 1,000", "policy"]


def test_what_is_new_is_marked_and_the_same_is_said_to_be():
    html = filmstrip(films(SAMPLES, "update"))
    assert html.count("as before") == 2
    assert "bats <mark>can see</mark>" in html
    assert "<p>" not in html
    assert re.findall(r'<section class="dl-film"( hidden)?>', html) == ["", " hidden"]


def test_the_most_wrong_pair_of_all_sets_is_told():
    pair = {"prompt": "<p>", "chosen": "right", "rejected": "wrong"}
    html = most_wrong({"one": pair | {"margin": -0.5}, "three": pair | {"margin": -2.25}})
    assert "of three, by a margin of -2.25" in html
    assert "<p>" not in html.replace("<p class", "")
    assert most_wrong({}) == ""
    assert most_wrong({"one": {"margin": -1.0}, "two": 3}) == ""  # a damaged file
