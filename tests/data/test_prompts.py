"""Prompts without answers, for a policy that answers by itself: data.pairs: prompts."""

import json
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from dpo_lite.data.examples import BadRow, Example, Reason
from dpo_lite.data.findings import describe_lengths, shared_saving
from dpo_lite.data.formats import FORMATS
from dpo_lite.data.lengths import lengths_of
from dpo_lite.data.limits import LEAST_WORDS
from dpo_lite.data.pairs import examples_of
from dpo_lite.data.prepare import prepare
from dpo_lite.data.recognition import recognise
from dpo_lite.data.tokens import Encoder
from dpo_lite.errors import UserError
from dpo_lite.recipe import DataSection
from tests.data.rows_of_formats import (
    ANSWER,
    ASK,
    ASKED_AGAIN,
    BAD,
    DIALOGUE,
    FIXTURES,
    GOOD,
    HELLO,
    PROMPTS,
    REJECTED,
    SYSTEM,
    Q,
    says,
)
from tests.data.test_formats import kind
from tests.data.test_prepare import labelled, triples, write_rows
from tests.data.test_tokens import EXAMPLES
from tests.data.tokenizers import tokenizer_for


def asked(train, tokenizer, room=0, model_limit=None, **keys):
    section = DataSection(train=train, pairs="prompts", **keys)
    return prepare(section, tokenizer, model_limit=model_limit, room=room)


# --- a row ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIXTURES)
def test_every_format_gives_the_prompt_that_its_answers_stand_behind(name):
    row = FIXTURES[name]
    found, whole = kind(name).ask(row), kind(name).convert(row)
    assert found.prompt == whole.prompt == PROMPTS.get(name, [ASK])
    assert found.template == whole.template
    (example,), dropped = examples_of(found, row, 7, "prompts")
    assert (example.prompt, example.responses, example.row) == (whole.prompt, [], 7)
    assert {drop.reason for drop in dropped} <= {Reason.BEHIND}


UNANSWERED = [  # fixture, what is changed: no pair could be made of it
    ("triples", {"chosen": None, "rejected": " "}),
    ("triples", {"rejected": GOOD}),
    ("conversational", {"chosen": ASKED_AGAIN, "rejected": 3}),
    ("conversations", {"score_chosen": 4, "score_rejected": 4}),
    ("conversations", {"rejected": [says("user", "What?"), REJECTED]}),
    ("conversations", {"chosen": None}),
    ("conversations", {"chosen": [*ASKED_AGAIN, says("assistant", None)]}),
    ("conversations", {"chosen": [*ASKED_AGAIN, {**ANSWER, "tool_calls": [{"name": "look"}]}]}),
    ("hh-rlhf", {"chosen": DIALOGUE, "rejected": None}),
    ("distilabel-orca", {"status": "tie"}),
    ("argilla-instruction", {"rejected_avg_rating": 4.5}),
    ("alpaca-ranking", {"chosen": BAD}),
    ("sharegpt-ranking", {"chosen": None}),
    ("messages-ranking", {"rejected": [REJECTED]}),
    ("ms-swift", {"rejected_response": GOOD}),
    ("openai-preference", {"preferred_output": [ASK]}),
    ("stack-exchange-paired", {"response_k": None}),
    ("shp", {"score_ratio": 1.1}),
    ("tldr-comparisons", {"choice": 5, "summaries": []}),
    ("helpsteer2-preference", {"preference_strength": 0}),
    ("helpsteer3-preference", {"overall_preference": None}),
    ("pku-saferlhf", {"better_response_id": 2}),
    ("arena", {"winner": "tie"}),
    ("arena-pairwise", {"winner_model_b": 0, "winner_tie": 1}),
    ("nectar", {"answers": [{"answer": GOOD, "rank": 1}]}),
    ("ultrafeedback", {"completions": []}),
    ("ranking", {"scores": [1, 1, 1]}),
    ("kto", {"label": "?", "completion": ""}),
    ("kto-messages", {"label": "?"}),
    ("kto-alpaca", {"output": None, "kto_tag": "?"}),
    ("sft-completion", {"completion": ""}),
    ("sft-alpaca", {"output": None}),
]


