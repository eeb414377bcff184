"""The advisor on curves as they come: each rule speaks where it should, and is silent elsewhere."""

import math

import pytest

from dpo_lite.objectives.calibration import reliability
from dpo_lite.report.advise import advise
from dpo_lite.report.metrics import split_eval

RECIPE = {"task": "dpo", "train": {"loss": "sigmoid", "beta": 0.1, "lr": 5e-6, "warmup": 0.1}}
LN2 = math.log(2)


def curves(updates=100, **ends):
    """Metrics that go in straight lines from an untrained policy's to ``ends``."""
    start = {
        "loss": LN2,
        "rewards/margins": 0.0,
        "rewards/accuracies": 0.5,
        "rewards/chosen": 0.0,
        "logps/chosen": -100.0,
    }
    ends = {"loss": 0.4, "rewards/margins": 1.0, "rewards/accuracies": 0.8} | {
        key.replace("__", "/"): value for key, value in ends.items()
    }
    lines = []
    for step in range(1, updates + 1):
        share = min(1.0, step / (0.6 * updates))
        line = {k: v + share * (ends.get(k, v) - v) for k, v in start.items()}
        lines.append({"step": step} | line)
    return lines


def said(metrics, state="running", results=None, recipe=RECIPE, **status):
    status = {"state": state, "max_steps": 100} | status
    return [(a.kind, a.text) for a in advise(recipe, status, metrics, results)]


def held_out(right, pairs, margin=0.8, name="test"):
    """results.json of one set."""
    scores = {"rewards/accuracies": right / pairs, "pairs": pairs, "rewards/margins": margin}
    return {"sets": {name: scores | {"loss": 0.5}}}


def test_a_good_run():
    ((kind, text),) = said(curves(), "finished", held_out(111, 150))
    assert kind == "good"
    assert text.startswith(
        "Finished well: accuracy 80%, margin 1.00, held out 74% (111 of 150, 66–"
    )
    ((kind, text),) = said(curves())
    assert text.startswith("It learns: accuracy 80%, margin 1.00.")


def test_a_result_of_a_run_that_kept_no_numbers_is_named_without():
    results = {"sets": {"test": {"rewards/accuracies": 0.74, "loss": 0.5}}}
    ((kind, text),) = said(curves(), "finished", results)
    assert kind == "good"
    assert "held out 74% on test. Now" in text


def test_updates_that_log_their_pairs_are_counted():
    """The last tenth of 100 updates of 16 pairs are 160; of 80 % the interval is 73 to 85 %."""
    lines = [m | {"pairs": 16} for m in curves()]
    assert "accuracy 80% (128 of 160, 73–85%)" in said(lines)[0][1]
    few = [m | {"pairs": 1} for m in curves(updates=12, rewards__accuracies=0.7)]
    ((kind, text),) = said(few)
    assert kind == "info"
    assert "not told from a coin yet" in text


@pytest.mark.parametrize(
    ("results", "words"),
    [
        (held_out(2, 2), "too few to tell: 2 held-out pairs. Hold out more by data.eval or data."),
        (held_out(29, 29), "too few to tell: 29 held-out pairs"),
        (held_out(37, 60), "held out 62% (37 of 60, 49–73%) on test. On test that is not told"),
        (held_out(148, 148, 0.0008), "a margin of 0.0008 on test holds the chosen answer for the"),
        (held_out(148, 148, 0.0008), "better one at 50.02%"),
        ({"sets": {}}, "Nothing was held out"),
    ],
    ids="two few coin hair sigma none".split(),
)
def test_no_success_without_enough_rows_and_margin(results, words):
    ((kind, text),) = said(curves(), "finished", results)
    assert kind == "info"
    assert text.startswith("Finished: ")
    assert words in text


def test_one_set_of_enough_rows_says_something():
    results = held_out(140, 148)
    results["sets"] |= held_out(3, 4, name="small")["sets"]
    ((kind, text),) = said(curves(), "finished", results)
    assert kind == "good"
    assert "75% (3 of 4, 30–95%) on small" in text


def test_it_has_not_learned_yet_by_a_hair():
    hair = curves(loss=0.66, rewards__margins=0.06, rewards__accuracies=1.0)
    ((kind, text),) = said(hair)
    assert kind == "info"
    assert "by a hair yet" in text


@pytest.mark.parametrize(
    ("ends", "kind", "words"),
    [
        ({"loss": 0.692, "rewards__margins": 0.003, "rewards__accuracies": 0.6}, "warn", "hardly"),
        ({"loss": 0.68, "rewards__margins": 0.05, "rewards__accuracies": 0.5}, "warn", "a coin"),
        ({"loss": 0.9, "rewards__margins": 0.3}, "bad", "above the ln 2"),
        ({"loss": 0.75, "rewards__margins": -0.2, "rewards__accuracies": 0.2}, "bad", "right way"),
        ({"loss": 0.001, "rewards__margins": 15.0, "rewards__accuracies": 1.0}, "warn", "15.0"),
        ({"rewards__chosen": -2.0, "logps__chosen": -120.0}, "info", "which is normal"),
        ({"rewards__chosen": -12.0, "logps__chosen": -220.0}, "warn", "train.sft_weight=0.1"),
    ],
    ids="ln2 coin too-fast reversed exploding falling displaced".split(),
)
def test_what_a_curve_means(ends, kind, words):
    found = said(curves(**ends))
    assert any(k == kind and words in text for k, text in found), found
    if kind in ("warn", "bad"):
        assert found[0][0] == kind
        assert not any(k == "good" for k, _ in found)


