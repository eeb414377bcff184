"""OpenAI's `weight: 0` on a turn: it is read and not learned."""

import pytest

from dpo_lite.data.converters import sft_messages
from dpo_lite.data.examples import BadRow, Reason
from dpo_lite.data.pairs import examples_of
from tests.data.row_kinds import assistant, user


def conversation(*weights, **more):
    """A question and an answer for each weight; None is none."""
    turns = []
    for number, weight in enumerate(weights):
        said = {} if weight is None else {"weight": weight}
        turns += [user(f"q{number}"), assistant(f"a{number}") | said]
    return {"messages": turns} | more


def learned(row, pairs):
    examples, notes = examples_of(sft_messages(row), row, 0, pairs)
    return [example.responses[0] for example in examples], [note.reason for note in notes]


def test_the_last_answer_is_one_that_has_a_weight():
    assert learned(conversation(0, 1), "best") == (["a1"], [])
    assert learned(conversation(None, None), "best") == (["a1"], [])
    assert learned(conversation(1, 0), "best") == (["a0"], [Reason.BEHIND])
    with pytest.raises(BadRow, match="every answer has weight 0"):
        sft_messages(conversation(0, 0.0))


@pytest.mark.parametrize("more", [{}, {"system": "be short"}])
def test_earlier_answers_without_weight_are_not_learned(more):
    assert learned(conversation(1, 0, 1, **more), "turns") == (["a0", "a2"], [])
    assert learned(conversation(0, 1, None, 0, **more), "turns") == (["a1", "a2"], [Reason.BEHIND])
