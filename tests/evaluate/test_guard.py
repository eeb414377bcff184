"""What is out of the ordinary: each rule by numbers that are worked by hand."""

import pytest

from dpo_lite.evaluate.guard import (
    Aside,
    Seen,
    longest_stutter,
    looped_share,
    set_aside,
    summary,
    surprise_limit,
)


def seen(logp, tokens=10, text="bats can see", ids=None):
    return Seen(text, tuple(ids or range(tokens)), logp)


# Surprises of 0.2, 0.3 and 0.4 nats per token: the usual one is 0.3, the limit 0.3 + 1.5 * 0.3.
ORDINARY = [seen(-2.0), seen(-3.0), seen(-4.0)]


def kinds(answers, ordinary=ORDINARY):
    return [aside.kind if aside else None for aside in set_aside(answers, ordinary)]


def test_what_the_reference_would_hardly_say():
    (kept, gone) = set_aside([seen(-7.4), seen(-7.6)], ORDINARY)
    assert kept is None
    assert gone.kind == "unlikely"
    assert gone.limit == pytest.approx(0.75)
    assert gone.words == "−0.76 nats per token under the reference, its own have −0.30"


def test_a_few_odd_draws_of_the_reference_do_not_raise_the_limit():
    odd = [seen(-80.0), *ORDINARY, seen(-3.0)]  # the median stays
    assert kinds([seen(-7.4), seen(-7.6)], odd) == [None, "unlikely"]


@pytest.mark.parametrize(
    ("usual", "limit"),
    [(0.0, 0.25), (0.1, 0.35), (0.4, 1.0), (1.0, 2.5), (2.0, 3.5)],  # 0.25 at least, 1.5 at most
)
def test_the_limit_is_a_multiple_between_two_ends(usual, limit):
    assert surprise_limit(usual) == pytest.approx(limit)


def test_a_rule_without_a_scale():
    """Twice the nats everywhere set the same answers aside."""
    answers = [seen(-logp) for logp in (2, 7, 8, 30)]
    doubled = [seen(2 * a.logp) for a in answers], [seen(2 * a.logp) for a in ORDINARY]
    assert kinds(answers) == kinds(*doubled) == [None, None, "unlikely", "unlikely"]


def test_a_word_again_and_again():
    assert longest_stutter("good Good good age") == 3
    assert longest_stutter("| | | | - - - no no") == 2
    assert longest_stutter("") == 0
    assert kinds([seen(-3.0, text="very very old"), seen(-3.0, text="it is so so so")]) == [
        None,
        "repeats",
    ]


def test_who_asks_for_repeats_gets_them():
    """The reference's own answer to "Write the word big four times." has them too."""
    ordinary = [seen(-3.0, text="big big big big")] * 3
    answers = [seen(-3.0, text="big " * times) for times in (4, 5)]
    assert kinds(answers, ordinary) == [None, "repeats"]


def test_a_loop_is_likely_and_set_aside():
    """Fourteen tokens that are seven twice: 11 pieces of four tokens, 4 of them seen before."""
    loop = [*range(7), *range(7)]
    assert looped_share(loop) == pytest.approx(4 / 11)
    assert looped_share(range(14)) == looped_share([1, 1]) == 0
    assert kinds([seen(-0.1, ids=loop)]) == ["repeats"]
    ordinary = [*ORDINARY, seen(-3.0, ids=[*range(6), *range(6)])]  # 3 of 9 pieces
    assert kinds([seen(-0.1, ids=loop)], ordinary) == [None]


def test_lengths_against_the_references_and_the_groups():
    """The reference's answers have 10 tokens: 5 to 20 are ordinary."""
    tokens = (4, 5, 10, 20, 21)
    answers = [seen(-0.3 * n, n) for n in tokens]
    assert kinds(answers) == ["too short", None, None, None, "too long"]
    brief = [seen(-0.3 * n, n) for n in (3, 3, 3, 1)]  # the policy learned to be brief
    assert kinds(brief) == [None, None, None, "too short"]
    thorough = [seen(-0.3 * n, n) for n in (60, 50, 60, 121)]
    assert kinds(thorough) == [None, None, None, "too long"]


def test_the_summary_counts_draws():
    unlikely, short = Aside("unlikely", "", 0.75), Aside("too short", "", 5)
    told = summary([None, unlikely, short, unlikely], [5, 2, 1, 1])
    assert told == (
        "4 of 9 answers set aside: 3 less likely under the reference than −0.75 nats per token,"
        " 1 too short"
    )
    assert summary([None], [3]) == ""
