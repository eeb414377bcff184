"""How far a run has drifted, in words: what was measured is told, and nothing else."""

import pytest

from dpo_lite.ui.drift import ends, sentences


def lines(**series):
    return [
        {"step": i + 1} | {key.replace("_", "/"): values[i] for key, values in series.items()}
        for i in range(len(next(iter(series.values()))))
    ]


def test_nothing_measured_nothing_said():
    assert sentences([{"step": 1, "loss": 0.7}], [], "update") == []
    assert ends([{"kl": 1.0}] * 4, "kl") is None


def test_the_ends_are_means_of_a_fifth():
    assert ends([{"kl": float(v)} for v in range(10)], "kl") == (0.5, 8.5)


def test_a_kl_that_rises_and_one_that_rests():
    rising = sentences(lines(kl=[0.1 * i for i in range(20)]), [], "update")
    assert rising == [
        "KL: the policy is 1.90 nats an answer from its reference, and still moves away."
    ]
    (resting,) = sentences(lines(kl=[0.0, 1.0, *[2.0] * 18]), [], "update")
    assert resting.endswith("and has come to rest.")
    (still,) = sentences(lines(kl=[0.0] * 9), [], "update")
    assert "where its reference is" in still


def test_the_kl_of_a_task_that_calls_it_otherwise():
    """KTO's `kl` is its reference point."""
    assert sentences(lines(kl=[2.0] * 9), [], "update", "kl/sampled") == []


@pytest.mark.parametrize(("last", "verb"), [(1.0, "rose"), (-1.0, "fell")])
def test_the_margin_where_there_is_no_reward(last, verb):
    (sentence,) = sentences(lines(rewards_margins=[0.0] * 9 + [last, last]), [], "update")
    assert sentence == (
        f"The reward margin {verb} from +0.00 to {last:+.2f} (first and last updates)."
    )


def test_length_by_tokens_or_by_the_words_of_the_same_prompts():
    records = [{"step": i, "completions/mean_length": 10.0 + i} for i in range(10)]
    assert sentences(records, [], "rollout") == [
        "Length: answers got 76% longer, 10 to 18 tokens (first and last rollouts)."
    ]
    samples = [
        {"when": "before", "prompt": "p", "answer": "one two three four"},
        {"when": "before", "prompt": "never asked again", "answer": "x"},
        {"when": "during", "step": 5, "prompt": "p", "answer": "one two three"},
        {"when": "after", "prompt": "p", "answer": "one two"},
    ]
    assert sentences([], samples, "update") == [
        "Length: answers got 50% shorter, 4 to 2 words (1 prompt, before and now)."
    ]
