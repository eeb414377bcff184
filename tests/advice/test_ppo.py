"""The advisor on PPO's curves: each rule speaks where it should, and none of DPO's ever does."""

import pytest

from dpo_lite.report.advise import advise

RECIPE = {
    "task": "ppo",
    "train": {"loss": "sigmoid", "beta": 0.1, "lr": 3e-4, "warmup": 0.0},
    "ppo": {
        "reward": "runs/judge-1/adapter",
        "kl_target": None,
        "max_new_tokens": 40,
        "no_end_penalty": 1.0,
        "passes": 2,
    },
}


def curves(rollouts=24, **ends):
    """Rollouts that go in straight lines from an untrained policy's to ``ends``."""
    start = {
        "loss": 0.02,
        "reward": -1.0,
        "reward_std": 1.0,
        "kl": 0.0,
        "objective": -1.0,
        "beta": 0.1,
        "entropy": 0.36,
        "completions/mean_length": 18.0,
        "completions/ended": 0.98,
        "clip_fraction": 0.01,
    }
    ends = {"reward": 1.0, "kl": 2.0, "objective": 0.8} | {
        key.replace("__", "/"): value for key, value in ends.items()
    }
    lines = []
    for step in range(1, rollouts + 1):
        share = min(1.0, step / (0.6 * rollouts))
        line = {k: v + share * (ends.get(k, v) - v) for k, v in start.items()}
        lines.append({"step": step} | line)
    return lines


def said(metrics, state="running", results=None, **changes):
    recipe = RECIPE | {"ppo": RECIPE["ppo"] | changes}
    status = {"state": state, "max_steps": 24}
    return [(a.kind, a.text) for a in advise(recipe, status, metrics, results)]


def drawn(reward, truthful, name="topics", **of):
    before = {"reward": -1.0, "kl": 0.0, "truthful": 0.2} | of
    after = {"reward": reward, "kl": 2.0, "truthful": truthful} | of
    return {"sets": {name: {"drawn": {"reference": before, "policy": after}}}}


def test_a_good_run():
    ((kind, text),) = said(curves(), "finished", drawn(1.2, 0.8))
    assert kind == "good"
    assert text.startswith("Finished well: reward from -0.72 to 1.00 at a KL of 2.00 nats")
    assert "the chosen claim from 20% to 80% on topics" in text
    ((kind, text),) = said(curves())
    assert (kind, text.partition(":")[0]) == ("good", "It learns")


@pytest.mark.parametrize(
    ("ends", "changes", "kind", "words"),
    [
        ({"kl": 30.0, "objective": 1.0}, {}, "warn", "higher train.beta"),
        ({"kl": 30.0, "objective": 1.0}, {"kl_target": 5.0}, "warn", "twice ppo.kl_target"),
        ({"reward": -0.95, "objective": -0.95}, {}, "warn", "`dpo-lite score`"),
        ({"reward": -1.5, "objective": -1.9}, {}, "bad", "lower train.lr"),
        ({"entropy": 0.01}, {}, "warn", "same answer every time"),
        ({"completions__ended": 0.3}, {}, "warn", "ppo.max_new_tokens (now 40)"),
        ({"clip_fraction": 0.5}, {}, "warn", "ppo.passes (now 2)"),
    ],
    ids="away off-target still falls collapsed endless clipped".split(),
)
def test_what_a_curve_means(ends, changes, kind, words):
    found = said(curves(**ends), **changes)
    assert [k for k, text in found if words in text] == [kind], found
    assert len(found) == 1  # one fault, one sentence; and none of it is good


def test_rewards_that_are_all_alike():
    metrics = curves(reward=-1.0, reward_std=0.0, objective=-1.0)
    for line in metrics:
        line["reward_std"] = 0.0
    assert "runs/judge-1/adapter" in said(metrics)[0][1]


def test_more_reward_without_more_truth():
    ((kind, text),) = said(curves(), "finished", drawn(1.2, 0.15))
    assert kind == "bad"
    assert "from 20% to 15% of the answers" in text
    assert said(curves(), "finished", drawn(-1.0, 0.2))[0][0] == "good"  # neither rose


def test_of_how_many_prompts_it_is():
    ((kind, text),) = said(curves(), "finished", drawn(1.2, 0.8, prompts=150))
    assert kind == "good"
    assert "from 20% to 80% (120 of 150, 73–86%) on topics" in text
    ((kind, text),) = said(curves(), "finished", drawn(1.2, 0.8, prompts=5))
    assert kind == "info"
    assert text.startswith("Finished: ")
    assert "too few to tell of its truth: 5 held-out prompts" in text
    ((kind, text),) = said(curves(), "finished", drawn(1.2, 0.25, prompts=150))
    assert kind == "info"
    assert "On topics the two are not told apart" in text


def test_a_handful_of_prompts_convicts_nobody():
    ((kind, _),) = said(curves(), "finished", drawn(1.2, 0.0, prompts=5))
    assert kind == "info"
    ((kind, text),) = said(curves(), "finished", drawn(1.2, 0.1, prompts=150))
    assert kind == "bad"
    assert "from 20% to 10% (15 of 150, 6–16%) of the answers" in text


def test_more_reward_without_more_truth_while_it_trains():
    metrics = curves()
    for step, reward, truth in ((8, 0.0, 0.4), (16, 1.0, 0.3)):
        metrics.append({"step": step, "eval_topics_reward": reward, "eval_topics_truthful": truth})
    assert "from 40% to 30%" in said(metrics)[0][1]


def test_data_without_markers_say_nothing_of_truth():
    found = {"reference": {"reward": -1.0}, "policy": {"reward": 1.0}}
    assert said(curves(), "finished", {"sets": {"test": {"drawn": found}}})[0][0] == "good"


def test_a_long_answer_may_be_further_away():
    assert said(curves(kl=15.0, completions__mean_length=120.0))[0][0] == "good"


def test_early_is_by_rollouts():
    assert said(curves()[:5]) == [("info", "Too early to tell: wait for some more rollouts.")]
    assert said(curves()[:5], "finished")[0][1].startswith("5 rollouts are too few")
    assert said(curves()[:8])[0][0] == "good"


def test_nothing_of_dpo_is_said():
    """PPO's loss may be anything, ln 2 too."""
    for loss in (-0.3, 0.6931, 0.9):
        text = " ".join(t for _, t in said([m | {"loss": loss} for m in curves()]))
        assert not any(word in text for word in ("ln 2", "margin", "accuracy", "loss"))
