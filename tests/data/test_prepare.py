"""From a recipe's data section to what is trained on: cleaning, held-out sets, lengths, report."""

import json
from copy import deepcopy

import numpy as np
import pytest

from dpo_lite.data.examples import Reason
from dpo_lite.data.prepare import prepare
from dpo_lite.errors import UserError
from dpo_lite.recipe import DataSection


def prepared(train, tokenizer, **keys):
    limit = keys.pop("model_limit", None)
    return prepare(DataSection(train=train, **keys), tokenizer, model_limit=limit)


def write_rows(path, rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def triples(count, prompt="the cat"):
    return [
        {"prompt": f"{prompt} {i}", "chosen": f"sat {i}", "rejected": f"ran {i}"}
        for i in range(count)
    ]


def test_every_row_is_kept_held_out_or_counted(tmp_path, chat_tokenizer):
    rows = [
        *triples(100),
        {"prompt": "x", "chosen": "same", "rejected": "same "},
        triples(1)[0],
        {"prompt": "long", "chosen": "the cat " * 60, "rejected": "b"},
        {"prompt": None, "chosen": "c", "rejected": "b"},
        {"prompt": " ", "chosen": "c", "rejected": "b"},
        {"prompt": "x", "chosen": " ", "rejected": "b"},
        {"prompt": "x", "chosen": 3, "rejected": "b"},
        {"prompt": "x", "chosen": "<|im_end|>", "rejected": "b"},
    ]
    data = prepared(write_rows(tmp_path / "a.jsonl", rows), chat_tokenizer, max_length=60)
    dropped = data.report.dropped
    assert {reason: drop.rows for reason, drop in dropped.items()} == {
        Reason.IDENTICAL: [100],
        Reason.DUPLICATE: [101],
        Reason.TOO_LONG: [102],
        Reason.NOT_TEXT: [103, 106],
        Reason.EMPTY_PROMPT: [104],
        Reason.EMPTY_RESPONSE: [105],
        Reason.SPECIAL: [107],
    }
    assert dropped[Reason.TOO_LONG].examples == [{"row": 102, "detail": "long"}]
    assert dropped[Reason.NOT_TEXT].examples[1] == {"row": 106, "detail": "chosen is no text"}
    held_out = len(data.evals["held_out"])
    assert 0 < held_out < 20
    assert len(data.train) + held_out + 8 == len(rows) == data.report.rows
    assert data.report.kept == len(data.train)


def test_the_report_for_machines(tmp_path, chat_tokenizer):
    path = write_rows(tmp_path / "a.jsonl", [*triples(90), {"prompt": "a"}])
    report = json.loads(json.dumps(prepared(path, chat_tokenizer).report.to_json()))
    assert report["format"] == "triples"
    assert report["unit"] == "tokens"
    assert report["rows"] == 91
    assert report["kept"] + report["evals"]["held_out"] == 90
    assert report["dropped"][Reason.NOT_TEXT.value]["count"] == 1
    for part in ("prompt", "chosen", "rejected"):
        facts = report["lengths"][part]
        assert facts["min"] <= facts["median"] <= facts["p99"] <= facts["max"]
        assert sum(facts["histogram"]["counts"]) == report["kept"]


def test_lengths_are_those_of_the_ids(tmp_path, chat_tokenizer):
    data = prepared(write_rows(tmp_path / "a.jsonl", triples(60)), chat_tokenizer)
    for place, example in enumerate(data.train):
        prompt, answers = example["prompt_ids"], example["response_ids"]
        assert data.lengths.prompt[place] == len(prompt)
        assert data.lengths.first[place] == len(answers[0])
        assert data.lengths.last[place] == len(answers[-1])
        tokens = len(prompt) + sum(map(len, answers))
        assert data.lengths.of_batch(shared=True)[place] == tokens
        assert data.lengths.of_batch(shared=False)[place] == 2 * (
            len(prompt) + max(map(len, answers))
        )


def test_mixing_by_weight(tmp_path, chat_tokenizer):
    first = write_rows(tmp_path / "a.jsonl", triples(40))
    second = write_rows(tmp_path / "b.jsonl", triples(40, "dog"))
    parts = [{"source": first}, {"source": second, "weight": 0.5}]
    held_out = write_rows(tmp_path / "c.jsonl", triples(1))
    data = prepared(parts, chat_tokenizer, eval=held_out)
    assert len(data.train) == 39 + 20
    assert data.report.dropped[Reason.WEIGHT].count == 20
    assert all(row.startswith(second) for row in data.report.dropped[Reason.WEIGHT].rows)
    assert data.report.dropped[Reason.IN_EVAL].rows == [f"{first}:0"]


def test_mixing_two_formats(tmp_path, chat_tokenizer):
    first = write_rows(tmp_path / "a.jsonl", triples(30))
    rows = [
        {
            "prompt": "dog",
            "response_0": f"ran {i}",
            "response_1": f"sat {i}",
            "better_response_id": 1,
        }
        for i in range(30)
    ]
    second = write_rows(
        tmp_path / "b.jsonl",
        [{"q" if k == "prompt" else k: v for k, v in row.items()} for row in rows],
    )
    parts = [{"source": first}, {"source": second, "columns": {"prompt": "q"}}]
    data = prepared(parts, chat_tokenizer)
    assert data.report.format == "triples + pku-saferlhf"
    for example in data.train:
        assert chat_tokenizer.decode(example["response_ids"][0]).startswith("sat")


def test_columns_are_mapped(tmp_path, chat_tokenizer):
    rows = [{"q": r["prompt"], "good": r["chosen"], "bad": r["rejected"]} for r in triples(80)]
    path = write_rows(tmp_path / "a.jsonl", rows)
    columns = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    data = prepared(path, chat_tokenizer, columns=columns)
    assert "sat" in chat_tokenizer.decode(data.train[0]["response_ids"][0])
    swapped = columns | {"chosen": "bad", "rejected": "good"}
    data = prepared(path, chat_tokenizer, columns=swapped)
    assert "ran" in chat_tokenizer.decode(data.train[0]["response_ids"][0])
    with pytest.raises(UserError, match="has no column quest"):
        prepared(path, chat_tokenizer, columns={"prompt": "quest"})


def test_where_keeps_rows_by_their_columns(tmp_path, chat_tokenizer):
    rows = [
        row | {"score": i % 10, "lang": "en" if i % 2 else "de", "math": i % 4 == 1}
        for i, row in enumerate(triples(80))
    ]
    path = write_rows(tmp_path / "a.jsonl", rows)
    where = {"score": ">= 5", "lang": "en", "math": False}
    data = prepared(path, chat_tokenizer, where=where)
    fitting = [i for i, r in enumerate(rows) if r["score"] >= 5 and i % 2 and not r["math"]]
    assert data.report.dropped[Reason.WHERE].count == 80 - len(fitting)
    with pytest.raises(UserError, match="compares with no number"):
        prepared(path, chat_tokenizer, where={"score": ">= many"})


RANKING = {"prompt": "q", "responses": ["b", "a", "d", "c"], "scores": [3, 4, 1, 2]}


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ("best_worst", [["a", "d"]]),
        ("adjacent", [["a", "b"], ["b", "c"], ["c", "d"]]),
        ("all", [["a", "b"], ["a", "c"], ["a", "d"], ["b", "c"], ["b", "d"], ["c", "d"]]),
        ("keep", [["a", "b", "c", "d"]]),
    ],
)
def test_pairs_of_a_ranking(tmp_path, chat_tokenizer, pairs, expected):
    data = prepared(write_rows(tmp_path / "a.jsonl", [RANKING]), chat_tokenizer, pairs=pairs)
    decoded = [
        [chat_tokenizer.decode(ids).removesuffix("<|im_end|>") for ids in example["response_ids"]]
        for example in data.train
    ]
    assert decoded == expected


