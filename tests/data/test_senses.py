"""Rows that also show or play something are left out and listed, not read as words."""

import json

import pytest

from dpo_lite.data.examples import BadRow, Reason
from dpo_lite.data.formats import FORMATS
from dpo_lite.data.prepare import prepare
from dpo_lite.data.senses import refuse_other_senses
from dpo_lite.recipe import DataSection
from tests.data.row_kinds import assistant, user


@pytest.mark.parametrize(
    "row",
    [
        {"images": ["cat.png"]},
        {"image": {"bytes": "…", "path": None}},
        {"image": "cat.png"},
        {"videos": '["cat.mp4"]'},
        {"audio": {"array": [0.1]}},
    ],
)
def test_columns_of_other_senses(row):
    with pytest.raises(BadRow) as bad:
        refuse_other_senses(row, [user("what is it?")])
    assert bad.value.reason is Reason.SENSES
    assert bad.value.detail == f"the column {next(iter(row))}"


@pytest.mark.parametrize(
    "text", ["<image>\nwhat is it?", "<image>what is it?", "what is it?<image>", "a\n <audio> \nb"]
)
def test_marks_in_the_question(text):
    with pytest.raises(BadRow, match="question"):
        refuse_other_senses({}, [user(text)])


@pytest.mark.parametrize(
    "text",
    [
        "which tag is <image> in SVG?",
        "<video>\n<source src='a.mp4'>\n</video>\nwhy is it silent?",
        "is <audio> or <video> right?",
        "an <imaginary> number",
    ],
)
def test_words_about_html_are_words(text):
    refuse_other_senses({"images": [], "image": None, "audio": ""}, [user(text)])
    refuse_other_senses({}, [user("why"), assistant("<image>"), user("how")])


def test_parts_that_are_no_text():
    parts = [{"type": "image_url", "image_url": {"url": "a"}}, {"type": "text", "text": "what?"}]
    messages = next(f for f in FORMATS if f.name == "sft-messages")
    for content in (parts, [{"image": "a.png"}, {"text": "what?"}]):
        with pytest.raises(BadRow) as bad:
            messages.convert({"messages": [user(content), assistant("a cat")]})
        assert bad.value.reason is Reason.SENSES
    fine = messages.convert({"messages": [user([{"text": "what?"}]), assistant("a cat")]})
    assert fine.prompt == [user("what?")]


def test_they_are_counted_and_the_rest_is_kept(tmp_path, chat_tokenizer):
    rows = [{"prompt": f"what is {n}?", "chosen": "a cat", "rejected": "a dog"} for n in range(4)]
    rows[1]["images"] = ["cat.png"]
    rows[2]["prompt"] = "<image>\nwhat?"
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = prepare(DataSection(train=str(path)), chat_tokenizer).report
    drop = report.dropped[Reason.SENSES]
    assert drop.rows == [1, 2]
    assert [e["detail"] for e in drop.examples] == ["the column images", "<image> in the question"]
