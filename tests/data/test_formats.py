"""Every format on rows as its data sets have them: recognised alone, and never turned round."""

import contextlib
import copy
import json
import random
import re

import pytest

from dpo_lite.data.examples import BadRow, Reason, calls_of
from dpo_lite.data.formats import FORMATS, formats_table
from dpo_lite.data.recognition import recognise
from dpo_lite.errors import UserError

BY_NAME = {f.name: f for f in FORMATS}
Q, GOOD, BAD, BAD2, RULES = (
    "Why is it red?",
    "GOOD: rust.",
    "BAD: paint.",
    "BAD 2: no.",
    "Be brief.",
)


def says(role, content):
    return {"role": role, "content": content}


def says_too(role, content):
    return {"from": role, "value": content}


ASK, ANSWER, REJECTED = says("user", Q), says("assistant", GOOD), says("assistant", BAD)
HELLO = [says("user", "Hello"), says("assistant", "Hi.")]
ASKED_AGAIN = [*HELLO, ASK]
SYSTEM = says("system", RULES)
DIALOGUE = f"\n\nHuman: Hello\n\nAssistant: Hi.\n\nHuman: {Q}\n\nAssistant:"
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


def rated(response, *ratings):
    names = ("helpfulness", "honesty", "instruction_following", "truthfulness")
    notes = {n: {"Rating": r, "Rationale": "…"} for n, r in zip(names, ratings, strict=True)}
    return {"model": "m", "response": response, "annotations": notes, "overall_score": 7.0}


