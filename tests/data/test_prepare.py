"""From a recipe's data section to what is trained on: cleaning, held-out sets, lengths, report."""

import json
from copy import deepcopy

import numpy as np
import pytest

from dpo_lite.data.examples import Reason
from dpo_lite.data.limits import LEAST_WORDS
from dpo_lite.data.prepare import prepare
from dpo_lite.data.report import Drop, held_out_words
from dpo_lite.data.tokens import Encoder
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


def test_prompts_of_the_held_out_data_leave_the_training_data(tmp_path, chat_tokenizer):
    train = write_rows(tmp_path / "train.jsonl", triples(10))
    held_out = write_rows(tmp_path / "test.jsonl", triples(3))
    data = prepared(train, chat_tokenizer, eval=held_out)
    assert data.report.dropped[Reason.IN_EVAL].rows == [0, 1, 2]
    folder = prepared(str(tmp_path), chat_tokenizer)
    assert len(folder.evals["test"]) == 3
    named = prepared(str(tmp_path), chat_tokenizer, eval=["test"])
    assert named.fingerprint == folder.fingerprint


def test_what_is_lost_of_the_held_out_data_is_counted_too(tmp_path, chat_tokenizer):
    train = write_rows(tmp_path / "train.jsonl", triples(10))
    rows = [*triples(3, "dog"), {"prompt": "x", "chosen": "", "rejected": "b"}]
    data = prepared(train, chat_tokenizer, eval=write_rows(tmp_path / "test.jsonl", rows))
    lost = data.report.dropped[f"held out, test: {Reason.EMPTY_RESPONSE.value}"]
    assert (lost.count, lost.rows) == (1, [3])
    assert data.report.evals == {"test": 3}
    empty = write_rows(tmp_path / "none.jsonl", rows[3:])
    with pytest.raises(UserError, match="no row of none is left to evaluate on"):
        prepared(train, chat_tokenizer, eval=empty)


