"""A message of the Runs tab belongs to its run and to the states in which it holds."""

from dpo_lite.ui.run_messages import said, shown

RUNNING = {"a": {"state": "running"}, "b": {"state": "running"}}


def test_it_goes_with_its_run():
    message = said("stops", "a")
    assert shown(message, ["a", "b"], RUNNING) == {"act": "stops", "manage": ""}
    assert shown(message, ["b", "a"], RUNNING) == {"act": "", "manage": ""}
    assert shown(None, ["a"], RUNNING) == {"act": "", "manage": ""}


def test_it_holds_in_its_states_alone():
    message = said("finishes its update", "a", during=("running",))
    assert shown(message, ["a"], RUNNING)["act"] == "finishes its update"
    assert shown(message, ["a"], {"a": {"state": "stopped"}})["act"] == ""


def test_of_a_run_that_is_gone_it_stands_until_another_is_selected():
    message = said("Deleted a.", None)
    assert shown(message, [], {})["act"] == "Deleted a."
    assert shown(message, ["b"], RUNNING)["act"] == ""
    assert shown(said("Renamed.", "b", "manage"), ["b"], RUNNING)["manage"] == "Renamed."
