"""The cases of benchmarks/torture_ppo.py name different things, and places that there are."""

from importlib import import_module

import pytest

from benchmarks.torture_ppo import CASES


@pytest.mark.parametrize("estimator", CASES)
def test_every_case_strikes_at_something_that_is_there(estimator):
    cases = CASES[estimator]
    assert len({case.name for case in cases}) == len(cases) >= 18
    for case in cases:
        assert sum(map(bool, (case.damage, case.kill, case.full))) == 1, case.name
        if case.kill:
            module, _, path = case.kill.target.partition(":")
            found = import_module(module)
            for name in path.split("."):
                found = getattr(found, name)
            assert callable(found), case.name