# name or name/variant -> a row with the columns of the data set
FIXTURES = {
    "triples": {"prompt": Q, "chosen": GOOD, "rejected": BAD},
    "triples/system": {"system": RULES, "prompt": Q, "chosen": GOOD, "rejected": BAD},
    "triples/rm-static": {
        **{"prompt": DIALOGUE, "response": GOOD, "chosen": GOOD, "rejected": BAD},
    },
    "triples/one-message": {"prompt": Q, "chosen": [ANSWER], "rejected": [REJECTED]},
    "conversational": {"prompt": ASKED_AGAIN, "chosen": [ANSWER], "rejected": [REJECTED]},
    "conversational/repeats-prompt": {
        "prompt": [SYSTEM, ASK],
        "chosen": [SYSTEM, ASK, ANSWER],
        "rejected": [SYSTEM, ASK, REJECTED],
    },
    "conversational/texts": {"prompt": [ASK], "chosen": GOOD, "rejected": BAD},
    "conversational/tools": {
        "prompt": [ASK],
        "chosen": [ANSWER],
        "rejected": [REJECTED],
        "tools": json.dumps(TOOLS),
        "chat_template_kwargs": {"enable_thinking": False},
    },
    "conversations": {"chosen": [*ASKED_AGAIN, ANSWER], "rejected": [*ASKED_AGAIN, REJECTED]},
    "conversations/ultrafeedback-binarized": {
        "prompt": "another text than the turns",
        "prompt_id": "ab12",
        "chosen": [ASK, ANSWER],
        "rejected": [ASK, REJECTED],
        "messages": [ASK, ANSWER],
        "score_chosen": 8.0,
        "score_rejected": 4.5,
    },
    "conversations/argilla-cleaned": {
        "source": "sharegpt",
        "prompt": Q,
        "chosen": [ASK, ANSWER],
        "chosen-rating": 5.0,
        "chosen-model": "a",
        "rejected": [ASK, REJECTED],
        "rejected-rating": 2.0,
        "rejected-model": "b",
    },
    "conversations/dpo-mix-7k": {
        "dataset": "capybara",
        "chosen": [SYSTEM, ASK, ANSWER],
        "rejected": [SYSTEM, ASK, REJECTED],
        "chosen_rating": 5.0,
        "rejected_rating": 4.0,
    },
    "conversations/capybara": {
        "source": "Dove",
        "conversation": [{"input": Q, "output": GOOD}],
        "prompt": Q,
        "chosen": [ASK, ANSWER],
        "rejected": [ASK, REJECTED],
        "rating_chosen": 5,
        "rating_rejected": 3,
    },
    "conversations/sharegpt-spelling": {
        "chosen": [says_too("human", Q), says_too("gpt", GOOD)],
        "rejected": [says_too("human", Q), says_too("gpt", BAD)],
    },
    "hh-rlhf": {"chosen": f"{DIALOGUE} {GOOD}", "rejected": f"{DIALOGUE} {BAD}"},
    "orca": {"system": RULES, "question": Q, "chosen": GOOD, "rejected": BAD},
    "distilabel-orca": {
        "system": RULES,
        "input": Q,
        "chosen": GOOD,
        "rejected": BAD,
        "generations": [BAD, GOOD],
        "order": ["rejected", "chosen"],
        "rating": [4.0, 9.0],
        "status": "swapped",
        "chosen_score": 9.0,
        "in_gsm8k_train": False,
    },
    "argilla-instruction": {
        "source": "evol_instruct",
        "instruction": Q,
        "chosen_response": GOOD,
        "rejected_response": BAD,
        "chosen_avg_rating": 4.5,
        "rejected_avg_rating": 4.0,
    },
    "alpaca-ranking": {
        "instruction": "Why is it red?",
        "input": "A bridge.",
        "chosen": GOOD,
        "rejected": BAD,
        "system": RULES,
        "history": [["Hello", "Hi."]],
    },
    "alpaca-ranking/plain": {"instruction": Q, "input": "", "chosen": GOOD, "rejected": BAD},
    "sharegpt-ranking": {
        "conversations": [
            *(says_too("human", "Hello"), says_too("gpt", "Hi."), says_too("human", Q)),
        ],
        "chosen": says_too("gpt", GOOD),
        "rejected": says_too("gpt", BAD),
        "system": RULES,
    },
    "messages-ranking": {"messages": [SYSTEM, ASK], "chosen": ANSWER, "rejected": REJECTED},
    "ms-swift": {"messages": [SYSTEM, ASK, ANSWER], "rejected_response": BAD},
    "ms-swift/messages": {"messages": [ASK, ANSWER], "rejected_messages": [ASK, REJECTED]},
    "openai-preference": {
        "input": {"messages": [SYSTEM, ASK], "tools": [], "parallel_tool_calls": True},
        "preferred_output": [ANSWER],
        "non_preferred_output": [REJECTED],
    },
    "stack-exchange-paired": {
        "qid": 7,
        "question": Q,
        "date": "2012-01-01",
        "metadata": ["https://example.org"],
        "response_j": GOOD,
        "response_k": BAD,
    },
    "shp": {
        "post_id": "p",
        "domain": "askscience_train",
        "history": Q,
        "human_ref_A": BAD,
        "human_ref_B": GOOD,
        "labels": 0,
        "score_A": 10,
        "score_B": 30,
        "score_ratio": 3.0,
    },
    "tldr-comparisons": {
        "info": {
            **{"id": "t3", "post": "I tripped.", "title": "Ow", "subreddit": "tifu"},
            **{"site": None, "article": None},
        },
        "summaries": [
            {"text": BAD, "policy": "sup1", "note": None},
            {"text": GOOD, "policy": "ref", "note": None},
        ],
        "choice": 1,
        "worker": "w",
        "batch": "batch3",
        "split": "train",
        "extra": {"confidence": 8},
    },
    "tldr-comparisons/article": {
        "info": {"id": "c1", "post": None, "title": "Ow", "subreddit": None, "article": "News."},
        "summaries": [{"text": GOOD, "policy": "ref"}, {"text": BAD, "policy": "sup1"}],
        "choice": 0,
        "batch": "cnndm0",
    },
    "helpsteer2-preference": {
        "prompt": f"Hello\n\n<extra_id_1>Assistant\nHi.\n\n<extra_id_1>User\n{Q}",
        "response_1": GOOD,
        "response_2": BAD,
        "preference_strength": -2,
        "preference_statement": "…",
        "split": "train",
    },
    "helpsteer3-preference": {
        "domain": "general",
        "language": "english",
        "context": ASKED_AGAIN,
        "response1": BAD,
        "response2": GOOD,
        "overall_preference": 1,
        "individual_preference": [{"score": 1, "reasoning": "…"}],
    },
    "pku-saferlhf": {
        "prompt": Q,
        "response_0": BAD,
        "response_1": GOOD,
        "is_response_0_safe": True,
        "is_response_1_safe": True,
        "better_response_id": 1,
        "safer_response_id": 0,
    },
    "arena": {
        "question_id": "q",
        "model_a": "m",
        "model_b": "n",
        "winner": "model_b",
        "conversation_a": [*ASKED_AGAIN, REJECTED],
        "conversation_b": [*ASKED_AGAIN, ANSWER],
        "turn": 2,
        "anony": True,
    },
    "arena/parts": {
        "winner": "model_a",
        "conversation_a": [
            says("user", [{"type": "text", "text": Q, "image": None}]),
            says("assistant", [{"type": "text", "text": GOOD, "image": None}]),
        ],
        "conversation_b": [
            says("user", [{"type": "text", "text": Q, "image": None}]),
            says("assistant", [{"type": "text", "text": BAD, "image": None}]),
        ],
    },
    "arena-pairwise": {
        "id": 1,
        "model_a": "m",
        "model_b": "n",
        "prompt": json.dumps([Q]),
        "response_a": json.dumps([BAD]),
        "response_b": json.dumps([GOOD]),
        "winner_model_a": 0,
        "winner_model_b": 1,
        "winner_tie": 0,
    },
    "arena-pairwise/texts": {
        **{"prompt": Q, "response_a": GOOD, "response_b": BAD},
        **{"winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0},
    },
    "nectar": {
        "prompt": f"{DIALOGUE} ",
        "answers": [
            {"answer": BAD, "model": "m", "rank": 2.0},
            {"answer": GOOD, "model": "n", "rank": 1.0},
            {"answer": BAD2, "model": "o", "rank": 3.0},
        ],
        "turns": 1,
        "num_responses": 3,
        "source": ["lmsys-chat-1m"],
        "good_natured": True,
    },
    "ultrafeedback": {
        "source": "evol_instruct",
        "instruction": Q,
        "models": ["m", "n", "o"],
        "completions": [
            rated(BAD, "3", "N/A", "4", "3"),
            rated(BAD2, "1", "2", "1", "1"),
            rated(GOOD, "5", "N/A", "N/A", "4"),
        ],
        "correct_answers": ["None"],
    },
    "ranking": {"prompt": Q, "responses": [BAD, GOOD, BAD2], "scores": [1.5, 4, -1]},
    "ranking/ranks": {
        "prompt": [SYSTEM, ASK],
        "responses": [REJECTED, ANSWER, [says("assistant", BAD2)]],
        "ranks": [2, 1, 3],
    },
    "kto": {"prompt": [ASK], "completion": [ANSWER], "label": True},
    "kto/texts": {"system": RULES, "prompt": Q, "completion": GOOD, "label": True, "rating": 9.0},
    "kto-messages": {"messages": [*ASKED_AGAIN, ANSWER], "label": True, "tools": None},
    "kto-messages/sharegpt": {
        "conversations": [says_too("human", Q), says_too("gpt", GOOD)],
        "kto_tag": "true",
        "system": RULES,
    },
    "kto-alpaca": {"instruction": Q, "input": "", "output": GOOD, "kto_tag": 1, "system": RULES},
    "sft-messages": {"prompt": Q, "prompt_id": "a", "messages": [*ASKED_AGAIN, ANSWER]},
    "sft-messages/sharegpt": {
        "conversations": [says_too("human", Q), says_too("gpt", GOOD), says_too("human", "Thanks")],
        "system": RULES,
    },
    "sft-completion": {"prompt": [SYSTEM, ASK], "completion": [ANSWER]},
    "sft-completion/texts": {"prompt": Q, "completion": GOOD},
    "sft-alpaca": {"instruction": Q, "input": "", "output": GOOD, "text": "all of it"},
    "prompts": {"prompt": [SYSTEM, ASK]},
    "prompts/texts": {"system": RULES, "prompt": Q, "source": "exam"},
}


def as_each(value, names):
    return {name: value for name in names.split()}


TLDR = "SUBREDDIT: r/tifu\n\nTITLE: Ow\n\nPOST: I tripped.\n\nTL;DR:"
PROMPTS = {  # where the prompt is not Q alone
    **as_each(
        [SYSTEM, ASK],
        "triples/system conversational/repeats-prompt conversations/dpo-mix-7k orca "
        "distilabel-orca messages-ranking ms-swift openai-preference ranking/ranks kto/texts "
        "kto-messages/sharegpt kto-alpaca "
        "sft-messages/sharegpt sft-completion prompts prompts/texts",
    ),
    **as_each(
        ASKED_AGAIN,
        "triples/rm-static conversational conversations hh-rlhf helpsteer2-preference "
        "helpsteer3-preference arena nectar sft-messages kto-messages",
    ),
    "alpaca-ranking": [SYSTEM, *HELLO, says("user", f"{Q}\nA bridge.")],
    "sharegpt-ranking": [SYSTEM, *ASKED_AGAIN],
    "tldr-comparisons": [says("user", TLDR)],
    "tldr-comparisons/article": [says("user", "Article:\nNews.\n\nTL;DR:")],
}


def swapped(*columns):
    return lambda row: {**row, columns[0]: row[columns[1]], columns[1]: row[columns[0]]}


def turned(column, key):
    """The grades of a list of objects the other way round."""

    def turn(row):
        grades = [item[key] for item in row[column]]
        order = sorted(grades, key=json.dumps)
        place = {json.dumps(g): order[-1 - i] for i, g in enumerate(order)}
        return {**row, column: [{**o, key: place[json.dumps(o[key])]} for o in row[column]]}

    return turn


TURNS = {  # the same row with the preference the other way round
    **as_each(
        swapped("chosen", "rejected"),
        "triples conversational conversations hh-rlhf orca distilabel-orca alpaca-ranking "
        "sharegpt-ranking messages-ranking",
    ),
    "argilla-instruction": swapped("chosen_response", "rejected_response"),
    "ms-swift/messages": swapped("messages", "rejected_messages"),
    "ms-swift": lambda row: {"messages": [SYSTEM, ASK, REJECTED], "rejected_response": GOOD},
    "openai-preference": swapped("preferred_output", "non_preferred_output"),
    "stack-exchange-paired": swapped("response_j", "response_k"),
    "shp": lambda row: {**row, "labels": 1},
    "tldr-comparisons": lambda row: {**row, "choice": 1 - row["choice"]},
    "helpsteer2-preference": lambda row: {**row, "preference_strength": 1},
    "helpsteer3-preference": lambda row: {**row, "overall_preference": -3},
    "pku-saferlhf": lambda row: {**row, "better_response_id": 0},
    "arena": lambda row: {**row, "winner": {"model_b": "model_a"}.get(row["winner"], "model_b")},
    "arena-pairwise": swapped("winner_model_a", "winner_model_b"),
    "nectar": turned("answers", "rank"),
    "ultrafeedback": lambda row: {
        **row,
        "completions": [rated(t, r, r, r, r) for t, r in ((BAD, "2"), (BAD2, "5"), (GOOD, "1"))],
    },
    "ranking": lambda row: {**row, "scores": [-score for score in row["scores"]]},
    "ranking/ranks": lambda row: {**row, "ranks": [2, 3, 1]},
    "kto": lambda row: {**row, "label": False},
    "kto-messages": lambda row: {**row, "label": False},
    "kto-messages/sharegpt": lambda row: {**row, "kto_tag": "false"},
    "kto-alpaca": lambda row: {**row, "kto_tag": 0},
}


def kind(name):
    return BY_NAME[name.partition("/")[0]]


def best_first(found):
    """The answers in their order; an answer alone with a bad label stands behind a place."""
    scores = found.scores or [-i for i in range(len(found.responses))]
    assert len(scores) == len(found.responses)
    ordered = sorted(zip(scores, found.responses, strict=True), key=lambda pair: -pair[0])
    return [text.strip() for _, text in ordered]


@pytest.mark.parametrize("name", FIXTURES)
def test_a_row_fits_its_own_format_alone_and_converts(name):
    row = FIXTURES[name]
    assert [f.name for f in FORMATS if f.matches(row)] == [kind(name).name]
    found = recognise([row], prompts=True).convert(row)
    assert found.prompt == PROMPTS.get(name, [ASK])
    assert best_first(found) == [GOOD, BAD, BAD2][: len(found.responses)]
    assert (len(found.responses) == 1) == name.startswith(("kto", "sft"))
    assert (found.scores == [1.0]) == name.startswith("kto") == kind(name).grouped


@pytest.mark.parametrize("name", [n for n in FIXTURES if not n.startswith(("sft", "prompts"))])
def test_the_direction_turns_with_the_preference(name):
    turn = TURNS.get(name) or TURNS[name.partition("/")[0]]
    row = turn(FIXTURES[name])
    before, after = (kind(name).convert(r) for r in (FIXTURES[name], row))
    if kind(name).grouped:
        assert (before.scores, after.scores) == ([1.0], [0.0])
    else:
        assert best_first(after) == best_first(before)[::-1]


def test_every_format_has_a_row_and_a_line_of_documentation():
    assert {kind(name).name for name in FIXTURES} == set(BY_NAME)
    assert all(f"| `{name}` |" in formats_table() for name in BY_NAME)
    assert "`scores` or `ranks`" in formats_table()
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in BY_NAME)


