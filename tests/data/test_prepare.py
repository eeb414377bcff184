"""Sources, formats, cleaning and token ids."""

import gzip
import json

import pytest

from dpo_lite.data import prepare
from dpo_lite.data.examples import Dropped, Example, Reason
from dpo_lite.data.formats import FORMATS, detect
from dpo_lite.data.tokens import encode
from dpo_lite.errors import UserError


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


FIXTURES = {
    "hh-rlhf": {
        "chosen": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Why?\n\nAssistant: good",
        "rejected": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Why?\n\nAssistant: bad",
    },
    "trl-conversational": {
        "prompt": [user("Why?")],
        "chosen": [assistant("good")],
        "rejected": [assistant("bad")],
    },
    "conversations": {
        "prompt": "Why?",
        "prompt_id": "1",
        "chosen": [user("Why?"), assistant("good")],
        "rejected": [user("Why?"), assistant("bad")],
        "messages": [user("Why?"), assistant("good")],
        "score_chosen": 8.0,
        "score_rejected": 3.0,
    },
    "triples": {"prompt": "Why?", "chosen": "good", "rejected": "bad"},
    "orca": {"system": "Be brief.", "question": "Why?", "chosen": "good", "rejected": "bad"},
    "ranking": {"prompt": "Why?", "responses": ["worse", "good", "bad"], "scores": [2, 3, 1]},
}


@pytest.mark.parametrize("name", FIXTURES)
def test_every_format_is_recognised_and_keeps_its_direction(name):
    row = FIXTURES[name]
    matched = detect(list(row), row)
    assert matched.name == name
    example = matched.convert(row, 7)
    assert isinstance(example, Example)
    assert example.row == 7
    assert example.responses[0] == "good"
    assert example.responses[-1] == "bad"
    assert example.prompt[-1] == user("Why?")
    assert example.responses == (["good", "worse", "bad"] if name == "ranking" else ["good", "bad"])


def test_every_format_has_a_fixture():
    assert {f.name for f in FORMATS} == set(FIXTURES)


def test_dialogue_becomes_messages():
    example = detect(["chosen", "rejected"], FIXTURES["hh-rlhf"]).convert(FIXTURES["hh-rlhf"], 0)
    assert example.prompt == [user("Hi"), assistant("Hello"), user("Why?")]


def test_system_and_question_are_kept():
    example = detect(list(FIXTURES["orca"]), FIXTURES["orca"]).convert(FIXTURES["orca"], 0)
    assert example.prompt == [{"role": "system", "content": "Be brief."}, user("Why?")]


def test_unknown_columns_are_an_error():
    with pytest.raises(UserError, match=r"no known format has the columns better, text, worse"):
        detect(["text", "better", "worse"], {"text": "a", "better": "b", "worse": "c"})


def test_an_unknown_format_names_the_nearest():
    with pytest.raises(UserError, match="did you mean triples"):
        detect(["prompt"], {}, "tripples")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, Reason.IDENTICAL),
        ({"prompt": "a", "chosen": " ", "rejected": "b"}, Reason.EMPTY_RESPONSE),
        ({"prompt": " ", "chosen": "c", "rejected": "b"}, Reason.EMPTY_PROMPT),
        ({"prompt": None, "chosen": "c", "rejected": "b"}, Reason.NOT_TEXT),
        ({"prompt": "a", "chosen": 3, "rejected": "b"}, Reason.NOT_TEXT),
    ],
)
def test_broken_rows_are_counted(row, reason):
    triples = next(f for f in FORMATS if f.name == "triples")
    dropped = triples.convert(row, 4)
    assert isinstance(dropped, Dropped)
    assert (dropped.row, dropped.reason) == (4, reason)


def test_a_tie_is_dropped():
    row = FIXTURES["conversations"] | {"score_rejected": 8.0}
    dropped = detect(list(row), row).convert(row, 0)
    assert dropped.reason is Reason.TIE


def test_encoding(chat_tokenizer):
    example = Example([user("the cat")], ["sat", "on the mat"], 0)
    found = encode(chat_tokenizer, example)
    prompt = chat_tokenizer.decode(found.prompt_ids)
    assert prompt == "<|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\n"
    texts = [chat_tokenizer.decode(ids) for ids in found.response_ids]
    assert texts == ["sat<|im_end|>", "on the mat<|im_end|>"]
    end = chat_tokenizer.eos_token_id
    assert all(ids.count(end) == 1 and ids[-1] == end for ids in found.response_ids)


def test_raw_encoding(chat_tokenizer):
    found = encode(chat_tokenizer, Example([user("the cat ")], ["sat", "ran"], 0), raw=True)
    assert chat_tokenizer.decode(found.prompt_ids) == "the cat "
    assert chat_tokenizer.decode(found.response_ids[0]) == "sat<|im_end|>"


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def triples(count):
    return [
        {"prompt": f"the cat {i}", "chosen": f"sat {i}", "rejected": f"ran {i}"}
        for i in range(count)
    ]