@pytest.mark.parametrize(("name", "change"), UNANSWERED)
def test_answers_are_not_looked_at(name, change):
    row = FIXTURES[name] | change
    assert kind(name).ask(row).prompt == PROMPTS.get(name, [ASK])


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("triples", {"prompt": None}, Reason.NOT_TEXT),
        ("triples", {"prompt": " "}, Reason.EMPTY_PROMPT),
        ("prompts", {"prompt": [*HELLO]}, Reason.MALFORMED),
        ("prompts", {"prompt": [SYSTEM]}, Reason.EMPTY_PROMPT),
        ("prompts", {"prompt": [says("narrator", Q)]}, Reason.MALFORMED),
        ("prompts", {"tools": "none"}, Reason.MALFORMED),
        ("conversations", {"chosen": [SYSTEM]}, Reason.MALFORMED),
        ("hh-rlhf", {"chosen": "\n\nHuman: a"}, Reason.MALFORMED),
        ("arena-pairwise", {"prompt": [Q, Q]}, Reason.PROMPTS_DIFFER),
    ],
)
def test_a_prompt_that_cannot_be_asked_is_a_bad_row(name, change, reason):
    row = FIXTURES[name] | change
    with pytest.raises(BadRow) as caught:
        examples_of(kind(name).ask(row), row, 0, "prompts")
    assert caught.value.reason is reason


# --- recognition ---------------------------------------------------------------------------------

ALONE = {"prompt": Q}


@pytest.mark.parametrize(
    "sample",
    [
        [ALONE],
        [{"prompt": DIALOGUE}],
        [{"prompt": json.dumps([ASK])}],
        [ALONE | {"chosen": None, "label": None}],
        [ALONE | {"response": GOOD, "id": 3, "chosen_markers": ["rust"]}],
        [{"prompt": None}, {"prompt": 3}, ALONE],
    ],
)
def test_prompts_alone_are_a_format_where_they_are_enough(sample):
    assert recognise(sample, prompts=True).name == "prompts"
    with pytest.raises(UserError, match=r"^f: it holds prompts alone.* task: ppo answers them\."):
        recognise(sample, where="f")


def test_rows_without_answers_do_not_make_a_file_of_pairs_a_mixed_one():
    sample = [ALONE | {"chosen": None}, FIXTURES["triples"]]
    assert recognise(sample, prompts=True).name == "triples"


@pytest.mark.parametrize("column", [n for f in FORMATS for n in f.lacks if f.name == "prompts"])
def test_a_column_of_another_format_is_asked_about(column):
    row = ALONE | {column: b"no answer of any format"}
    with pytest.raises(UserError) as caught:
        recognise([row], prompts=True)
    assert f"`{column}`" in str(caught.value)
    assert recognise([row], "prompts", prompts=True).name == "prompts"


@pytest.mark.parametrize(
    ("row", "wanted", "prompts", "words"),
    [
        (ALONE, "prompts", False, "data.format=prompts: it holds prompts alone, .* task: ppo"),
        (ALONE | {"response": GOOD}, "auto", False, r"columns='\{completion: response\}'"),
        ({"ask": Q}, "auto", True, r"simplest is prompts .*data\.columns='\{prompt: ask\}'"),
        ({"ask": Q}, "prompts", True, r"missing or empty: `prompt`.*'\{prompt: ask\}'"),
        ({"prompt": 3}, "auto", True, "nearest is prompts .*`prompt` is a number, not text or"),
        (ALONE | {"chosen": GOOD}, "auto", True, "like prompts, but have `chosen` as well"),
    ],
)
def test_errors_say_what_settles_it(row, wanted, prompts, words):
    with pytest.raises(UserError, match=f"^f: .*{words}") as caught:
        recognise([row], wanted, "f", prompts)
    assert len(str(caught.value)) < 700


