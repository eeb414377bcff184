"""Every format on rows as its data sets have them: recognised alone, and never turned round."""

import contextlib
import copy
import json
import random
import re
from pathlib import Path

import pytest

from dpo_lite.data.examples import BadRow, Reason, calls_of
from dpo_lite.data.formats import FORMATS, formats_table
from dpo_lite.data.recognition import recognise
from dpo_lite.errors import UserError
from tests.data.rows_of_formats import (
    ANSWER,
    ASK,
    ASKED_AGAIN,
    BAD,
    BAD2,
    DIALOGUE,
    FIXTURES,
    GOOD,
    HELLO,
    PROMPTS,
    REJECTED,
    SYSTEM,
    TOOLS,
    TURNS,
    Q,
    rated,
    says,
)

BY_NAME = {f.name: f for f in FORMATS}


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
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"{len(FORMATS)} formats are recognised" in readme
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
