"""Answers that repeat their prompt: noted, and on request without it."""

import json

import pytest

from dpo_lite.data.echoes import repeats_prompt, without_echo
from dpo_lite.data.examples import Ranked
from dpo_lite.data.prepare import prepare
from dpo_lite.recipe import DataSection
from tests.data.row_kinds import assistant, user


def test_every_answer_must_begin_with_the_last_turn():
    asked = [user("well"), assistant("yes"), user(" Name a bird. ")]
    assert repeats_prompt(asked, ["Name a bird. A wren.", "\nName a bird.\nA cow."])
    assert not repeats_prompt(asked, ["Name a bird. A wren.", "A cow."])
    assert not repeats_prompt([user(" ")], ["a", "b"])
    assert not repeats_prompt(asked, [])
    told = [user("how warm?"), {"role": "tool", "content": "19"}]  # said again, and meant so
    assert not repeats_prompt(told, ["19 degrees", "19, I think"])


def test_what_is_taken_off():
    found = without_echo(Ranked([user("Name it. ")], ["Name it. A wren.", "\nName it.\n    x"]))
    assert found.responses == [" A wren.", "\n    x"]
    alone = Ranked([user("Name it.")], ["Name it. A wren.", "A cow."], [1.0, 0.0])
    assert without_echo(alone) is alone


@pytest.fixture
def file(tmp_path):
    rows = [
        {"prompt": f"Name bird {n}.", "chosen": f"Name bird {n}. A wren.", "rejected": "A cow."}
        for n in range(6)
    ]
    for n in range(4):
        rows[n]["rejected"] = f"Name bird {n}. A cow."
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def noted(data):
    return [note for note in data.report.notes if "data.strip_prompt" in note]


def test_the_doctor_notes_them_and_takes_them_off(file, chat_tokenizer):
    data = prepare(DataSection(train=file), chat_tokenizer)
    left = data.report.kept
    assert data.report.echoes >= left / 2
    (note,) = noted(data)
    assert f"in {data.report.echoes} of {left} rows every answer begins with its prompt" in note
    cut = prepare(DataSection(train=file, strip_prompt=True), chat_tokenizer)
    assert (cut.report.echoes, noted(cut)) == (0, [])
    texts = [chat_tokenizer.decode(row["response_ids"][0]) for row in cut.train]
    kept = [f"Name bird {n}. A wren.<|im_end|>" for n in (4, 5)]  # of which one alone repeats it
    assert set(texts) <= {"A wren.<|im_end|>", *kept}
    assert "A wren.<|im_end|>" in texts


def test_a_few_of_them_are_no_habit(tmp_path, chat_tokenizer):
    rows = [{"prompt": f"Hi {n}", "chosen": f"ah {n}", "rejected": "oh"} for n in range(9)]
    rows[0] |= {"prompt": "Hello", "chosen": "Hello you", "rejected": "Hello"}
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert not noted(prepare(DataSection(train=str(path)), chat_tokenizer))
