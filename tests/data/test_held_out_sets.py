"""What is held out of the data: shares, prompts kept apart, rows drawn by the seed."""

import pytest

from dpo_lite.data.examples import Reason
from dpo_lite.data.prepare import prepare
from dpo_lite.data.report import held_out_words
from dpo_lite.errors import UserError
from dpo_lite.recipe import DataSection
from tests.data.test_prepare import prepared, triples, write_rows


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


def test_held_out_rows_that_are_too_long_are_counted(tmp_path, chat_tokenizer):
    rows = [{"prompt": "q" * 80, "chosen": f"good {i}", "rejected": "bad"} for i in range(9)]
    rows.append({"prompt": "q", "chosen": "good", "rejected": "bad"})
    data = prepared(write_rows(tmp_path / "a.jsonl", rows), chat_tokenizer, max_length=40)
    counted = sum(drop.count for drop in data.report.dropped.values())
    assert data.report.kept + sum(data.report.evals.values()) + counted == len(rows)


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
