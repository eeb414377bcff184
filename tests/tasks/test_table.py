"""The table over held-out sets: what each column is, with and without a policy's own start."""

from dpo_lite.tasks import TASKS


def measured(**generation):
    return {
        "generation": generation,
        "likelihood": {"reference": 0.1, "policy": 0.9},
        "rewards/margins": 1.5,
        "loss": 0.3,
    }


def test_the_numbers_of_a_policy_stand_beside_its_references():
    head, rows = TASKS["dpo"].table({"test": measured(reference=0.0, policy=1.0)})
    assert head == ("set", "measure", "reference", "policy")
    assert rows[0] == ("test", "chosen claim, generated", "0%", "100%")
    assert {len(row) for row in rows} == {4}


def test_a_policy_that_started_apart_has_a_column_for_its_start():
    sets = {
        "test": measured(reference=0.0, start=0.5, policy=1.0),
        "other": measured(reference=None, start=None, policy=None),  # no markers
    }
    head, rows = TASKS["dpo"].table(sets)
    assert head == ("set", "measure", "reference", "start", "policy")
    assert rows[0] == ("test", "chosen claim, generated", "0%", "50%", "100%")
    assert rows[1] == ("test", "chosen likelier than rejected", "10%", "–", "90%")
    assert {len(row) for row in rows} == {5}
    assert TASKS["dpo"].table({"other": sets["other"]})[0] == (
        "set",
        "measure",
        "reference",
        "policy",
    )


def counted(successes, n):
    return {"successes": successes, "n": n}


def test_of_how_many_and_how_sure():
    """The number once beside the measure, the interval in each cell; ties are named."""
    metrics = measured(reference=0.0, policy=1.0) | {
        "rewards/accuracies": 0.5,
        "rewards/margins": 0.0008,
        "counts": {
            "generation": {"reference": counted(0, 148), "policy": counted(148, 148)},
            "likelihood": {"reference": counted(1, 10), "policy": counted(18, 20)},
            "rewards/accuracies": counted(1, 2) | {"ties": 1},
        },
    }
    rows = dict((row[1], row[2:]) for row in TASKS["dpo"].table({"test": metrics})[1])
    assert rows == {
        "chosen claim, generated, of 148": ("0% (0–3%)", "100% (97–100%)"),
        "chosen likelier than rejected": ("10% (1 of 10, 2–40%)", "90% (18 of 20, 70–97%)"),
        "reward accuracy, of 2 (1 tie left out)": ("–", "50% (9–91%)"),
        "reward margin": ("0", "0.0008"),
        "loss": ("", "0.3000"),
    }


def test_the_start_has_an_interval_too():
    metrics = measured(reference=0.0, start=0.5, policy=1.0)
    of_each = {"reference": counted(0, 4), "start": counted(2, 4), "policy": counted(4, 4)}
    metrics["counts"] = {"generation": of_each}
    row = TASKS["dpo"].table({"test": metrics})[1][0]
    assert row[1:] == (
        "chosen claim, generated, of 4",
        "0% (0–49%)",
        "50% (15–85%)",
        "100% (51–100%)",
    )


def test_drawn_answers_are_of_their_prompts():
    role = {"reward": 1.0, "kl": 0.0, "kl_error": 0.0, "truthful": 0.25}
    sets = {
        "test": {"drawn": {"reference": role | {"prompts": 8}, "policy": role | {"prompts": 8}}}
    }
    row = TASKS["ppo"].table(sets)[1][0]
    assert row == ("test", "chosen claim, drawn, of 8", "25% (7–59%)", "25% (7–59%)")


def test_a_reward_model_has_one_column():
    metrics = {"rewards/margins": 1.0, "loss": 0.2, "calibration": {"error": None}}
    head, rows = TASKS["reward"].table({"test": metrics})
    assert head == ("set", "measure", "reward model")
    assert {len(row) for row in rows} == {3}