def filled(value):
    """As Arrow gives it back: the keys and columns of other rows are there, as nulls."""
    if isinstance(value, list):
        return [filled(item) for item in value]
    if isinstance(value, dict):
        other = dict.fromkeys(("role", "content", "from", "value", "tool_calls", "x"))
        return other | {key: filled(item) for key, item in value.items()}
    return value


def as_csv(value):
    if isinstance(value, (list, dict)):
        return json.dumps(value)
    return value if value is None else str(value)


@pytest.mark.parametrize("name", FIXTURES)
def test_rows_from_arrow_and_csv_mean_the_same(name):
    row, columns = FIXTURES[name], [column for row in FIXTURES.values() for column in row]
    expected = kind(name).convert(row)
    arrow = dict.fromkeys(columns) | {column: filled(value) for column, value in row.items()}
    csv = {column: as_csv(value) for column, value in row.items()}
    for other in (arrow, csv):
        assert [f.name for f in FORMATS if f.matches(other)] == [kind(name).name]
        assert recognise([other], prompts=True).convert(other) == expected


def test_tools_and_template_arguments_are_passed_on_without_the_nulls_of_arrow():
    row = filled(FIXTURES["conversational/tools"] | {"tools": TOOLS})
    found = kind("conversational").convert(row)
    assert found.template == {"tools": TOOLS, "enable_thinking": False}
    assert (
        kind("conversational").convert(FIXTURES["conversational"] | {"tools": []}).template is None
    )
    row = FIXTURES["openai-preference"]
    row = row | {"input": {"messages": [ASK], "tools": TOOLS}}
    assert kind("openai-preference").convert(row).template == {"tools": TOOLS}


