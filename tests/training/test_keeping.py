"""What an evaluation decides, in numbers worked by hand."""

import math
from types import SimpleNamespace

import pytest

from dpo_lite.errors import UserError
from dpo_lite.recipe import validate_recipe
from dpo_lite.report.kept import kept_words
from dpo_lite.training.keeping import Keeper, Look, judged, look_at, outcome, pooled
from dpo_lite.training.sampling import spread


def section(task="dpo", **train):
    values = {"task": task, "model": {"base": "b"}, "data": {"train": "d"}}
    values["ppo"] = {"reward": "r.py:f"} if task == "ppo" else {}
    values["train"] = {"eval_steps": 10} | train
    return validate_recipe(values, "test").train


def test_sets_are_pooled_by_what_their_numbers_are_of():
    """Accuracies of 3 of 4 and 1 of 2 pairs are 4 of 6; losses of 10 and 30 rows weigh 1 : 3."""
    metrics = {
        "eval_a_rewards/accuracies": 0.75,
        "eval_a_pairs": 4,
        "eval_b_rewards/accuracies": 0.5,
        "eval_b_pairs": 2,
        "eval_a_loss": 1.0,
        "eval_b_loss": 2.0,
    }
    sets = {"a": 10, "b": 30}
    assert pooled(metrics, sets, "rewards/accuracies") == pytest.approx(4 / 6)
    assert pooled(metrics, sets, "loss") == pytest.approx(1.75)
    assert pooled(metrics, sets, "rewards/margins") is None
    # Drawn answers: 512 prompts of a set of 1,000 were answered.
    drawn = {"eval_a_reward": 1.0, "eval_a_prompts": 512, "eval_b_reward": 0.0, "eval_b_prompts": 8}
    assert pooled(drawn, {"a": 1000, "b": 8}, "reward") == pytest.approx(512 / 520)


@pytest.mark.parametrize(
    ("by", "better", "worse"),
    [("loss", 0.4, 0.6), ("accuracy", 0.6, 0.4), ("margin", 0.6, -0.4), ("reward", 2.0, 1.0)],
)
def test_better_is_lower_for_a_loss_and_higher_for_the_others(by, better, worse):
    train = section("ppo" if by == "reward" else "dpo", keep="best", keep_by=by)
    middle = (better + worse) / 2
    assert judged(Look(20, better, None), 10, middle, train) == (True, None)
    assert judged(Look(20, worse, None), 10, middle, train) == (False, None)
    assert judged(Look(20, middle, None), 10, middle, train) == (False, None)  # the earlier stays
    assert judged(Look(10, worse, None), 0, None, train) == (True, None)
    for untold in (None, math.nan, math.inf):
        assert judged(Look(10, untold, None), 0, None, train) == (False, None)


def test_patience_counts_evaluations_without_a_better_one():
    train = section(keep="best", patience=2)
    assert judged(Look(20, 0.6, None), 10, 0.5, train) == (False, None)
    assert judged(Look(30, 0.6, None), 10, 0.5, train) == (False, "patience")
    assert judged(Look(30, 0.4, None), 10, 0.5, train) == (True, None)
    assert judged(Look(20, None, None), 0, None, train) == (False, "patience")


def test_a_budget_comes_before_what_is_best():
    train = section(keep="best", kl_budget=5.0)
    assert judged(Look(20, 0.1, 5.0), 10, 0.5, train) == (True, None)
    assert judged(Look(20, 0.1, 5.1), 10, 0.5, train) == (False, "kl_budget")
    assert judged(Look(20, 0.1, math.nan), 10, 0.5, train) == (False, "kl_budget")
    alone = section(kl_budget=5.0)
    assert judged(Look(20, None, 4.0), 10, None, alone) == (True, None)


