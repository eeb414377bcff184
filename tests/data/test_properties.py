"""Random rows through recognition, conversion and cleaning: examples or a reason, never a guess."""

import json
import os

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dpo_lite.data.cells import ASSISTANT, HUMAN
from dpo_lite.data.examples import BadRow, Dropped, Example
from dpo_lite.data.formats import FORMATS
from dpo_lite.data.pairs import PLACES, examples_of, pair_labelled
from dpo_lite.data.prepare import prepare
from dpo_lite.data.recognition import recognise
from dpo_lite.errors import UserError
from dpo_lite.recipe import DataSection


def examples(count):
    """The same examples in every run; DPO_LITE_FUZZ=50 tries fifty times as many new ones."""
    times = int(os.environ.get("DPO_LITE_FUZZ", "0"))
    return settings(
        max_examples=count * max(times, 1),
        derandomize=not times,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


COLUMNS = sorted({name for f in FORMATS for needs in f.needs for name in needs.split("|")})
KEYS = [
    "role",
    "from",
    "content",
    "value",
    "text",
    "rank",
    "answer",
    "response",
    "messages",
    "post",
]
ROLES = ["user", "assistant", "system", "human", "gpt", "tool", "nobody"]

text = st.text(max_size=12) | st.sampled_from(
    [HUMAN + " a" + ASSISTANT + " b", '[{"role": "user", "content": "a"}]', "{", "tie", "model_a"]
)
scalar = st.none() | st.booleans() | st.integers() | st.floats() | text
turn = st.fixed_dictionaries({"role": st.sampled_from(ROLES), "content": text | scalar})
cell = st.recursive(
    scalar | st.lists(turn, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
    ),
    max_leaves=6,
)
row = st.dictionaries(st.sampled_from([*COLUMNS, "system", "other"]), cell, max_size=8)


def convert(matched, rows, pairs="best_worst"):
    """As a run does it: examples and what is dropped."""
    found, dropped, labelled = [], [], []
    for number, cells in enumerate(rows):
        try:
            ranked = matched.convert(cells)
            if matched.grouped:
                labelled.append((number, cells, ranked))
            else:
                found += examples_of(ranked, cells, number, pairs)[0]
        except BadRow as bad:
            dropped.append(Dropped(number, bad.reason, bad.detail))
    paired, lost = pair_labelled(labelled, pairs)
    return found + paired, dropped + lost


@examples(600)
@given(st.lists(row, min_size=1, max_size=6), st.sampled_from(sorted(PLACES)))
@pytest.mark.slow
def test_random_rows_are_examples_or_have_a_reason(rows, pairs):
    try:
        matched = [recognise(rows)]
    except UserError:
        matched = FORMATS  # a user may name any of them
    for candidate in matched:
        found, dropped = convert(candidate, rows, pairs)
        for example in found:
            assert isinstance(example, Example)
            assert example.prompt[-1]["content"].strip()
            bare = [answer.strip() for answer in example.responses]
            assert all(bare)
            assert len(set(bare)) == len(bare)
        if not candidate.grouped:
            assert {e.row for e in found} | {d.row for d in dropped} == set(range(len(rows)))
            assert not {e.row for e in found} & {d.row for d in dropped}


def turns(*contents):
    return [
        {"role": role, "content": content}
        for role, content in zip(["user", "assistant"] * 3, contents, strict=False)
    ]


# Every builder takes (question, good, bad) and says in its own way that good is preferred.
BUILDERS = {
    "triples": lambda q, a, b: {"prompt": q, "chosen": a, "rejected": b},
    "orca": lambda q, a, b: {"question": q, "rejected": b, "chosen": a, "system": "be kind"},
    "hh-rlhf": lambda q, a, b: {
        "rejected": f"{HUMAN} {q}{ASSISTANT} {b}",
        "chosen": f"{HUMAN} {q}{ASSISTANT} {a}",
    },
    "conversations": lambda q, a, b: {"rejected": turns(q, b), "chosen": turns(q, a)},
    "conversational": lambda q, a, b: {
        "prompt": turns(q),
        "rejected": turns(q, b)[1:],
        "chosen": turns(q, a)[1:],
    },
    "shp": lambda q, a, b: {
        "history": q, "human_ref_A": b, "human_ref_B": a, "labels": 0, "score_ratio": 3.0,
    },
    "tldr-comparisons": lambda q, a, b: {
        "info": {"post": q}, "summaries": [{"text": b}, {"text": a}], "choice": 1,
    },
    "nectar": lambda q, a, b: {
        "prompt": q, "answers": [{"answer": b, "rank": 2.0}, {"answer": a, "rank": 1.0}],
    },
    "helpsteer2-preference": lambda q, a, b: {
        "prompt": q, "response_1": b, "response_2": a, "preference_strength": 2,
    },
    "pku-saferlhf": lambda q, a, b: {
        "prompt": q, "response_0": b, "response_1": a, "better_response_id": 1,
    },
    "arena": lambda q, a, b: {
        "conversation_a": turns(q, b), "conversation_b": turns(q, a), "winner": "model_b",
    },
    "ranking": lambda q, a, b: {"prompt": q, "responses": [b, a], "ranks": [2, 1]},
    "stack-exchange-paired": lambda q, a, b: {"question": q, "response_k": b, "response_j": a},
    "openai-preference": lambda q, a, b: {
        "input": {"messages": turns(q)},
        "preferred_output": turns(q, a)[1:],
        "non_preferred_output": turns(q, b)[1:],
    },
}  # fmt: skip


@pytest.mark.parametrize("name", BUILDERS)
@examples(60)
@given(st.text(min_size=1), st.text(min_size=1), st.text(min_size=1))
def test_the_direction_is_never_wrong(name, question, good, bad):
    assume(good.strip() != bad.strip())
    cells = BUILDERS[name](question, good, bad)
    try:
        found = recognise([cells])
    except UserError:  # such as a text that is itself a list of messages
        return
    assume(found.name == name)
    for example in convert(found, [cells])[0]:
        assert good.strip().endswith(example.responses[0].strip())
        assert bad.strip().endswith(example.responses[1].strip())


@pytest.mark.slow
@examples(80)
@given(rows=st.lists(row, min_size=1, max_size=8))
def test_random_files_are_prepared_or_refused_in_a_sentence(rows, tmp_path, chat_tokenizer):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(cells) + "\n" for cells in rows))
    try:
        data = prepare(DataSection(train=str(path)), chat_tokenizer)
    except UserError:
        return
    end = chat_tokenizer.eos_token_id
    for example in data.train:
        assert example["prompt_ids"]
        assert all(i.count(end) == 1 and i[-1] == end for i in example["response_ids"])
