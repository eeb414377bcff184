"""A conversation side by side: what each is asked, which answers are pairs, what is kept."""

import pytest

from dpo_lite.compare.chat import (
    Chat,
    Turn,
    asked_next,
    edited,
    groups,
    turn_changed,
    vote_columns,
    with_turn,
)
from dpo_lite.errors import UserError


def column(label, text):
    return {"label": label, "fingerprint": f"print of {label}", "text": text}


def chat_of(*turns, system="Be short."):
    """Turns as (user, the policy's answer, the reference's), each asked in its own words."""
    chat = Chat("demo", ("policy", "reference"), system)
    for user, ours, theirs in turns:
        asked = asked_next(chat, user, together=False)
        columns = [column("policy", ours), column("reference", theirs)]
        chat = with_turn(chat, Turn(user, asked, columns))
    return chat


def words(messages):
    return [(turn["role"], turn["content"]) for turn in messages]


def test_each_goes_on_with_its_own_words():
    ours, theirs = asked_next(chat_of(("Hi", " a ", "b")), "And?", together=False)
    assert words(ours) == [
        ("system", "Be short."),
        ("user", "Hi"),
        ("assistant", " a "),
        ("user", "And?"),
    ]
    assert words(theirs)[2] == ("assistant", "b")
    assert groups([ours, theirs]) == [[0], [1]]


def test_all_go_on_from_the_preferred_answer():
    chat = chat_of(("Hi", "a", "b"), system="")
    with pytest.raises(UserError, match="Prefer one answer first"):
        asked_next(chat, "And?", together=True)
    chat = turn_changed(chat, 0, best=1)
    ours, theirs = asked_next(chat, "And?", together=True)
    assert ours == theirs
    assert words(ours) == [("user", "Hi"), ("assistant", "b"), ("user", "And?")]
    assert groups([ours, theirs]) == [[0, 1]]


def test_equal_answers_need_no_preference_to_go_on():
    ours, theirs = asked_next(chat_of(("Hi", "a", "a")), "And?", together=True)
    assert ours == theirs


def test_only_answers_to_the_same_messages_are_a_pair():
    chat = chat_of(("Hi", "a", "b"), ("And?", "c", "d"))
    assert [turn.is_pair for turn in chat.turns] == [True, False]
    assert not chat_of(("Hi", "a", "a")).turns[0].is_pair
    broken_off = Turn("Hi", [[], []], [{"label": "x", "text": "a"}, {"label": "y", "text": "b"}])
    assert not broken_off.is_pair
    with pytest.raises(UserError, match="broken off"):
        asked_next(with_turn(Chat("demo", ("x", "y")), broken_off), "And?", together=False)


def test_an_edited_answer_is_no_models():
    chat = turn_changed(chat_of(("Hi", "a", "b")), 0, best=0, thumbs={0: "good", 1: "bad"})
    chat = edited(chat, 0, " mine ")
    (turn,) = chat.turns
    assert (turn.best, turn.thumbs) == (None, {1: "bad"})
    assert vote_columns(turn, [0, 1]) == [
        {"label": "policy (edited)", "fingerprint": "edited", "answer": " mine "},
        {"label": "reference", "fingerprint": "print of reference", "answer": "b"},
    ]
    with pytest.raises(UserError, match="has words"):
        edited(chat, 0, "  ")


def test_nothing_said_is_told():
    with pytest.raises(UserError, match="Type what"):
        asked_next(Chat("demo", ("x",)), "  ", together=True)