# --- ids -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["qwen2_5", "llama3", "gemma", "gptoss"])
@pytest.mark.parametrize("raw", [False, True])
def test_ids_are_those_of_a_prompt_that_is_answered(name, raw):
    """With and without responses, and as the model is asked anywhere else."""
    encoder = Encoder(tokenizer_for(name), raw)
    prompts = [Example(example.prompt, [], example.row) for example in EXAMPLES]
    alone = encoder.tokenise([encoder.render(prompt) for prompt in prompts])
    whole = encoder.tokenise([encoder.render(example) for example in EXAMPLES])
    for prompt, found, answered in zip(prompts, alone, whole, strict=True):
        assert found.response_ids == []
        assert not found.melted
        assert found.prompt_ids == answered.prompt_ids == encoder.prompt_ids(prompt.prompt)


@pytest.mark.parametrize("format", ["auto", "raw"])
def test_the_table_holds_the_ids_of_the_generation_prompt(tmp_path, chat_tokenizer, format):
    rows = [{"prompt": "the cat "}, {"prompt": ASKED_AGAIN}, {"prompt": "why"}]
    path = write_rows(tmp_path / "a.jsonl", rows)
    data = asked(path, chat_tokenizer, format=format, max_length=500)
    encoder = Encoder(chat_tokenizer, raw=format == "raw")
    found = [*data.train, *data.evals["held_out"]]
    assert len(found) == 3
    for example in found:
        assert example["prompt_ids"] == encoder.prompt_ids(rows[example["row"]]["prompt"])
        assert example["response_ids"] == []


# --- lengths -------------------------------------------------------------------------------------


def table(*examples):
    rows = [
        {"prompt_ids": [0] * p, "response_ids": [[0] * n for n in each]} for p, each in examples
    ]
    kinds = {"prompt_ids": pa.list_(pa.int32()), "response_ids": pa.list_(pa.list_(pa.int32()))}
    return pa.Table.from_pylist(rows, pa.schema(kinds))


def test_lengths_of_examples_with_and_without_responses():
    whole = table((5, []), (3, [2, 7, 4]), (1, []), (2, []), (4, [6]), (9, []))
    expected = {
        "prompt": [5, 3, 1, 2, 4, 9],
        "first": [0, 2, 0, 0, 6, 0],
        "last": [0, 4, 0, 0, 6, 0],
        "longest": [0, 7, 0, 0, 6, 0],
        "responses": [0, 13, 0, 0, 6, 0],
        "count": [0, 3, 0, 0, 1, 0],
        "whole": [5, 10, 1, 2, 10, 9],
    }
    # In one piece, and in pieces that begin and end without responses.
    for cut in ([], [1], [2, 4], [3], [1, 2, 3, 4, 5]):
        edges = [0, *cut, 6]
        parts = [whole.slice(a, b - a) for a, b in pairwise(edges)]
        found = lengths_of(pa.concat_tables(parts))
        assert {name: getattr(found, name).tolist() for name in expected} == expected
        assert found.of_batch(shared=True).tolist() == [5, 16, 1, 2, 10, 9]
        assert found.of_batch(shared=False).tolist() == [5, 30, 1, 2, 10, 9]


def test_lengths_of_prompts_alone_and_of_nothing():
    found = lengths_of(table((5, []), (3, [])))
    assert found.whole.tolist() == [5, 3]
    assert found.longest.tolist() == [0, 0]
    assert set(describe_lengths(found)) == {"prompt"}
    assert shared_saving(found) == 0
    assert len(lengths_of(table()).whole) == 0


# --- from a file to prompts ----------------------------------------------------------------------