def test_an_answer_may_be_json():
    for text in ('{"role": "admin"}', '[{"role": "admin", "content": "x"}]', "[1]", "{", "3"):
        row = {"prompt": Q, "chosen": text, "rejected": BAD}
        assert recognise([row]).convert(row).responses == [text, BAD]


UNFIT = [  # fixture, what is changed, why the row is then bad
    ("conversations", {"score_chosen": 4, "score_rejected": "4.0"}, Reason.TIE),
    ("conversations", {"chosen-rating": 4, "rejected-rating": 4}, Reason.TIE),
    ("conversations", {"chosen_rating": 4, "rejected_rating": 4}, Reason.TIE),
    ("conversations", {"rating_chosen": 4, "rating_rejected": 4}, Reason.TIE),
    ("conversations", {"chosen": [*HELLO, says("user", "What?"), ANSWER]}, Reason.PROMPTS_DIFFER),
    ("conversations", {"chosen": [*ASKED_AGAIN, says("tool", GOOD)]}, Reason.UNANSWERED),
    ("conversations", {"chosen": [*HELLO, ASK, says("narrator", GOOD)]}, Reason.MALFORMED),
    (
        "conversational",
        {"chosen": [ASK, ANSWER], "rejected": [ASK, REJECTED]},  # half of the prompt again
        Reason.PROMPTS_DIFFER,
    ),
    ("conversational", {"chosen": ASKED_AGAIN}, Reason.EMPTY_RESPONSE),
    ("conversational", {"tools": "none"}, Reason.MALFORMED),
    ("conversational", {"tools": ["look"]}, Reason.MALFORMED),
    ("conversational", {"chat_template_kwargs": {"chat_template": "x"}}, Reason.MALFORMED),
    ("hh-rlhf", {"chosen": f"\n\nHuman: What?\n\nAssistant: {GOOD}"}, Reason.PROMPTS_DIFFER),
    ("hh-rlhf", {"chosen": f"{DIALOGUE} {GOOD}\n\nHuman: Thanks"}, Reason.UNANSWERED),
    ("hh-rlhf", {"chosen": "\n\nHuman: a", "rejected": "\n\nHuman: b"}, Reason.UNANSWERED),
    ("triples", {"chosen": None}, Reason.NOT_TEXT),
    ("triples", {"chosen": "half of \ud83d"}, Reason.NOT_TEXT),
    ("triples", {"prompt": "x" * 1_000_001}, Reason.TOO_LARGE),
    ("distilabel-orca", {"status": "tie"}, Reason.TIE),
    ("argilla-instruction", {"rejected_avg_rating": 4.5}, Reason.TIE),
    ("alpaca-ranking", {"history": [["Hello"]]}, Reason.MALFORMED),
    ("openai-preference", {"preferred_output": [ASK]}, Reason.MALFORMED),
    ("ms-swift", {"messages": [SYSTEM, ASK]}, Reason.UNANSWERED),
    ("conversations", {"rejected": [*ASKED_AGAIN, ASK]}, Reason.UNANSWERED),
    ("shp", {"score_ratio": 1.9}, Reason.WEAK),
    ("shp", {"labels": 2}, Reason.MALFORMED),
    ("tldr-comparisons", {"choice": 2}, Reason.MALFORMED),
    ("tldr-comparisons", {"summaries": [{"text": GOOD}]}, Reason.MALFORMED),
    ("helpsteer2-preference", {"preference_strength": 0}, Reason.TIE),
    ("helpsteer3-preference", {"overall_preference": None}, Reason.MALFORMED),
    ("pku-saferlhf", {"better_response_id": 2}, Reason.MALFORMED),
    ("arena", {"winner": "tie (bothbad)"}, Reason.TIE),
    ("arena", {"winner": "both_bad"}, Reason.TIE),
    ("arena", {"winner": "human"}, Reason.MALFORMED),
    ("arena", {"conversation_a": [ASK, REJECTED]}, Reason.PROMPTS_DIFFER),
    ("arena-pairwise", {"winner_model_b": 0, "winner_tie": 1}, Reason.TIE),
    ("arena-pairwise", {"winner_model_a": 1}, Reason.MALFORMED),
    ("arena-pairwise", {"prompt": [Q, Q], "response_a": ["", ""]}, Reason.PROMPTS_DIFFER),
    ("arena-pairwise", {"response_a": "[null]"}, Reason.NOT_TEXT),
    ("nectar", {"answers": [{"answer": GOOD, "rank": 1}]}, Reason.MALFORMED),
    ("nectar", {"answers": [{"answer": GOOD, "rank": 1}, {"answer": BAD}]}, Reason.MALFORMED),
    ("ultrafeedback", {"completions": [rated(GOOD, *"5555")]}, Reason.MALFORMED),
    (
        "ultrafeedback",
        {"completions": [rated(GOOD, *"5555"), rated(BAD, *["N/A"] * 4)]},
        Reason.MALFORMED,
    ),
    ("ranking", {"scores": [1, 2]}, Reason.MALFORMED),
    ("ranking", {"scores": [1, 2, "best"]}, Reason.MALFORMED),
    ("ranking", {"scores": [1, 2, float("nan")]}, Reason.MALFORMED),
    ("ranking", {"ranks": [1, 2, 3]}, Reason.MALFORMED),
    ("kto", {"label": None}, Reason.MALFORMED),
    ("kto", {"label": "good"}, Reason.MALFORMED),
    ("kto-messages", {"label": "good"}, Reason.MALFORMED),
    ("kto-alpaca", {"output": None}, Reason.NOT_TEXT),
    ("sft-messages", {"messages": [ASK]}, Reason.MALFORMED),
    ("sft-messages", {"label": False}, Reason.BAD),
    ("sft-completion", {"label": "False"}, Reason.BAD),
    ("sft-alpaca", {"kto_tag": False}, Reason.BAD),
]


