"""Answers as HTML: escaped, marked where they differ, coloured by reward, nameless while blind."""

from dpo_lite.compare.votes import Pairing
from dpo_lite.ui.compare_views import answer_cards, win_table

COLUMNS = [
    {
        "label": "<i>base",
        "text": "Bats are blind & <b>bold</b>.",
        "ended": True,
        "reward": -0.5,
        "tokens": [("Bats", 0.0), (" are blind", -0.5)],
    },
    {
        "label": "demo",
        "text": "Bats can see & <b>bold</b>.",
        "ended": False,
        "reward": 0.25,
        "tokens": [("<b>", 0.25)],
    },
]


def test_text_and_names_are_escaped():
    for options in ({}, {"tokens": True}, {"differences": True}):
        shown = answer_cards(COLUMNS, **options)
        assert "<b>bold" not in shown
        assert "<i>base" not in shown
        assert "&lt;i&gt;base" in shown


def test_what_differs_is_marked():
    shown = answer_cards(COLUMNS, differences=True)
    assert "Bats <mark>are blind</mark> &amp; " in shown
    assert "<mark>can see</mark>" in shown
    assert "<mark>" not in answer_cards(COLUMNS)


def test_tokens_are_coloured_by_their_reward():
    shown = answer_cards(COLUMNS, tokens=True)
    assert 'title="-0.500" style="background:color-mix(in srgb, var(--dl-bad) 55%' in shown
    assert "var(--dl-good) 28%" in shown
    assert "dl-token-legend" in shown


def test_blind_answers_show_neither_names_nor_rewards():
    shown = answer_cards(COLUMNS, hidden=True, tokens=True)
    assert "<b>A</b>" in shown
    for secret in ("demo", "reward", "dl-token", "cut"):
        assert secret not in shown


def test_an_answer_at_its_limit_and_the_one_voted_for():
    shown = answer_cards(COLUMNS, best="B")
    assert shown.count(">cut<") == 1
    assert 'dl-won" data-place="B"' in shown


def test_win_rates():
    pair = Pairing("f1", "f2", wins=8, losses=2, bad=1)
    shown = win_table([pair], {"f1": "<demo>", "f2": "reference"})
    assert "&lt;demo&gt;" in shown
    assert "80% <span class='dl-muted'>(49 to 94)" in shown
    assert "No votes yet" in win_table([], {})
