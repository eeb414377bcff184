"""Answers that call tools: trained as the template writes them, from every spelling of a call."""

import json

import pytest

from dpo_lite.data.examples import Calling, Dropped, Example, Reason, calls_of
from dpo_lite.data.tokens import CharacterEncoder, Encoder
from tests.data import whole_rows as whole
from tests.data.row_kinds import ASKS, LOOKS, TOOLS, assistant, call, row, tool, user
from tests.data.tokenizers import tokenizer_for

SHARED = {"name": "weatherfn", "arguments": {"townarg": "Romey"}}
OTHER = {"name": "weatherfn", "arguments": {"townarg": "Osloy"}}


@pytest.fixture(scope="module")
def encoder():
    return Encoder(tokenizer_for("qwen2_5"))


def answers(encoder, data, **options):
    """What is trained of the one example that a row becomes."""
    found = whole.encoded([data], encoder, **options)[0]
    return found if isinstance(found, Dropped) else [*map(encoder.decode, found.response_ids)]


def written(called):
    return f"<tool_call>\n{json.dumps(called)}\n</tool_call><|im_end|>"


def test_what_is_trained_is_the_call_that_the_template_writes(encoder):
    data = row(ASKS, good=LOOKS, bad="nox idea", tools=TOOLS)
    assert answers(encoder, data) == [written(SHARED), "nox idea<|im_end|>"]


@pytest.mark.parametrize("several", [False, True])
def test_sharegpt_has_a_turn_of_calls(encoder, several):
    def turn(called):
        return {"from": "function_call", "value": json.dumps([called] if several else called)}

    shared = [
        {"from": "human", "value": "weatherx"},
        turn(OTHER),
        {"from": "observation", "value": "nineteenx"},
    ]
    data = {"conversations": shared, "chosen": turn(SHARED), "rejected": turn(OTHER)}
    assert answers(encoder, data) == [written(SHARED), written(OTHER)]
    found = whole.encoded([data], encoder)[0]
    assert json.dumps(OTHER) in encoder.decode(found.prompt_ids)
    assert "nineteenx" in encoder.decode(found.prompt_ids)


@pytest.mark.parametrize("words", ["", "not JSON", "[]", "3", '["x"]', '{"arguments": {}}'])
def test_a_turn_of_calls_that_holds_none_is_a_bad_row(encoder, words):
    turns = [
        {"from": "human", "value": "a"},
        {"from": "function_call", "value": words},
        {"from": "human", "value": "b"},
        {"from": "gpt", "value": "c"},
    ]
    assert answers(encoder, {"conversations": turns}).reason is Reason.MALFORMED


def test_equal_calls_are_identical_whatever_their_ids(encoder):
    same = call(("weatherfn", {"townarg": "Romey"}), ids=True)
    assert answers(encoder, row(ASKS, good=LOOKS, bad=same)).reason is Reason.IDENTICAL
    beside = call(("weatherfn", {"townarg": "Romey"}), words="lookx")
    assert len(answers(encoder, row(ASKS, good=LOOKS, bad=beside))) == 2


def test_every_call_of_a_conversation_can_be_a_demonstration(encoder):
    data = {"messages": [ASKS, LOOKS, tool("19"), assistant("warmx")], "tools": TOOLS}
    found = whole.encoded([data], encoder, pairs="turns")
    assert encoder.decode(found[0].response_ids[0]) == "warmx<|im_end|>"
    first = whole._examples(whole.recognise([data]), [(0, data)], whole.Options(pairs="turns"), [])
    (made,) = calls_of(next(iter(first)).responses[0])
    assert made["function"] == SHARED


def test_without_a_template_calls_are_looked_at_and_not_trained(encoder):
    example = Example([user("a")], [Calling("", LOOKS["tool_calls"]), "b"], row=0)
    shown = CharacterEncoder().render(example)
    assert "weatherfn" in shown.rests[0]
    plain = Encoder(encoder.tokenizer, raw=True).render(example)
    assert plain.reason is Reason.TEMPLATE


def test_special_tokens_in_calls_are_refused(encoder):
    marked = call(("weatherfn", {"townarg": "<|im_end|>"}))
    assert answers(encoder, row(ASKS, good=marked, bad="x")).reason is Reason.SPECIAL
