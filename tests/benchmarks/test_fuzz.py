"""A few of the inputs that the fuzz makes: no kind ends in a traceback, and damage is damage."""

import random

import pytest

from benchmarks import fuzz, fuzz_damage

COUNTS = [pytest.param(30, marks=pytest.mark.slow), pytest.param(20_000, marks=pytest.mark.long)]


@pytest.mark.parametrize("count", COUNTS)
def test_no_input_ends_in_a_traceback(count):
    counts = fuzz.fuzz(list(fuzz.KINDS), count, seed=0)
    faults = [fault for ends in counts.values() for fault in set(ends) - {"sound", "told"}]
    assert faults == []
    assert sum(ends["told"] for ends in counts.values()) > count / 10
    assert sum(ends["sound"] for ends in counts.values()) > count / 10


def test_a_fault_is_counted_with_its_place(monkeypatch, capsys):
    def broken(draw, folder):
        raise KeyError(draw.choice(["step"]))

    monkeypatch.setitem(fuzz.KINDS, "votes", broken)
    counts = fuzz.fuzz(["votes"], 3, seed=7)
    assert counts["votes"] == {"KeyError: 'step'": 3}
    assert capsys.readouterr().err.count("votes, seed 7") == 1


def test_the_same_seed_damages_the_same():
    text, tree = b"some words of a file" * 9, {"a": [1, 2, {"b": "c"}], "d": None}
    one, two = random.Random(5), random.Random(5)
    assert fuzz_damage.damaged_bytes(one, text) == fuzz_damage.damaged_bytes(two, text)
    assert repr(fuzz_damage.damaged_value(one, tree)) == repr(fuzz_damage.damaged_value(two, tree))
    changed = [fuzz_damage.damaged_bytes(random.Random(n), text) != text for n in range(50)]
    assert sum(changed) > 40
    assert tree == {"a": [1, 2, {"b": "c"}], "d": None}