def run_of(train, looks, max_steps=100, sets=None):
    """The state at the end of a run with these evaluations, its keeper, and what it logged."""
    said, measured = [], dict(looks)
    keeper = Keeper(train, sets or {"t": 4}, said.append, lambda step: measured[step]["kl"])
    state = SimpleNamespace(
        global_step=0, best_global_step=None, best_metric=None, max_steps=max_steps
    )
    control = SimpleNamespace(should_save=False, should_training_stop=False)
    records, saved = [], []
    for step, metrics in looks:
        state.global_step = step
        metrics = {f"eval_t_{k}": v for k, v in metrics.items() if k != "kl"} | keeper.beside(step)
        records.append({"step": step, **metrics})
        control.should_save = step % 50 == 0
        keeper.evaluated(state, control, metrics)
        if control.should_save:
            saved.append(step)
        if control.should_training_stop:
            break
    return keeper, state, records, saved, said


def test_what_is_kept_is_a_checkpoint_and_what_ends_a_run_leaves_none():
    looks = [(10, {"loss": 0.6}), (20, {"loss": 0.5}), (30, {"loss": 0.5}), (40, {"loss": 0.7})]
    looks += [(50, {"loss": 0.8})]
    train = section(keep="best", patience=3)
    keeper, state, records, saved, said = run_of(train, looks)
    assert saved == [10, 20]  # nothing at 50, where one was due
    assert said == ["no better loss in 3 evaluations: ending here"]
    facts = outcome(keeper, state, [{"step": 60, "eval_t_loss": 0.1}, *records])
    assert (facts["step"], facts["trained"], facts["evaluations"]) == (20, 50, 5)
    assert kept_words({"kept": facts}, "update") == (
        "The adapter is that of update 20 of 50, whose held-out loss was the lowest of 5 "
        "evaluations, 0.5000 (0.8000 at update 50). The run ended at update 50 of 100, after 3 "
        "evaluations without a better one."
    )


def test_the_words_of_the_last_one_and_of_a_budget():
    looks = [(50, {"rewards/accuracies": 0.5, "kl": 1.0}), (100, {"rewards/accuracies": 0.75})]
    looks[1][1]["kl"] = 2.0
    train = section(keep="best", keep_by="accuracy", kl_budget=3.0)
    keeper, state, records, *_ = run_of(train, looks)
    assert kept_words({"kept": outcome(keeper, state, records)}, "rollout") == (
        "The adapter is that of the last rollout, 100, whose held-out accuracy was the highest of "
        "2 evaluations, 75.0%, and whose KL was 2.00 nats per answer, within the budget of 3."
    )
    train = section(kl_budget=1.5)
    keeper, state, records, saved, said = run_of(train, looks)
    assert saved == [50]
    assert said == ["the KL is 2.00 nats per answer, beyond the budget: ending here"]
    assert kept_words({"kept": outcome(keeper, state, records)}) == (
        "The adapter is that of update 50 of 100, whose KL was 1.00 nats per answer, within the "
        "budget of 1.5 (2.00 at update 100). The run ended at update 100 of 100, beyond its budget."
    )
    with pytest.raises(UserError, match=r"At update 50 the policy is 1\.00 nats per answer"):
        run_of(section(kl_budget=0.5), looks)
    assert kept_words({"sets": {}}) == kept_words(None) == ""


def test_where_nothing_could_be_told_the_last_one_stays():
    """All rewards are ties at every evaluation, so there is no accuracy."""
    train = section(keep="best", keep_by="accuracy")
    keeper, state, records, saved, _ = run_of(train, [(50, {"loss": 1.0}), (100, {"loss": 1.0})])
    assert saved == [50, 100]
    assert state.best_global_step is None
    assert kept_words({"kept": outcome(keeper, state, records)}) == (
        "The adapter is that of the last update, 100: its held-out accuracy could not be told at "
        "any evaluation."
    )


def test_a_look_of_drawn_answers_pools_their_kl():
    train = section("ppo", keep="best", kl_budget=9.0)
    metrics = {"eval_t_reward": 1.0, "eval_t_kl": 4.0, "eval_t_prompts": 4}
    assert look_at(10, metrics, {"t": 4}, train) == Look(10, 1.0, 4.0)


def test_prompts_are_spread_over_what_is_held_out():
    assert spread(3, 16) == [0, 1, 2]
    assert spread(8, 4) == [0, 2, 4, 6]