@pytest.mark.parametrize(("name", "change", "reason"), UNFIT)
def test_what_cannot_be_told_is_a_bad_row(name, change, reason):
    with pytest.raises(BadRow) as caught:
        kind(name).convert(FIXTURES[name] | change)
    assert caught.value.reason is reason


# --- recognition ---------------------------------------------------------------------------------

TRIPLE, PAIR = FIXTURES["triples"], {"chosen": GOOD, "rejected": BAD}
CHAT = FIXTURES["conversations"]


@pytest.mark.parametrize(
    ("sample", "wanted", "name"),
    [
        ([TRIPLE | {"prompt": None}, TRIPLE], "auto", "triples"),
        ([{"prompt": Q, "completion": None, "label": True}, FIXTURES["kto"]], "raw", "kto"),
        ([FIXTURES["sft-completion"] | {"label": 1}], "sft-completion", "sft-completion"),
        (
            [TRIPLE | {"question": Q, "instruction": Q, "input": Q, "status": "x"}],
            "auto",
            "triples",
        ),
        ([CHAT | {"question": Q, "instruction": Q}], "auto", "conversations"),
    ],
)
def test_the_format_that_fits_all_rows_that_fit_any(sample, wanted, name):
    assert recognise(sample, wanted).name == name


@pytest.mark.parametrize(
    ("sample", "wanted", "words"),
    [
        (
            [PAIR],
            "auto",
            "without a `prompt` column.* never guessed .* Give the file such a `prompt`",
        ),
        ([PAIR | {"ask": Q}], "auto", r"never guessed .* data\.columns='\{prompt: ask\}'"),
        ([PAIR | {"prompt": None}], "auto", r"never guessed .*`prompt` \(empty\)"),
        (
            [{"text": Q, "better": GOOD, "worse": [1]}],
            "auto",
            r"`text` \(text\), `better` \(text\), `worse` \(a list of numbers\)\. The simplest is "
            r"triples .*data\.columns='\{prompt: text\}'.*data\.format",
        ),
        (
            [TRIPLE | {"prompt": 3}],
            "auto",
            "nearest is triples .*`prompt` is a number, not text",
        ),
        ([{**FIXTURES["kto"], "label": "?"}], "auto", "kto .*`label` is text, not true or false"),
        (
            [{**FIXTURES["sft-messages"], "label": "?"}],
            "auto",
            "nearest is kto-messages .*`label` is text, not true or false",
        ),
        (
            [{"prompt": Q, "responses": [GOOD, BAD]}],
            "auto",
            "nearest is ranking .*`scores` .*missing",
        ),
        ([{"prompt": None, "chosen": None}], "auto", "`prompt`, `chosen` are empty in the rows"),
        ([{}], "auto", "no columns"),
        (
            [TRIPLE | {"response_j": GOOD, "response_k": BAD, "question": Q}],
            "auto",
            "fit triples and stack-exchange-paired alike; .*data.format=triples",
        ),
        (
            [{"a": 1}, TRIPLE, TRIPLE, CHAT],
            "auto",
            "mixed: row 1 is triples, row 3 is conversations .*data.train.*data.format",
        ),
        ([TRIPLE], "tripels", "no tripels; did you mean triples?"),
        ([TRIPLE], "zzz", "there are triples, conversational"),
        (
            [PAIR],
            "triples",
            "data.format=triples needs .* missing or empty: `prompt`.*data.columns",
        ),
        ([TRIPLE], "ranking", "missing or empty: `responses`, `scores` or `ranks`"),
        (  # whose first would be the worst under the other name
            [{"prompt": Q, "responses": [GOOD, BAD], "rank": [1, 2]}],
            "auto",
            r"data.columns='\{ranks: rank\}'.* with `ranks` 1 is best",
        ),
        ([{"prompt": Q, "responses": [GOOD, BAD], "ratings": [9, 2]}], "auto", r"\{scores: rat"),
        ([{"conversations": [ASK], **PAIR}], "auto", r"data.columns='\{prompt: conversations\}'"),
        ([{key: {"0": text, "1": text} for key, text in TRIPLE.items()}], "auto", "orient='rec"),
        ([{"0": TRIPLE, "1": TRIPLE}], "auto", "one table by its columns or its index .*lines=Tr"),
        ([{key: [text, text] for key, text in TRIPLE.items()}], "auto", "one table by its columns"),
        ([{"columns": [*TRIPLE], "data": [[*TRIPLE.values()]]}], "auto", "one table by its colu"),
    ],
)
def test_errors_say_what_is_there_and_what_settles_it(sample, wanted, words):
    with pytest.raises(UserError, match=f"^some/file.csv: .*{words}") as caught:
        recognise(sample, wanted, "some/file.csv")
    assert len(str(caught.value)) < 700
    assert "\n" not in str(caught.value)


