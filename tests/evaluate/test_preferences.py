"""The best and the worst of several answers by a judge that compares every two in both orders."""

from dpo_lite.evaluate.preferences import best_and_worst
from dpo_lite.judge.replies import open_judge
from tests.judge.stand_in import prefers, shown, stand_in

ASK = [[{"role": "user", "content": "so?"}]]


def ends(reply, *answers):
    with stand_in(reply) as server:
        (found,) = best_and_worst(open_judge(server.section(), None), ASK, [answers])
        return found, server.asked


def test_the_best_and_the_worst_of_all():
    found, asked = ends(prefers(len), "aa", "a", "aaaa", "aaa")
    assert found == ("aaaa", "a")
    assert asked == 12  # n (n - 1)


def test_where_none_is_better():
    assert ends(prefers(lambda text: 0), "a", "b", "c")[0] == "alike"
    assert ends(lambda body: "VERDICT: A", "a", "b")[0] == "alike"  # it prefers a place

    def ring(body):
        beats = {"rock": "scissors", "scissors": "paper", "paper": "rock"}
        a, b = shown(body)
        return f"VERDICT: {'A' if beats[a] == b else 'B'}"

    assert ends(ring, "rock", "paper", "scissors")[0] == "alike"


def test_where_the_judge_did_not_say():
    """Of two answers nothing is known then; of three the others still tell."""

    def silent_of_b(body):
        return "hm" if "b" in shown(body) else prefers(len)(body)

    with stand_in(silent_of_b) as server:
        judge = open_judge(server.section(), None)
        answers = [("a", "b"), ("aa", "a"), ("aaa", "a", "b")]
        assert best_and_worst(judge, ASK * 3, answers) == ["unread", ("aa", "a"), ("aaa", "a")]
