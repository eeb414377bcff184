"""The data report says which tokens of reasoning are trained."""

import json

import pytest

from dpo_lite.data.prepare import prepare
from dpo_lite.data.thoughts import Thought, thought_notes, thought_of
from dpo_lite.recipe import DataSection
from tests.data.tokenizers import tokenizer_for

REASONED = "<think>\nhm\n</think>\n\nyes"


def test_what_a_row_has():
    plain = ("<a>", ["yes<e>", "no<e>"], ["yes", "no"])
    assert thought_of(*plain) == Thought(0)
    assert thought_of("<a>", [REASONED, "no"], [REASONED, "no"]) == Thought.SOME
    assert thought_of("<a><think>\n", ["hm\n</think>yes"], [REASONED]) == Thought.OPENED
    assert thought_of("<a><think>\n\n</think>\n", ["yes"], ["yes"]) == Thought.CLOSED
    empty = "<think>\n\n</think>\n\nno"
    assert thought_of("<a>", [empty], ["no"]) == Thought.EMPTY
    assert thought_of("<a>", [REASONED, empty], [REASONED, "no"]) == Thought.SOME | Thought.EMPTY


def test_the_sentences():
    assert thought_notes({}, 5) == []
    (note,) = thought_notes({"SOME": 2, "EMPTY": 0}, 5)
    assert note.startswith("in 2 of 5 rows an answer has reasoning, which is trained")
    assert thought_notes({"OPENED": 5}, 5)[0].startswith("in all rows the prompt ends with <think>")


@pytest.mark.parametrize(
    ("name", "answers", "options", "words"),
    [
        (
            "qwen3",
            (REASONED, "no"),
            {},
            ["has reasoning", "empty <think></think> before an answer"],
        ),
        ("qwen3_5_think", ("yes", "no"), {}, ["empty <think></think> before an answer"]),
        ("nemotron_3_nano", (REASONED, REASONED + "!"), {}, ["prompt ends with <think>"]),
        ("qwen3", ("yes", "no"), {"enable_thinking": False}, ["ends with an empty"]),
        ("gptoss", (REASONED, "no"), {}, ["has reasoning"]),
        ("llama3", ("yes", "no"), {}, []),
    ],
)
def test_a_report_through_real_templates(name, answers, options, words, tmp_path):
    rows = [{"prompt": f"is it {n}?", "chosen": answers[0], "rejected": answers[1]} for n in "ab"]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = prepare(DataSection(train=str(path), template=options), tokenizer_for(name))
    notes = [note for note in data.report.notes if "think" in note or "reasoning" in note]
    assert len(notes) == len(words)
    assert all(word in note for word, note in zip(words, notes, strict=True))