def test_no_alarm_during_the_warm_up():
    slow = curves(updates=12, loss=0.692, rewards__margins=0.003)
    found = said(slow)
    assert {kind for kind, _ in found} == {"info"}
    warming = "The loss is still at ln 2 = 0.693: the learning rate is warming up."
    assert warming in [text for _, text in found]
    assert said(slow[:5]) == [("info", "Too early to tell: wait for some more updates.")]
    assert said([]) == []


def test_over_fitting_by_a_rising_held_out_loss():
    metrics = curves()
    for step, loss in ((25, 0.6), (50, 0.55), (75, 0.62), (100, 0.7)):
        metrics.append({"step": step, "eval_test_loss": loss})
    assert "lowest (0.550) at update 50" in said(metrics)[0][1]


def test_over_fitting_by_a_gap():
    results = {"sets": {"test": {"rewards/accuracies": 0.55, "loss": 0.7}}}
    found = said(curves(rewards__accuracies=1.0), "finished", results)
    assert "100% of the trained pairs are told apart, but only 55% on test" in found[0][1]


def test_a_gap_to_a_handful_of_pairs_is_none():
    """128 of 160 trained pairs, and 2 of 4: no difference; 74 of 148 are one."""
    lines = [m | {"pairs": 16} for m in curves()]
    few, many = (said(lines, "finished", held_out(*of)) for of in ((2, 4), (74, 148)))
    assert not any("Over-fitting" in text for _, text in few)
    assert "but only 50% (74 of 148, 42–58%) on test" in many[0][1]


def test_few_wrong_pairs_are_no_reversed_data():
    """Of 5 updates with a pair each: 1 of 5 right is 4 to 62 %."""
    ends = {"loss": 0.75, "rewards__margins": -0.2, "rewards__accuracies": 0.2}
    few = [m | {"pairs": 1} for m in curves(updates=40, **ends)]
    assert not any(kind == "bad" for kind, _ in said(few))
    assert "80% (64 of 80, 70–87%) of the pairs" in said([m | {"pairs": 16} for m in few])[0][1]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_broken_loss(value):
    metrics = [*curves(), {"step": 101, "loss": value}]
    assert said(metrics)[0][0] == "bad"
    assert "at update 101" in said(metrics)[0][1]


def test_how_it_ended():
    assert said([], "failed", error="no data")[0] == ("bad", "The run failed: no data")
    assert "Resume goes on" in said([], "interrupted")[0][1]
    assert "never stopped" in said(curves(), "stopped")[-1][1]
    assert "nothing is trained" in said([], "stopped")[0][1]


def test_other_losses_do_not_start_at_ln2():
    recipe = RECIPE | {"train": RECIPE["train"] | {"loss": "ipo"}}
    assert said(curves(loss=25.0, rewards__margins=1.0), recipe=recipe)[0][0] == "good"


def test_a_repeated_update_counts_once():
    """After a kill the updates since the checkpoint are done and logged again."""
    again = curves()
    assert said(again + again[50:]) == said(again)


def test_eval_keys():
    assert split_eval("eval_my_set_rewards/margins") == ("my_set", "rewards/margins")
    assert split_eval("eval_test_loss") == ("test", "loss")
    assert split_eval("eval_loss") is None
    assert split_eval("loss") is None


REWARD = RECIPE | {"task": "reward"}


def judge(**ends):
    """A reward model has no log-probabilities of answers."""
    return [{k: v for k, v in m.items() if k != "logps/chosen"} for m in curves(**ends)]


def test_a_reward_model_is_spoken_of_as_one():
    ((kind, text),) = said(judge(), "finished", held_out(140, 148), REWARD)
    assert kind == "good"
    assert "best-of" in text
    told = [
        *said(judge(loss=0.692, rewards__margins=0.003), recipe=REWARD),
        *said(judge(loss=0.001, rewards__margins=15.0, rewards__accuracies=1.0), recipe=REWARD),
        *said(judge(loss=0.9, rewards__margins=0.3), recipe=REWARD),
    ]
    assert len(told) == 3
    assert not any(word in text for _, text in told for word in ("policy", "reference", "beta"))


def test_margins_that_the_data_ask_for_are_no_fault():
    """The loss begins above ln 2 with them."""
    lines = [m | {"loss": m["loss"] + 0.6} for m in judge(loss=0.5)]
    assert said(lines, recipe=REWARD)[0][0] == "good"


@pytest.mark.parametrize(
    ("margin", "words"), [(0.1, "less sure than it is right"), (5.0, "surer than it is right")]
)
def test_calibration_in_words(margin, words):
    right = [margin] * (95 if margin < 1 else 60)
    calibration = reliability([*right, *[-margin] * (100 - len(right))])
    results = {"sets": {"test": {"rewards/accuracies": 0.8, "calibration": calibration}}}
    (first, *_) = said(judge(), "finished", results, REWARD)
    assert first[0] == "warn"
    assert words in first[1]
    assert not said(judge(), "finished", {"sets": {"test": {"calibration": reliability([])}}})[1:]


def test_a_number_of_pairs_that_is_none_is_unknown():
    """What a damaged file may say, which is no reason to say nothing of the rest."""
    results = held_out(74, 100)
    results["sets"]["test"]["pairs"] = math.nan
    texts = [text for _, text in said(curves(), "finished", results)]
    assert any("held out 74% on test" in text for text in texts)