def test_a_tie_inside_a_ranking_costs_only_its_pairs(tmp_path, chat_tokenizer):
    tied = RANKING | {"scores": [3, 4, 1, 3]}
    path = write_rows(tmp_path / "a.jsonl", [tied])
    data = prepared(path, chat_tokenizer, pairs="adjacent")
    assert len(data.train) == 2
    part = data.report.dropped[Reason.PART]
    assert part.examples == [{"row": 0, "detail": "1 of 3 pairs"}]
    with pytest.raises(UserError, match="1 tie"):
        prepared(path, chat_tokenizer, pairs="keep")


def labelled(prompt, completion, label):
    return {"prompt": prompt, "completion": completion, "label": label}


def test_labels_are_paired_within_a_prompt(tmp_path, chat_tokenizer):
    rows = [
        labelled("p", "bad 1", False),
        labelled("q", "good 2", True),
        labelled("p", "good 1", True),
        labelled("q", "bad 2", False),
        labelled("q", "bad 3", False),
        labelled("alone", "good", True),
    ]
    path = write_rows(tmp_path / "a.jsonl", rows)
    short = write_rows(tmp_path / "b.jsonl", [{"prompt": "x", "chosen": "y", "rejected": "z"}])
    data = prepared(path, chat_tokenizer, eval=short)
    pairs = [[chat_tokenizer.decode(ids) for ids in e["response_ids"]] for e in data.train]
    assert pairs == [
        ["good 1<|im_end|>", "bad 1<|im_end|>"],
        ["good 2<|im_end|>", "bad 2<|im_end|>"],
    ]
    assert data.report.dropped[Reason.UNPAIRED].rows == [4, 5]
    every = prepared(path, chat_tokenizer, eval=short, pairs="all")
    assert len(every.train) == 3
    lonely = write_rows(tmp_path / "c.jsonl", rows[5:])
    with pytest.raises(UserError, match="1 labelled, but without a counterpart"):
        prepared(lonely, chat_tokenizer)