# --- anything may stand in a row -----------------------------------------------------------------

DEEP: list = []
for _ in range(3000):
    DEEP = [DEEP]
JUNK = [
    *(None, 0, 1, -1, 2.5, float("nan"), float("inf"), 10**400, True, False, b"x", object()),
    *("", " ", "x", "3", "\ud800", "[", "[]", "{}", "[" * 5000, '[{"role": "user"}]', "null"),
    *('[{"role": "user", "content": "x"}]', "\n\nHuman:", "\n\nHuman: x\n\nAssistant:", "N/A"),
    *([], {}, [None], [[]], [{}], [1, "x"], {"role": None}, {"role": 3}, {"role": DEEP}, DEEP),
    *([ASK], [ASK, ASK], [SYSTEM], {"messages": [ASK]}, {"role": "assistant", "content": ["x"]}),
    *(
        [says("assistant", None)],
        [says("assistant", [{"type": "image"}])],
        [HELLO],
        "x" * 1_000_001,
    ),
]
DECIDING = {  # beside the columns with an answer in them
    *("labels", "score_ratio", "choice", "preference_strength", "overall_preference", "winner"),
    *("better_response_id", "winner_model_a", "winner_model_b", "scores", "ranks", "label"),
}
OTHERS = [(column, value) for row in FIXTURES.values() for column, value in row.items()]


