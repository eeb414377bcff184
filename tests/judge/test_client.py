"""One question over HTTP: what goes out, what comes back, and every way in which it can fail."""

import pytest

from dpo_lite.errors import UserError
from dpo_lite.judge import client
from dpo_lite.judge.client import KEY, Reply, check_judge, complete
from dpo_lite.recipe import JudgeSection
from tests.judge.stand_in import slowly, spoken, stand_in

HELLO = [{"role": "user", "content": "Which is better?"}]
SECRET = "sk-very-secret-123"


@pytest.fixture(autouse=True)
def no_key_and_short_waits(monkeypatch):
    monkeypatch.delenv(KEY, raising=False)
    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)


def after(faults, reply):
    """A server that has so many faults first."""
    left = list(faults)
    return lambda body: left.pop(0) if left else reply


def test_a_question_and_its_reply(monkeypatch):
    monkeypatch.setenv(KEY, f" {SECRET}\n")
    with stand_in(lambda body: "VERDICT: A") as server:
        section = server.section(body={"max_tokens": None, "max_completion_tokens": 9})
        assert complete(section, HELLO) == Reply("VERDICT: A", 100, 20)
    assert server.bodies == [
        {"model": "stand-in", "messages": HELLO, "temperature": 0.0, "max_completion_tokens": 9}
    ]
    assert server.headers[0]["Authorization"] == f"Bearer {SECRET}"


def test_without_a_key_none_is_sent():
    with stand_in(lambda body: "so") as server:
        complete(server.section(), HELLO)
    assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize(
    "content", [b'{"choices": [{"message": {"content": null}}]}', spoken("", None)[2]]
)
def test_a_reply_may_be_empty_and_uncounted(content):
    with stand_in(lambda body: (200, {}, content)) as server:
        assert complete(server.section(), HELLO) == Reply("", None, None)


FAULTS = [
    (429, {"Retry-After": "0.01"}, b'{"error": "slow down"}'),
    (500, {}, b"<html>oh</html>"),
    (503, {}, b""),
    (200, {}, b"<html>no JSON</html>"),
    (200, {}, b'{"choices": []}'),
    (200, {}, b'{"choices": [{"message": {"content": 7}}]}'),
    (200, {}, b"[[[["),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_what_may_pass_is_asked_again(fault):
    told = []
    with stand_in(after([fault, fault], "SCORE: 7")) as server:
        assert complete(server.section(), HELLO, told.append).text == "SCORE: 7"
        assert server.asked == 3
    assert [line.rpartition("(")[2] for line in told] == ["1 of 4)", "2 of 4)"]


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_pass_is_one_sentence(fault):
    with stand_in(lambda body: fault) as server:
        with pytest.raises(UserError, match="also when asked again; what it has answered is kept"):
            complete(server.section(retries=1), HELLO)
        assert server.asked == 2


def test_a_slow_judge_and_one_that_is_not_there():
    late = pytest.raises(UserError, match=r"gave no reply within 0\.1 s")
    with stand_in(slowly(0.3, lambda body: "late")) as server, late:
        complete(server.section(timeout=0.1, retries=0), HELLO)
    with pytest.raises(UserError, match="cannot be reached"):
        complete(server.section(retries=0), HELLO)


@pytest.mark.parametrize(
    ("status", "hint"),
    [(401, KEY), (403, KEY), (404, "all before /chat/completions"), (400, "judge.max_tokens")],
)
def test_a_refusal_is_told_at_once(status, hint, monkeypatch):
    monkeypatch.setenv(KEY, SECRET)
    said = f'{{"error": "wrong key {SECRET}\\u001b[31m"}}'.encode()
    with stand_in(lambda body: (status, {}, said)) as server:
        with pytest.raises(UserError, match=f"answered {status}.*{hint}") as error:
            complete(server.section(), HELLO)
        assert server.asked == 1
    assert SECRET not in str(error.value)
    assert "wrong key [key]" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_redirect_is_not_followed(monkeypatch):
    monkeypatch.setenv(KEY, SECRET)
    with stand_in(lambda body: "mine now") as other:
        away = (307, {"Location": f"{other.url}/chat/completions"}, b"")
        refused = pytest.raises(UserError, match="points to another address")
        with stand_in(lambda body: away) as server, refused:
            complete(server.section(), HELLO)
        assert other.asked == 0


def test_a_key_in_a_reply_is_taken_out(monkeypatch):
    monkeypatch.setenv(KEY, SECRET)
    with stand_in(lambda body: f"your key is {SECRET}") as server:
        assert complete(server.section(), HELLO).text == "your key is [key]"


def test_endless_replies_are_cut_off(monkeypatch):
    monkeypatch.setattr(client, "MOST_BYTES", 1 << 16)
    long = pytest.raises(UserError, match="in reply to one question")
    with stand_in(lambda body: "x" * (1 << 17)) as server, long:
        complete(server.section(retries=0), HELLO)


def test_what_must_be_there_before_anything_is_asked(monkeypatch):
    with pytest.raises(UserError, match=r"^judge\.url is missing"):
        check_judge(JudgeSection(model="x"))
    with pytest.raises(UserError, match=r"^judge\.model is missing"):
        check_judge(JudgeSection(url="http://127.0.0.1/v1"))
    far = JudgeSection(url="http://example.org/v1", model="x")
    check_judge(far)
    monkeypatch.setenv(KEY, SECRET)
    with pytest.raises(UserError, match="unencrypted") as error:
        check_judge(far)
    assert SECRET not in str(error.value)
    for url in ("https://example.org/v1", "http://localhost:1/v1", "http://[::1]:1/v1"):
        check_judge(JudgeSection(url=url, model="x"))
    monkeypatch.setenv(KEY, f"{SECRET}\r\nX-More: 1")
    with pytest.raises(UserError, match="holds spaces or letters") as error:
        complete(JudgeSection(url="http://127.0.0.1:1/v1", model="x", retries=0), HELLO)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    "keys",
    [
        {"url": "127.0.0.1:8000"},
        {"url": "ftp://example.org"},
        {"url": "http://me:secret@example.org/v1"},
        {"url": "http://example.org/v1?key=secret"},
        {"url": "http://example.org:99999/v1"},
        {"url": "http://exa mple.org/v1"},
        {"body": {"stream": True}},
        {"body": {"messages": []}},
    ],
)
def test_addresses_and_bodies_that_no_recipe_has(keys):
    with pytest.raises(ValueError, match="must"):
        JudgeSection(**keys)
