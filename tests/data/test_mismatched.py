"""Who gets whose answer: another prompt's, each once, the same in every run of a seed."""

import json

import numpy as np
import pytest

from dpo_lite.data.mismatched import partners
from dpo_lite.data.prepare import prepare
from dpo_lite.errors import UserError
from dpo_lite.recipe import DataSection


@pytest.mark.parametrize(
    "keys", [range(9), [7, 7, 1, 2, 2, 3, 7, 4], [5, 5, 6, 6], [1, 2], [3, 3, 3, 8, 9, 10]]
)
@pytest.mark.parametrize("seed", range(5))
def test_each_answer_goes_to_another_prompt_once(keys, seed):
    keys = np.array(keys)
    taken = partners(keys, seed)
    assert (keys[taken] != keys).all()
    assert sorted(taken) == list(range(len(keys)))


def test_a_prompt_with_most_of_the_answers_takes_those_of_the_others_again():
    keys = np.array([4, 4, 9, 4, 4, 8])
    taken = partners(keys, 0)
    assert (keys[taken] != keys).all()
    assert {2, 5} <= set(taken[keys == 4])


def test_the_seed_settles_it():
    keys = np.arange(50)
    assert (partners(keys, 1) == partners(keys, 1)).all()
    assert (partners(keys, 1) != partners(keys, 2)).any()


def rows_of(numbers, words=3):
    return [
        {"prompt": f"q {n}", "completion": f"answer {n}" + " word" * words * n, "label": n % 2 == 0}
        for n in numbers
    ]


def prepared(tmp_path, tokenizer, train, test, **section):
    for name, rows in (("train", train), ("test", test)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines)
    section = DataSection(train=str(tmp_path), pairs="unpaired", **section)
    return prepare(section, tokenizer, seed=3)


def tokens(row, answer):
    return len(row["prompt_ids"]) + len(answer)


def told(tokenizer, rows):
    """Prompt, answer, label and mismatched answer of each example, as text."""
    read = tokenizer.decode
    return [
        (row["prompt"], read(row["response_ids"][0]), row["desirable"], read(row["mismatched_ids"]))
        for row in rows
    ]


def test_it_stands_beside_every_example(tmp_path, chat_tokenizer):
    data = prepared(tmp_path, chat_tokenizer, rows_of(range(6)), rows_of(range(10, 14)))
    for rows, numbers in ((data.train, range(6)), (data.evals["test"], range(10, 14))):
        found = told(chat_tokenizer, rows)
        assert [row[:2] for row in found] == [
            (f"q {n}", f"answer {n}" + " word" * 3 * n + "<|im_end|>") for n in numbers
        ]
        assert [row[2] for row in found] == [n % 2 == 0 for n in numbers]
        assert sorted(row[3] for row in found) == sorted(row[1] for row in found)
        assert all(row[1] != row[3] for row in found)
    again = prepared(tmp_path, chat_tokenizer, rows_of(range(6)), rows_of(range(10, 14)))
    assert told(chat_tokenizer, again.train) == told(chat_tokenizer, data.train)


def test_it_is_cut_where_it_would_be_too_long_with_its_prompt(tmp_path, chat_tokenizer):
    rows = [
        {"prompt": "long " * 30, "completion": "short", "label": True},
        {"prompt": "short", "completion": "long " * 30, "label": False},
    ]
    whole = prepared(tmp_path, chat_tokenizer, rows, rows_of([9], 0))
    most = max(tokens(row, row["response_ids"][0]) for row in whole.train)
    assert max(tokens(row, row["mismatched_ids"]) for row in whole.train) > most
    data = prepared(tmp_path, chat_tokenizer, rows, rows_of([9], 0), max_length=most)
    for row, uncut in zip(data.train, whole.train, strict=True):
        mismatched = row["mismatched_ids"]
        assert mismatched == uncut["mismatched_ids"][: len(mismatched)]
        assert tokens(row, mismatched) == min(tokens(row, uncut["mismatched_ids"]), most)


def test_a_held_out_prompt_that_is_alone_meets_the_training_answers(tmp_path, chat_tokenizer):
    data = prepared(tmp_path, chat_tokenizer, rows_of(range(4)), rows_of([9]))
    ((_, answer, _, other),) = told(chat_tokenizer, data.evals["test"])
    assert other in {row[1] for row in told(chat_tokenizer, data.train)}
    assert other != answer


