"""Which numbers of runs stand in a table, and what their steps are called."""

from dpo_lite.report.metrics import METRICS, NUMBERS, columns_of, number_text
from dpo_lite.tasks import TASKS

DPO = {"loss": 0.5, "margin": 1.0, "accuracy": 0.75, "reward": None, "kl": None}
PPO = {"loss": 0.02, "margin": None, "accuracy": None, "reward": 1.25, "kl": 2.0}
RLHF = {"step": 3, "max_steps": 5}


def labels(*statuses):
    return [number.label for number in columns_of(statuses)]


def test_columns_are_those_that_some_run_has():
    assert labels(DPO) == labels() == labels(RLHF) == ["loss", "margin", "accuracy"]
    assert labels(PPO) == ["reward", "KL"]
    assert labels(DPO, PPO, RLHF) == ["loss", "margin", "accuracy", "reward", "KL"]


def test_the_loss_of_ppo_is_not_shown():
    assert [number_text(PPO, number) for number in NUMBERS] == ["–", "–", "–", "1.25", "2.00"]
    assert number_text(DPO, NUMBERS[0]) == "0.500"
    assert number_text(RLHF, NUMBERS[0]) == "–"


def test_an_accuracy_of_an_update_says_of_how_many_pairs():
    accuracy = next(number for number in NUMBERS if number.key == "accuracy")
    assert number_text(DPO | {"pairs": 16}, accuracy) == "0.75 of 16"
    assert number_text(DPO, accuracy) == "0.75"
    assert number_text(DPO | {"pairs": 16}, NUMBERS[0]) == "0.500"


def test_what_a_run_counts():
    assert [TASKS[task].unit for task in ("dpo", "sft", "reward")] == ["update"] * 3
    assert (TASKS["ppo"].unit, TASKS["rlhf"].unit) == ("rollout", "run")


def test_what_ppo_logs_is_explained():
    logged = "reward reward_std kl objective beta entropy loss/policy loss/value clip_fraction"
    logged += " completions/mean_length completions/ended seconds/drawing seconds/judging"
    assert set(f"{logged} seconds/learning".split()) <= METRICS.keys()