def test_the_held_out_share_is_grouped_by_prompt(tmp_path, chat_tokenizer):
    rows = [
        {"prompt": f"q {i % 40}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(400)
    ]
    data = prepared(write_rows(tmp_path / "a.jsonl", rows), chat_tokenizer)
    held_out, train = set(data.evals["held_out"]["prompt"]), set(data.train["prompt"])
    assert held_out
    assert not held_out & train
    assert len(data.train) + len(data.evals["held_out"]) == 400


def test_two_prompts_are_enough_to_hold_one_out(tmp_path, chat_tokenizer):
    data = prepared(write_rows(tmp_path / "a.jsonl", triples(2)), chat_tokenizer)
    assert (len(data.train), len(data.evals["held_out"])) == (1, 1)
    one = prepared(write_rows(tmp_path / "b.jsonl", triples(1)), chat_tokenizer)
    assert (len(one.train), one.evals) == (1, {})
    assert "nothing is held out; name data.eval, or give more prompts" in one.report.notes


def test_a_share_of_ones_own(tmp_path, chat_tokenizer):
    """A larger share has the prompts of a smaller one; beside data.eval it is one set more."""
    path = write_rows(tmp_path / "a.jsonl", triples(400))
    found = [
        set(prepared(path, chat_tokenizer, **keys).evals["held_out"]["prompt"])
        for keys in ({}, {"eval_share": 0.05}, {"eval_share": 0.25})
    ]
    assert found[0] == found[1] < found[2]
    assert 0.2 < len(found[2]) / 400 < 0.3
    test = write_rows(tmp_path / "b.jsonl", triples(50, "dog"))
    assert set(prepared(path, chat_tokenizer, eval=test).evals) == {"b"}
    both = prepared(path, chat_tokenizer, eval=test, eval_share=0.25)
    assert set(both.evals["held_out"]["prompt"]) == found[2]
    assert len(both.evals["b"]) == 50
    assert len(both.train) == 400 - len(found[2])


def test_what_others_hold_out_by_a_share(tmp_path, chat_tokenizer):
    """Other answers to the same prompts are held up to the rows that a run on the file holds out,
    and the rest of its prompts stays."""
    path = write_rows(tmp_path / "a.jsonl", triples(400))
    first = prepared(path, chat_tokenizer).evals["held_out"]
    rows = [row | {"chosen": row["rejected"], "rejected": "none"} for row in triples(400)]
    other = write_rows(tmp_path / "b.jsonl", rows)
    data = prepared(other, chat_tokenizer, eval=[{"source": path, "share": 0.05}])
    assert data.evals["a"]["response_ids"][:] == first["response_ids"][:]
    assert len(data.train) == 400 - len(first)
    few = write_rows(tmp_path / "c.jsonl", triples(1))
    none = prepared(other, chat_tokenizer, eval=[{"source": few, "share": 0.05}])
    assert set(none.evals) == {"held_out"}  # of its own, as a run on a single prompt holds out none


def drawn(test, tokenizer, limit, seed=1):
    """The numbers of the held-out rows that are scored, and the report."""
    section = DataSection(train=str(test.parent / "a.jsonl"), eval=str(test), max_length=60)
    data = prepare(section, tokenizer, seed=seed, eval_limit=limit)
    return data.evals["b"]["row"][:], data.report


def test_held_out_rows_are_drawn_by_the_seed(tmp_path, chat_tokenizer):
    write_rows(tmp_path / "a.jsonl", triples(50))
    test = tmp_path / "b.jsonl"
    write_rows(test, triples(200, "dog"))
    rows, report = drawn(test, chat_tokenizer, 40)
    assert rows == sorted(set(rows))
    assert len(rows) == 40
    assert rows[-1] > 100  # a sample of all of them, not the first ones
    assert drawn(test, chat_tokenizer, 40)[0] == rows
    assert drawn(test, chat_tokenizer, 40, seed=2)[0] != rows
    assert set(rows) < set(drawn(test, chat_tokenizer, 120)[0])
    whole, everything = drawn(test, chat_tokenizer, 500)
    assert whole == list(range(200))
    assert (report.evals, report.drawn_from) == ({"b": 40}, {"b": 200})
    assert (everything.evals, everything.drawn_from) == ({"b": 200}, {})
    assert report.fingerprint == everything.fingerprint  # of the data, not of how many are scored

    # What else stands there changes nothing: a row more in front moves all by one.
    write_rows(test, [*triples(1, "bird"), *triples(200, "dog")])
    moved, _ = drawn(test, chat_tokenizer, 40)
    assert len({row + 1 for row in rows} - set(moved)) <= 1


def test_what_is_held_out_in_words():
    assert held_out_words({"test": 1000, "held_out": 12}, {"test": 2000}) == (
        "1,000 of 2,000 test, 12 of the training prompts (drawn by train.seed)"
    )
    assert held_out_words({"test": 50}, {}) == "50 test"
    assert held_out_words({}, {}) == "nothing"


def test_few_held_out_rows_are_told_with_a_cure(tmp_path, chat_tokenizer):
    write_rows(tmp_path / "a.jsonl", triples(160))
    test = tmp_path / "b.jsonl"
    write_rows(test, triples(7, "dog"))

    def told(limit=None):
        notes = drawn(test, chat_tokenizer, limit)[1].notes
        return [note for note in notes if "held" in note]

    (note,) = told()
    assert note == (
        "7 held-out examples of b are too few to tell anything: even with every one right the true "
        "rate could be 65%; data.eval_share=0.25 holds out about 40"
    )
    (note,) = told(2)
    assert note.startswith("2 held-out examples of b are too few")
    assert note.endswith("; eval.limit leaves 5 out")
    write_rows(tmp_path / "a.jsonl", triples(30))
    (note,) = told()
    assert note.endswith("; name more held-out data by data.eval")
    write_rows(test, triples(30, "dog"))
    assert told() == []


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


def of_lengths(first: int, end: int) -> list[dict]:
    return [{"prompt": "q" * n, "chosen": "good", "rejected": "bad"} for n in range(first, end)]


def test_max_length_auto_drops_nothing_of_short_data(tmp_path, chat_tokenizer):
    """200 rows, two of which are beyond the 99th percentile but short all the same."""
    data = prepared(write_rows(tmp_path / "a.jsonl", of_lengths(1, 201)), chat_tokenizer)
    assert Reason.TOO_LONG not in data.report.dropped
    assert data.max_length == 512


def test_max_length_auto_is_the_99th_percentile_up_to_the_models_limit(tmp_path, chat_tokenizer):
    path = write_rows(tmp_path / "a.jsonl", of_lengths(1, 30) + of_lengths(500, 671))
    data = prepared(path, chat_tokenizer)
    assert data.report.dropped[Reason.TOO_LONG].count in (1, 2)
    assert data.max_length == data.lengths.whole.max()
    limited = prepared(path, chat_tokenizer, model_limit=64)
    assert limited.max_length == 64
    assert limited.lengths.whole.max() <= 64
    with pytest.raises(UserError, match="over the base's limit of 64"):
        prepared(path, chat_tokenizer, max_length=65, model_limit=64)


def test_what_happens_to_the_long(tmp_path, chat_tokenizer):
    rows = [*triples(40), {"prompt": "dog " * 90 + "end", "chosen": "good", "rejected": "bad"}]
    rows.insert(3, {"prompt": "q", "chosen": "good " * 50, "rejected": "bad"})
    path = write_rows(tmp_path / "a.jsonl", rows)
    held_out = write_rows(tmp_path / "b.jsonl", triples(1))
    keys = {"max_length": 60, "eval": held_out}
    dropped = prepared(path, chat_tokenizer, **keys)
    assert dropped.report.dropped[Reason.TOO_LONG].rows == [3, 41]
    with pytest.raises(UserError, match=r"row 3 of .*over max_length 60 \(2 rows are\)"):
        prepared(path, chat_tokenizer, on_long="error", **keys)
    cut = prepared(path, chat_tokenizer, on_long="truncate_prompt_start", **keys)
    assert cut.report.dropped[Reason.TOO_LONG].rows == [3]  # a response is never cut
    assert cut.report.dropped[Reason.CUT].rows == [41]
    last = cut.train[len(cut.train) - 1]
    assert last["row"] == 41
    assert chat_tokenizer.decode(last["prompt_ids"]).endswith(
        "end<|im_end|>\n<|im_start|>assistant\n"
    )
    assert chat_tokenizer.decode(last["response_ids"][0]) == "good<|im_end|>"
    assert cut.lengths.whole.max() == 60
    assert cut.lengths.prompt[-1] == len(last["prompt_ids"])
    assert cut.train["row"] == sorted(cut.train["row"])
    assert cut.fingerprint != dropped.fingerprint


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


def test_held_out_rows_that_are_too_long_are_counted(tmp_path, chat_tokenizer):
    rows = [{"prompt": "q" * 80, "chosen": f"good {i}", "rejected": "bad"} for i in range(9)]
    rows.append({"prompt": "q", "chosen": "good", "rejected": "bad"})
    data = prepared(write_rows(tmp_path / "a.jsonl", rows), chat_tokenizer, max_length=40)
    counted = sum(drop.count for drop in data.report.dropped.values())
    assert data.report.kept + sum(data.report.evals.values()) + counted == len(rows)


def test_a_cut_prompt_keeps_its_bos_and_some_of_its_words(tmp_path, chat_tokenizer):
    tokenizer = deepcopy(chat_tokenizer)
    tokenizer.bos_token = "<|pad|>"
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    rows = [*triples(20, "q")]
    rows.append({"prompt": "dog " * 90 + "end", "chosen": "good", "rejected": "bad"})
    path = write_rows(tmp_path / "a.jsonl", rows)
    held_out = write_rows(tmp_path / "b.jsonl", triples(1, "x"))
    keys = {"eval": held_out, "on_long": "truncate_prompt_start"}
    data = prepared(path, tokenizer, max_length=90, **keys)
    last = data.train[len(data.train) - 1]
    assert (last["row"], len(last["prompt_ids"]) + len(last["response_ids"][0])) == (20, 90)
    assert last["prompt_ids"][0] == tokenizer.bos_token_id
    assert tokenizer.decode(last["prompt_ids"]).count("dog") > 5
    whole = prepared(path, tokenizer, max_length=1000, **keys).train
    assert (
        last["prompt_ids"][1:]
        == whole[len(whole) - 1]["prompt_ids"][-len(last["prompt_ids"]) + 1 :]
    )
    # One token less, and too little of the user's words would be left.
    least = Encoder(tokenizer).opening + LEAST_WORDS + len(last["response_ids"][0])
    for most, lost in ((least, []), (least - 1, [20])):
        report = prepared(path, tokenizer, max_length=most, **keys).report
        assert [r for r in report.dropped.get(Reason.TOO_LONG, Drop()).rows if r == 20] == lost


def test_held_out_sets_of_the_same_name_are_two(tmp_path, chat_tokenizer):
    train = write_rows(tmp_path / "train.jsonl", triples(10))
    paths = [write_rows(tmp_path / n / "test.jsonl", triples(3, n)) for n in ("a", "b")]
    data = prepared(train, chat_tokenizer, eval=paths)
    assert data.report.evals == {"test": 3, paths[1]: 3}


def test_held_out_data_may_have_another_format(tmp_path, chat_tokenizer):
    rows = [{"q": r["prompt"], "good": r["chosen"], "bad": r["rejected"]} for r in triples(20)]
    train = write_rows(tmp_path / "train.jsonl", rows)
    test = write_rows(tmp_path / "other.jsonl", triples(3, "dog"))
    columns = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    with pytest.raises(UserError, match=r"data\.eval: .*has no column"):
        prepared(train, chat_tokenizer, columns=columns, eval=test)
    own = [{"source": test, "columns": {}}]
    assert prepared(train, chat_tokenizer, columns=columns, eval=own).report.evals == {"other": 3}


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