def mutated(value, rng):
    """The value with something in it replaced, removed or wrapped."""
    if isinstance(value, (list, dict)) and value and rng.random() < 0.7:
        changed = copy.copy(value)
        key = rng.choice(list(changed) if isinstance(changed, dict) else range(len(changed)))
        if rng.random() < 0.2:
            del changed[key]
        else:
            changed[key] = mutated(changed[key], rng)
        return changed
    return rng.choice([rng.choice(JUNK), rng.choice(JUNK), [value], {"role": value}])


def mutate(row, rng):
    """A changed row, and the columns that were changed."""
    row, (first, second) = dict(row), (rng.choice(list(row)) for _ in range(2))
    how = rng.random()
    if how < 0.1:
        del row[first]
    elif how < 0.2:
        row[first], row[second] = row[second], row[first]
        return row, {first, second}
    elif how < 0.4:
        column, value = rng.choice(OTHERS)
        if column not in row:
            row[column] = mutated(value, rng) if how < 0.3 else value
        return row, set()
    elif how < 0.5:
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            row[first] = as_csv(row[first])
    else:
        row[first] = mutated(row[first], rng)
    return row, {first}


@pytest.mark.slow
def test_no_row_raises_anything_else_or_turns_the_preference_round():
    rng = random.Random(0)
    deciding = {
        name: {c for c, v in row.items() if c in DECIDING or re.search("GOOD|BAD", repr(v))}
        for name, row in FIXTURES.items()
    }
    converted = checked = 0
    sample = []
    for name in list(FIXTURES) * 250:
        row, changed = mutate(FIXTURES[name], rng)
        if rng.random() < 0.3:
            row, more = mutate(row, rng) if row else (row, set())
            changed |= more
        fitting = [f for f in FORMATS if f.matches(row)]
        for candidate in {kind(name), rng.choice(FORMATS), *fitting}:
            try:
                found = candidate.convert(row)
            except BadRow:
                continue
            converted += 1
            assert all(set(turn) == {"role", "content"} for turn in found.prompt)
            assert all(isinstance(text, str) for text in found.responses)
            if candidate is kind(name) and not changed & deciding[name] and not candidate.grouped:
                checked += 1
                ordered = "".join(best_first(found))
                assert "BAD" not in ordered.partition("GOOD")[0], row
        sample = [*sample[-2:], row]
        with contextlib.suppress(UserError):
            recognise(sample, rng.choice(["auto", "auto", name.partition("/")[0]]))
    assert converted > 5000
    assert checked > 3000