def test_demonstrations_are_single_responses(tmp_path, chat_tokenizer):
    rows = [
        {"messages": [{"role": "user", "content": f"q {i}"}, {"role": "assistant", "content": "a"}]}
        for i in range(30)
    ]
    report = prepared(write_rows(tmp_path / "a.jsonl", rows), chat_tokenizer).report
    assert report.responses == {"fewest": 1, "most": 1}
    assert set(report.lengths) == {"prompt", "response"}
    assert report.chosen_longer is None


def test_length_bias_and_contradictions_are_said(tmp_path, chat_tokenizer):
    rows = [{"prompt": f"q {i}", "chosen": "a long answer", "rejected": "short"} for i in range(40)]
    rows += [{"prompt": "p", "chosen": "a", "rejected": "b"}]
    rows += [{"prompt": "p", "chosen": "b", "rejected": "a"}]
    path = write_rows(tmp_path / "a.jsonl", rows)
    held_out = write_rows(tmp_path / "b.jsonl", triples(1))
    notes = " ".join(prepared(path, chat_tokenizer, eval=held_out).report.notes)
    assert "the chosen response is longer in 100% of the pairs" in notes
    assert "1 pairs stand in the data the other way round too" in notes


def test_nothing_left(tmp_path, chat_tokenizer):
    path = write_rows(tmp_path / "a.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "b"}] * 3)
    with pytest.raises(UserError, match=r"no row of 3 is left.*3 responses identical"):
        prepared(path, chat_tokenizer)


def test_a_tokenizer_without_template(tmp_path, chat_tokenizer):
    plain = deepcopy(chat_tokenizer)
    plain.chat_template = None
    path = write_rows(tmp_path / "a.jsonl", triples(60))
    with pytest.raises(UserError, match=r"data\.format=raw"):
        prepared(path, plain)
    assert len(prepared(path, plain, format="raw").train) > 40
    assert prepared(path, plain, format="raw:triples").report.format == "triples (raw)"


def test_without_a_tokenizer_lengths_are_characters(tmp_path):
    data = prepared(write_rows(tmp_path / "a.jsonl", triples(60)), None)
    assert data.report.unit == "characters"
    assert data.max_length is None
    assert data.report.examples[0]["prompt"].startswith("the cat")


def test_the_fingerprint_is_of_what_is_trained(tmp_path, chat_tokenizer):
    path = write_rows(tmp_path / "a.jsonl", triples(60))
    first = prepared(path, chat_tokenizer).fingerprint
    assert prepared(path, chat_tokenizer).fingerprint == first
    other = write_rows(tmp_path / "b.jsonl", triples(60))
    assert prepared(other, chat_tokenizer).fingerprint == first
    assert prepared(path, chat_tokenizer, limit=50).fingerprint != first
    changed = write_rows(tmp_path / "a.jsonl", [*triples(59), triples(1, "dog")[0]])
    assert prepared(changed, chat_tokenizer).fingerprint != first


def test_white_space_around_a_prompt_is_no_difference(tmp_path, chat_tokenizer):
    rows = [{"prompt": p, "chosen": "good", "rejected": "bad"} for p in ("q", "q ", "other")]
    path = write_rows(tmp_path / "a.jsonl", rows)
    held_out = write_rows(
        tmp_path / "b.jsonl", [{"prompt": "other\n", "chosen": "a", "rejected": "b"}]
    )
    data = prepared(path, chat_tokenizer, eval=held_out)
    assert data.report.dropped[Reason.DUPLICATE].rows == [1]
    assert data.report.dropped[Reason.IN_EVAL].rows == [2]


def test_sources_without_weights_are_taken_whole(tmp_path, chat_tokenizer):
    paths = [write_rows(tmp_path / f"{n}.jsonl", triples(n, f"p{n}")) for n in (5, 20)]
    held_out = write_rows(tmp_path / "c.jsonl", triples(1, "p5"))
    assert len(prepared(paths, chat_tokenizer, eval=held_out).train) == 24
    empty = write_rows(tmp_path / "e.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "b"}])
    with pytest.raises(UserError, match=r"nothing of .*e\.jsonl can be trained on"):
        prepared([paths[0], empty], chat_tokenizer)


def test_columns_that_are_not_there_are_named(tmp_path, chat_tokenizer):
    path = write_rows(tmp_path / "a.jsonl", [row | {"lang": "en"} for row in triples(5)])
    with pytest.raises(UserError, match=r"data\.where: .*did you mean lang\?"):
        prepared(path, chat_tokenizer, where={"lagn": "en"})
    sparse = [{"q": "x", "chosen": "a"}, {"q": "x", "chosen": "a", "rejected": "b"}]
    sparse += [{"q": "y", "chosen": "a", "rejected": "b"}]
    path = write_rows(tmp_path / "b.jsonl", sparse)
    data = prepared(path, chat_tokenizer, columns={"prompt": "q", "rejected": "rejected"})
    assert data.report.dropped[Reason.NOT_TEXT].rows == [0]


def test_every_reason_has_an_example(tmp_path, chat_tokenizer):
    rows = [*triples(9), {"prompt": "same?", "chosen": "a", "rejected": "a"}]
    rows.append({"prompt": "none?", "chosen": "", "rejected": "a"})
    dropped = prepared(write_rows(tmp_path / "a.jsonl", rows), chat_tokenizer).report.dropped
    assert dropped[Reason.IDENTICAL].examples == [{"row": 9, "detail": "same?"}]
    assert dropped[Reason.EMPTY_RESPONSE].examples == [{"row": 10, "detail": "none?"}]


@pytest.mark.real
@pytest.mark.slow
def test_the_real_hh_file(hh_file, chat_tokenizer):
    """Split after the last `Assistant:`; what is dropped is counted."""
    data = prepared(str(hh_file), chat_tokenizer, max_length=100_000)
    report = data.report
    assert report.format == "hh-rlhf"
    assert report.rows == 2312
    assert report.dropped[Reason.PROMPTS_DIFFER].count == 5
    assert report.dropped[Reason.EMPTY_RESPONSE].count == 4
    held_out = report.evals["held_out"]
    assert report.kept + held_out + sum(d.count for d in report.dropped.values()) == 2312
    assert np.all(data.lengths.first > 1)


@pytest.mark.real
@pytest.mark.slow
def test_no_hh_prompt_is_split_inside_a_word(hh_file, chat_tokenizer):
    """As plain text, prompt and responses are the file's own dialogues, cut at `Assistant:`."""
    import gzip

    with gzip.open(hh_file, "rt", encoding="utf-8") as stream:
        lines = stream.readlines()
    data = prepared(str(hh_file), chat_tokenizer, format="raw", max_length=100_000)
    split = 0
    for example in [*data.train, *data.evals["held_out"]]:
        row = json.loads(lines[example["row"]])
        prompt = chat_tokenizer.decode(example["prompt_ids"])
        assert prompt.endswith("\n\nAssistant:")
        for key, ids in zip(("chosen", "rejected"), example["response_ids"], strict=True):
            answer = chat_tokenizer.decode(ids).removesuffix("<|im_end|>")
            assert answer.split() == row[key].rpartition("\n\nAssistant:")[2].split()
            split += prompt.split() + answer.split() != row[key].split()
    assert split == 0
    assert len(data.train) > 2100


def test_the_report_shows_as_many_examples_as_asked_from_all_over(tmp_path):
    path = tmp_path / "many.jsonl"
    rows = [{"prompt": f"p {n}", "chosen": f"a {n}", "rejected": f"b {n}"} for n in range(40)]
    path.write_text("\n".join(map(json.dumps, rows)))
    section = DataSection(train=str(path))
    few = prepare(section, None).report.examples
    many = prepare(section, None, shown=1000).report.examples
    assert len(few) == 3
    assert few[-1]["row"] - few[0]["row"] > 20
    assert len(many) == prepare(section, None).report.kept
    assert all(e["responses"] == [f"a {e['row']}", f"b {e['row']}"] for e in many)