def test_one_prompt_alone_is_refused(tmp_path, chat_tokenizer):
    one = [{"prompt": "q", "completion": f"answer {n}", "label": n > 0} for n in range(3)]
    with pytest.raises(UserError, match=r"data.train holds a single prompt, and task: kto"):
        prepared(tmp_path, chat_tokenizer, one, rows_of(range(2)))


def test_labels_are_counted_and_change_the_fingerprint(tmp_path, chat_tokenizer):
    rows, test = rows_of(range(5)), rows_of(range(10, 12))
    data = prepared(tmp_path, chat_tokenizer, rows, test)
    assert data.report.labels == {"good": 3, "bad": 2, "of_pairs": 0}
    turned = [*rows[:4], rows[4] | {"label": False}]
    other = prepared(tmp_path, chat_tokenizer, turned, test)
    assert other.fingerprint != data.fingerprint
    both = prepared(tmp_path, chat_tokenizer, [*rows, turned[4], rows[0]], test)
    assert len(both.train) == 6  # the last is a duplicate, the one before says the opposite
    assert any("1 answers stand in the data as good and as bad" in n for n in both.report.notes)
    good = prepared(tmp_path, chat_tokenizer, rows[::2], test)
    assert any("no answer is labelled bad" in note for note in good.report.notes)


def test_pairs_and_rankings_are_taken_apart(tmp_path, chat_tokenizer):
    rows = [
        {"prompt": "p", "chosen": "better", "rejected": "worse"},
        {"prompt": "q", "chosen": "fine", "rejected": "poor"},
    ]
    data = prepared(tmp_path, chat_tokenizer, rows, rows_of(range(2)))
    found = told(chat_tokenizer, data.train)
    labels = {
        (prompt, answer.removesuffix("<|im_end|>")): good for prompt, answer, good, _ in found
    }
    assert labels == {
        ("p", "better"): True,
        ("p", "worse"): False,
        ("q", "fine"): True,
        ("q", "poor"): False,
    }
    assert data.report.labels["of_pairs"] == len(data.train)
    assert any("each taken apart" in note for note in data.report.notes)
    ranked = [
        {"prompt": "p", "responses": ["b", "a", "c"], "scores": [2, 3, 1]},
        {"prompt": "q", "responses": ["x", "y"], "scores": [1, 1]},
        {"prompt": "r", "responses": ["x", "y"], "scores": [1, 2]},
    ]
    data = prepared(tmp_path, chat_tokenizer, ranked, rows_of(range(10, 12)))
    assert [(row[1][0], row[2]) for row in told(chat_tokenizer, data.train)] == [
        ("a", True),
        ("c", False),
        ("y", True),
        ("x", False),
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [{"role": "user", "content": "q"}], "completion": "a", "kto_tag": "true"},
        {"prompt": "q", "completion": [{"role": "assistant", "content": "a"}], "label": True},
        {"instruction": "q", "input": "", "output": "a", "kto_tag": True},
        {
            "messages": [
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": "a"},
                {"role": "user", "content": "thanks"},
            ],
            "label": 1,
        },
        {
            "conversations": [
                {"from": "human", "value": "q"},
                {"from": "gpt", "value": "a"},
            ],
            "kto_tag": "false",
        },
    ],
)
def test_every_labelled_format_is_taken(tmp_path, chat_tokenizer, row):
    label = str(row.get("label", row.get("kto_tag"))).lower() in ("true", "1")
    other = json.loads(json.dumps(row).replace('"q"', '"other"'))
    data = prepared(tmp_path, chat_tokenizer, [row, other], rows_of(range(10, 12)))
    found = told(chat_tokenizer, data.train)
    assert [part[:3] for part in found] == [
        ("q", "a<|im_end|>", label),
        ("other", "a<|im_end|>", label),
    ]


def test_what_has_no_label_is_no_example(tmp_path, chat_tokenizer):
    rows = [{"prompt": f"q {n}", "completion": "a"} for n in range(3)]
    with pytest.raises(UserError, match="3 not said whether the answer is good or bad"):
        prepared(tmp_path, chat_tokenizer, rows, rows_of(range(2)))


def test_pairs_wanted_of_labelled_rows_name_the_task_that_needs_none(tmp_path, chat_tokenizer):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows_of(range(3))))
    with pytest.raises(UserError, match=r"without a counterpart .*\(task: kto needs none\)"):
        prepare(DataSection(train=str(path)), chat_tokenizer)
