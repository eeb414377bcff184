"""Responses that are compared: how many of them a task needs, in training and in held-out data."""

from types import SimpleNamespace

import pytest

from dpo_lite.errors import UserError
from dpo_lite.recipe import load_recipe
from dpo_lite.training.comparing import check_responses


def test_held_out_answers_that_stand_alone_are_refused():
    """Their margin would be 0 and their loss ln 2, whatever was learned."""
    held_out = {"b": {"response_ids": [[[1], [2]], [[3]]]}}
    data = SimpleNamespace(
        report=SimpleNamespace(responses={"fewest": 2, "most": 2}), evals=held_out
    )
    with pytest.raises(UserError, match=r"^data\.eval: b holds single responses; .*eval=none\.$"):
        check_responses(load_recipe("quickstart"), data)
    held_out["b"]["response_ids"][1].append([4])
    check_responses(load_recipe("quickstart"), data)
