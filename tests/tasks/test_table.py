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


def test_a_reward_model_has_one_column():
    metrics = {"rewards/margins": 1.0, "loss": 0.2, "calibration": {"error": None}}
    head, rows = TASKS["reward"].table({"test": metrics})
    assert head == ("set", "measure", "reward model")
    assert {len(row) for row in rows} == {3}