def test_each_prompt_counts_once_and_the_report_speaks_of_prompts(tmp_path, chat_tokenizer):
    rows = [
        *triples(60),
        {"prompt": "the cat 3 ", "chosen": "other", "rejected": "answers"},
        {"prompt": "same", "chosen": "x", "rejected": "x"},
        {"prompt": "none", "chosen": "", "rejected": None},
        {"prompt": " ", "chosen": "a", "rejected": "b"},
        {"prompt": "a <|im_end|>", "chosen": "a", "rejected": "b"},
    ]
    data = asked(write_rows(tmp_path / "a.jsonl", rows), chat_tokenizer, max_length=500)
    report = data.report
    assert {reason: drop.rows for reason, drop in report.dropped.items()} == {
        Reason.DUPLICATE: [60],
        Reason.EMPTY_PROMPT: [63],
        Reason.SPECIAL: [64],
    }
    found = [*data.train, *data.evals["held_out"]]
    assert {e["row"] for e in found} == {*range(60), 61, 62}
    assert not set(data.train["prompt"]) & set(data.evals["held_out"]["prompt"])
    assert report.prompts_alone
    assert report.responses == {"fewest": 0, "most": 0}
    assert set(report.lengths) == {"prompt"}
    assert report.chosen_longer is None
    assert (report.shared_saving, report.contradicting, report.melted) == (0, 0, 0)
    assert all(example["responses"] == [] for example in report.examples)
    json.dumps(report.to_json())


def test_labelled_answers_give_their_prompts_whatever_the_label(tmp_path, chat_tokenizer):
    rows = [labelled("p", "bad", False), labelled("q", "", True), labelled("p", "good", True)]
    data = asked(write_rows(tmp_path / "a.jsonl", rows), chat_tokenizer)
    found = [*data.train, *data.evals["held_out"]]
    assert sorted(example["prompt"] for example in found) == ["p", "q"]
    assert {r: d.rows for r, d in data.report.dropped.items()} == {Reason.DUPLICATE: [2]}


def test_a_ranking_is_one_prompt(tmp_path, chat_tokenizer):
    row = {"prompt": "q", "responses": ["b", "a", "b"], "scores": [3, 3, 1]}
    data = asked(write_rows(tmp_path / "a.jsonl", [row]), chat_tokenizer)
    assert data.train["prompt"][:] == ["q"]


def test_markers_stay_on_the_prompts(tmp_path, chat_tokenizer):
    rows = [
        {"prompt": f"q {n}", "chosen_markers": [f"good {n}"], "rejected_markers": ["bad", "worse"]}
        for n in range(8)
    ]
    data = asked(write_rows(tmp_path / "a.jsonl", rows), chat_tokenizer, max_length=500)
    assert data.report.format == "prompts"
    for example in [*data.train, *data.evals["held_out"]]:
        assert example["chosen_markers"] == [f"good {example['row']}"]
        assert example["rejected_markers"] == ["bad", "worse"]


def test_held_out_prompts_leave_the_training_prompts_and_count_once(tmp_path, chat_tokenizer):
    train = write_rows(tmp_path / "train.jsonl", triples(10))
    held_out = write_rows(
        tmp_path / "test.jsonl",
        [{"prompt": f"the cat {n}"} for n in (1, 2, 2)] + [{"prompt": "the dog"}],
    )
    data = asked(train, chat_tokenizer, eval=held_out, max_length=500)
    assert data.report.dropped[Reason.IN_EVAL].rows == [1, 2]
    assert data.report.dropped[f"held out, test: {Reason.DUPLICATE.value}"].rows == [2]
    assert data.evals["test"]["prompt"][:] == ["the cat 1", "the cat 2", "the dog"]
    assert all(ids == [] for ids in data.evals["test"]["response_ids"])
    assert data.report.format == "triples"


