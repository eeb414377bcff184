"""A conversation as HTML: escaped, with what can be said of each answer."""

from dpo_lite.ui.chat_views import APART, conversation
from tests.compare.test_chat import chat_of


def test_words_are_escaped():
    html = conversation(chat_of(("<i>hi", "<b>a", "b"), system="<u>"))
    assert "<i>" not in html
    assert "<b>a" not in html
    assert "<u>" not in html


def test_a_preference_is_offered_where_the_answers_are_a_pair():
    html = conversation(chat_of(("Hi", "a", "b"), ("And?", "c", "d")))
    first, second = html.split("dl-mine")[1:]
    assert first.count('data-do="best"') == 2
    assert second.count('data-do="best"') == 0
    assert APART in second
    assert APART not in first
    assert (first.count('data-do="edit"'), second.count('data-do="edit"')) == (0, 2)


def test_nothing_can_be_said_of_what_is_on_its_way():
    assert "data-do" not in conversation(chat_of(("Hi", "a", "b")), busy=True)