def test_prepare_counts_every_row(tmp_path, chat_tokenizer):
    rows = [
        *triples(100),
        {"prompt": "x", "chosen": "same", "rejected": "same"},
        triples(1)[0],
        {"prompt": "long", "chosen": "the cat " * 60, "rejected": "b"},
    ]
    data = prepare(write_rows(tmp_path / "a.jsonl", rows), chat_tokenizer, max_length=60)
    dropped = data.report.dropped
    assert dropped[Reason.IDENTICAL.value] == [100]
    assert dropped[Reason.DUPLICATE.value] == [101]
    assert dropped[Reason.TOO_LONG.value] == [102]
    held_out = len(data.evals["held_out"])
    assert 0 < held_out < 20
    assert len(data.train) + held_out + 3 == len(rows)
    assert data.report.to_json()["kept"] == len(data.train)


def test_prompts_of_the_held_out_data_leave_the_training_data(tmp_path, chat_tokenizer):
    train = write_rows(tmp_path / "train.jsonl", triples(10))
    held_out = write_rows(tmp_path / "test.jsonl", triples(3))
    data = prepare(train, chat_tokenizer, eval=held_out)
    assert data.report.dropped[Reason.IN_EVAL.value] == [0, 1, 2]
    folder = prepare(str(tmp_path), chat_tokenizer)
    assert len(folder.evals["test"]) == 3


def test_mixing_by_weight(tmp_path, chat_tokenizer):
    first = write_rows(tmp_path / "a.jsonl", triples(40))
    second = write_rows(
        tmp_path / "b.jsonl", [row | {"prompt": "dog " + row["prompt"]} for row in triples(40)]
    )
    parts = [{"source": first, "weight": 1.0}, {"source": second, "weight": 0.5}]
    data = prepare(parts, chat_tokenizer, eval=write_rows(tmp_path / "c.jsonl", triples(1)))
    assert len(data.train) == 39 + 20
    assert len(data.report.dropped[Reason.WEIGHT.value]) == 20


def test_columns_are_mapped(tmp_path, chat_tokenizer):
    rows = [{"q": r["prompt"], "good": r["chosen"], "bad": r["rejected"]} for r in triples(80)]
    path = write_rows(tmp_path / "a.jsonl", rows)
    columns = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    data = prepare(path, chat_tokenizer, columns=columns)
    assert "sat" in chat_tokenizer.decode(data.train[0]["response_ids"][0])
    with pytest.raises(UserError, match="has no column quest"):
        prepare(path, chat_tokenizer, columns={"prompt": "quest"})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"prompt": "a"}\n{broken\n', "line 2 is no valid JSON"),
        ("a.jsonl", b"[1, 2]\n", "line 1 is no JSON object"),
        ("a.jsonl", b'{"prompt": "\xff"}\n', "line 1 is not UTF-8"),
        ("a.jsonl", b"", "is empty"),
        ("a.txt", b"hello", "is no .jsonl"),
    ],
)
def test_broken_files(tmp_path, chat_tokenizer, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        prepare(str(tmp_path / name), chat_tokenizer)


def test_a_missing_file_names_its_neighbour(tmp_path, chat_tokenizer):
    write_rows(tmp_path / "pairs.jsonl", triples(3))
    with pytest.raises(UserError, match=r"did you mean .*pairs.jsonl"):
        prepare(str(tmp_path / "pears.jsonl"), chat_tokenizer)


def test_nothing_left(tmp_path, chat_tokenizer):
    path = write_rows(tmp_path / "a.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "b"}] * 3)
    with pytest.raises(UserError, match=r"no row of 3 is left.*3 responses identical"):
        prepare(path, chat_tokenizer)


def test_a_tokenizer_without_template(tmp_path, chat_tokenizer):
    from copy import deepcopy

    plain = deepcopy(chat_tokenizer)
    plain.chat_template = None
    path = write_rows(tmp_path / "a.jsonl", triples(60))
    with pytest.raises(UserError, match=r"data\.format=raw"):
        prepare(path, plain)
    assert len(prepare(path, plain, format="raw").train) > 40


def test_gzip_and_csv(tmp_path, chat_tokenizer):
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in triples(60))
    (tmp_path / "b.csv").write_text(
        "prompt,chosen,rejected\n" + "".join(f'"a, ""q"" {i}","b\nc",d\n' for i in range(60))
    )
    assert prepare(str(tmp_path / "a.jsonl.gz"), chat_tokenizer).report.rows == 60
    data = prepare(str(tmp_path / "b.csv"), chat_tokenizer)
    assert data.report.rows == 60
    assert "b\nc" in chat_tokenizer.decode(data.train[0]["response_ids"][0])


def test_the_real_hh_file(hh_file, chat_tokenizer):
    """Split after the last `Assistant:`; 5 rows with different prompts, 4 with an empty answer."""
    data = prepare(str(hh_file), chat_tokenizer, max_length=100_000)
    report = data.report
    assert report.format == "hh-rlhf"
    assert report.rows == 2312
    assert len(report.dropped[Reason.PROMPTS_DIFFER.value]) == 5
    assert len(report.dropped[Reason.EMPTY_RESPONSE.value]) == 4
    total = report.kept + report.evals["held_out"] + sum(map(len, report.dropped.values()))
    assert total == 2312
    for example in data.train.select(range(200)):
        prompt = chat_tokenizer.decode(example["prompt_ids"])
        assert prompt.endswith("<|im_start|>assistant\n")


def test_the_table_of_formats_is_documented():
    from pathlib import Path

    from dpo_lite.data.formats import formats_table

    documented = Path(__file__).parents[2] / "docs" / "data-formats.md"
    assert formats_table() in documented.read_text()