def test_messages_that_python_wrote_are_no_text():
    """What pandas makes of UltraFeedback in a CSV is neither JSON nor an answer."""
    row = {"prompt": "q", "chosen": "[{'content': 'q', 'role': 'user'}\n {'content': 'a'}]"}
    row["rejected"] = row["chosen"].replace("'a'", "'b'")
    with pytest.raises(BadRow, match=r"json\.dumps"):
        recognise([row]).convert(row)


def test_one_message_as_json_text_is_a_message():
    reply = '{"role": "assistant", "content": "GOOD"}'
    row = {"prompt": '{"role": "user", "content": "q"}', "chosen": reply}
    row["rejected"] = reply.replace("GOOD", "BAD")
    found = next(f for f in FORMATS if f.name == "conversational").convert(row)
    assert found.prompt == [{"role": "user", "content": "q"}]
    assert found.responses == ["GOOD", "BAD"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"score_chosen": 1, "score_rejected": 5}, Reason.OPPOSITE),
        ({"chosen_score": 5, "rejected_score": 5}, Reason.TIE),
    ],
)
def test_ratings_must_say_what_the_columns_say(change, reason):
    row = {"prompt": "q", "chosen": "GOOD", "rejected": "BAD"} | change
    with pytest.raises(BadRow) as caught:
        recognise([row]).convert(row)
    assert caught.value.reason is reason


def test_reasoning_beside_an_answer_is_not_thrown_away_silently():
    turns = [{"role": "user", "content": "q"}]
    reply = {"role": "assistant", "content": "GOOD", "reasoning_content": "because"}
    row = {"prompt": turns, "chosen": [reply], "rejected": [{**reply, "content": "BAD"}]}
    assert recognise([row]).convert(row).responses == [
        "<think>\nbecause\n</think>\n\nGOOD",
        "<think>\nbecause\n</think>\n\nBAD",
    ]


def test_calls_of_tools_stand_in_the_prompt_and_in_answers():
    call = {"function": {"name": "weather", "arguments": '{"town": "Rome", "day": null}'}}
    asked = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "19"},
    ]
    good, bad = ({"role": "assistant", "content": text} for text in ("GOOD", "BAD"))
    row = {"prompt": asked, "chosen": [good], "rejected": [bad]}
    converted = recognise([row]).convert(row)
    (told,) = converted.prompt[1]["tool_calls"]
    assert told["function"] == {"name": "weather", "arguments": {"town": "Rome"}}
    assert converted.prompt[1]["content"] == ""
    calling = {**good, "tool_calls": [call]}
    answers = recognise([row]).convert({**row, "chosen": [calling]}).responses
    assert answers == ["GOOD", "BAD"]
    assert calls_of(answers[0]) == converted.prompt[1]["tool_calls"]
    for broken in ([{"function": {}}], [{"function": {"name": "f", "arguments": "[1]"}}], "x"):
        turns = [asked[0], {**asked[1], "tool_calls": broken}, asked[2]]
        with pytest.raises(BadRow, match="tool"):
            recognise([row]).convert({**row, "prompt": turns})