def test_prompts_alone_teach_no_other_task_anything(tmp_path, chat_tokenizer):
    path = write_rows(tmp_path / "a.jsonl", [{"prompt": f"q {n}"} for n in range(5)])
    for pairs in ("best_worst", "best", "keep"):
        with pytest.raises(UserError, match=r"prompts alone.* task: ppo answers them"):
            prepare(DataSection(train=path, pairs=pairs), chat_tokenizer)
    pairs = write_rows(tmp_path / "b.jsonl", triples(5))
    with pytest.raises(UserError, match=r"data\.eval: .*prompts alone"):
        prepare(DataSection(train=pairs, eval=path), chat_tokenizer)


def test_max_length_limits_the_prompt_and_leaves_room_for_the_answer(tmp_path, chat_tokenizer):
    rows = [
        {"prompt": "q" * n, "chosen": "good " * 99, "rejected": "bad"}
        for n in (*range(1, 30), *range(500, 671))
    ]
    path = write_rows(tmp_path / "a.jsonl", rows)
    data = asked(path, chat_tokenizer)
    assert data.report.dropped[Reason.TOO_LONG].count in (1, 2)
    assert data.max_length == max(map(len, data.train["prompt_ids"]))
    limited = asked(path, chat_tokenizer, model_limit=100, room=36)
    assert limited.max_length == 64
    assert np.all(limited.lengths.whole <= 64)
    assert asked(path, chat_tokenizer, model_limit=100, room=36, max_length=64).max_length == 64
    with pytest.raises(UserError, match="limit of 100 tokens, of which 36 stay free"):
        asked(path, chat_tokenizer, model_limit=100, room=36, max_length=65)
    with pytest.raises(UserError, match=r"of which 100 stay free .*no prompt fits"):
        asked(path, chat_tokenizer, model_limit=100, room=100)


def test_what_happens_to_long_prompts(tmp_path, chat_tokenizer):
    rows = [*triples(40), {"prompt": "dog " * 90 + "end"}]
    path = write_rows(tmp_path / "a.jsonl", rows)
    held_out = write_rows(tmp_path / "b.jsonl", [{"prompt": "other"}])
    keys = {"max_length": 60, "eval": held_out}
    assert asked(path, chat_tokenizer, **keys).report.dropped[Reason.TOO_LONG].rows == [40]
    cut = asked(path, chat_tokenizer, on_long="truncate_prompt_start", **keys)
    last = cut.train[len(cut.train) - 1]
    assert (last["row"], len(last["prompt_ids"]), last["response_ids"]) == (40, 60, [])
    assert cut.lengths.prompt[-1] == 60 > Encoder(chat_tokenizer).opening + LEAST_WORDS


def test_a_recipe_keeps_room_for_what_ppo_draws(tmp_path, tiny_base):
    from dpo_lite.recipe import validate_recipe
    from dpo_lite.training.recipe_data import load_data

    rows = [{"prompt": "q" * n} for n in range(1, 510, 4)]
    values = {
        "task": "ppo",
        "model": {"base": tiny_base},
        "data": {"train": write_rows(tmp_path / "a.jsonl", rows)},
        "ppo": {"reward": "a-judge", "max_new_tokens": 300},
    }
    _, data = load_data(validate_recipe(values, "test"))
    assert data.max_length == 512 - 300
    assert data.lengths.prompt.max() <= 512 - 300


@pytest.mark.slow
@pytest.mark.real
def test_the_real_hh_file(hh_file, chat_tokenizer):
    data = asked(str(hh_file), chat_tokenizer, max_length=100_000)
    report = data.report
    assert report.rows == 2312
    counts = {reason: drop.count for reason, drop in report.dropped.items()}
    # Four hold two answers in a row; prompts that differ and empty answers are no fault here.
    assert counts == {Reason.MALFORMED: 4, Reason.DUPLICATE: counts[Reason.DUPLICATE]}
    assert report.kept + sum(report.evals.values()) + sum(counts.values()) == 2312
    assert len(set(map(tuple, data.train["prompt_ids"]))) == report.kept
