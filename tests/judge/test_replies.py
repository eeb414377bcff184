"""Many questions: in order, each once, a few at a time, kept as they come."""

import json

import pytest

from dpo_lite.errors import UserError
from dpo_lite.judge import client
from dpo_lite.judge.client import KEY
from dpo_lite.judge.questions import read_score
from dpo_lite.judge.replies import ask, open_judge, spent, spent_words
from tests.judge.stand_in import slowly, spoken, stand_in


@pytest.fixture(autouse=True)
def no_key_and_short_waits(monkeypatch):
    monkeypatch.delenv(KEY, raising=False)
    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)


def question(number):
    return [{"role": "user", "content": str(number)}]


def echo(body):
    return f"SCORE: {body['messages'][0]['content']}"


def scores(found):
    return [one.read for one in found]


def test_in_order_and_a_few_at_a_time(tmp_path):
    done = []
    with stand_in(slowly(0.02, echo)) as server:
        judge = open_judge(server.section(at_once=3), tmp_path / "j" / "replies.jsonl")
        numbers = [7, 3, 7, 1, 0, 9, 2, 7]
        found = ask(judge, list(map(question, numbers)), read_score, done.append)
        assert scores(found) == [n / 10 for n in numbers]
        assert server.asked == 6  # equal questions are asked once
        assert 2 <= server.most_together <= 3
    assert sum(done) == len(numbers)
    assert spent(judge.section, found)["questions"] == 6


def test_what_is_kept_is_not_asked_again(tmp_path):
    file = tmp_path / "replies.jsonl"
    with stand_in(echo) as server:
        ask(open_judge(server.section(), file), [question(1), question(2)], read_score)
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert {line["reply"] for line in lines} == {"SCORE: 1", "SCORE: 2"}
        assert lines[0]["messages"] in (question(1), question(2))
        with open(file, "a") as torn:
            torn.write('{"key": "half of a li')
        again = ask(open_judge(server.section(), file), map_of(1, 2, 3), read_score)
        assert scores(again) == [0.1, 0.2, 0.3]
        assert server.asked == 3
        ask(open_judge(server.section(model="other"), file), [question(1)], read_score)
        ask(open_judge(server.section(temperature=1.0), file), [question(1)], read_score)
        assert server.asked == 5  # other questions
        third = ask(open_judge(server.section(timeout=9.0), file), map_of(3), read_score)
        assert (scores(third), server.asked) == ([0.3], 5)


def map_of(*numbers):
    return list(map(question, numbers))


def test_a_fault_keeps_what_was_answered(tmp_path):
    file = tmp_path / "replies.jsonl"

    def until_five(body):
        return (500, {}, b"down") if int(body["messages"][0]["content"]) >= 5 else echo(body)

    with stand_in(until_five) as server:
        with pytest.raises(UserError, match=r"answered 500 \(down\)"):
            ask(
                open_judge(server.section(at_once=1, retries=0), file),
                map_of(*range(9)),
                read_score,
            )
        assert len(file.read_text().splitlines()) == 5
        assert server.asked == 6
        server.reply = echo
        assert len(ask(open_judge(server.section(), file), map_of(*range(9)), read_score)) == 9
        assert server.asked == 10


def test_nonsense_is_found_and_none_but_nonsense_is_told(tmp_path):
    def some(body):
        return "hm" if body["messages"][0]["content"] == "2" else echo(body)

    file = tmp_path / "replies.jsonl"
    with stand_in(some) as server:
        found = ask(open_judge(server.section(), file), map_of(1, 2, 3), read_score)
        assert scores(found) == [0.1, None, 0.3]
        unread = [json.loads(line) for line in file.read_text().splitlines()]
        assert [line["reply"] for line in unread if line["read"] is None] == ["hm"]
        server.reply = lambda body: "I am no judge.\nReally"
        with pytest.raises(UserError, match=r"2 replies and none.*'I am no judge. Really'"):
            ask(open_judge(server.section(), None), map_of(5, 6), read_score)


def test_what_it_took():
    with stand_in(lambda body: spoken("SCORE: 1", (1000, 50))) as server:
        priced = open_judge(server.section(price_in=2.0, price_out=10.0), None)
        took = spent(priced.section, ask(priced, map_of(1, 2, 2), read_score))
        assert took == {
            "questions": 2, "uncounted": 0, "tokens_in": 2000, "tokens_out": 100,
            "cost": pytest.approx(0.005),
        }  # fmt: skip
        assert spent_words(took) == "2 questions, 2,000 tokens in and 100 out, cost 0.005"
        server.reply = lambda body: spoken("SCORE: 1", None)
        free = open_judge(server.section(), None)
        took = spent(free.section, ask(free, map_of(7), read_score))
        assert spent_words(took) == "1 questions (1 replies without a count)"
