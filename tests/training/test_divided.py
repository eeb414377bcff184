"""Updates on weights divided over two processes: bit by bit what they are on whole ones."""

import pytest
import torch

from tests.launched import launched
from tests.training.divided import CASES, RECOMPUTED, save_bases

FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}

# One launch of two processes; tests/model/test_sharding.py tries the same in one.
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("divided")
    save_bases(folder)
    ends = launched("tests.training.divided", folder, seconds=600, **FSDP2)
    assert [end.code for end in ends] == [0, 0], ends[0].err + ends[1].err
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def same(found, expected):
    """Whether two nests of numbers and tensors are equal to the last bit."""
    if isinstance(expected, torch.Tensor):
        return torch.equal(found, expected)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[k], expected[k]) for k in found)
    if isinstance(expected, (list, tuple)):
        return len(found) == len(expected) and all(map(same, found, expected))
    return found == expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_divided_weights_change_nothing(both, case):
    """Gradient, metrics, scores and answers: products are of the same bytes in the same order."""
    for found in both:
        assert found["fsdp"]
        assert found[case]["divided"][0]  # a gradient
        assert same(found[case]["divided"], found[case]["whole"])
        assert found[case]["held"][0] == found[case]["held"][1]  # as it is told to the user
    assert same(both[0][case]["divided"], both[1][case]["divided"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_each_process_holds_its_part(both, case):
    """But for the scales of packed weights, and the row or two by which parts are unequal."""
    for found in both:
        whole, part = found[case]["bytes"]
        scales = 1 / 8 / 4 if case[1] == "nf4" else 0
        assert 0.49 < part / whole < 0.51 + scales


@pytest.mark.parametrize("how", RECOMPUTED)
def test_layers_are_computed_again(both, how):
    """Weights come together a second time in the backward pass."""
    for found in both:
        gradient, metrics = found["recomputed"][how]
        expected, numbers = found[CASES[0]]["whole"][:2]
        assert metrics == numbers
        for name, own in expected.items():
            assert torch.allclose(gradient[name], own, rtol=1e-5, atol=1e-7), name


def test_the_fast_way_is_found(both):
    assert [found["way"] for found in both] == ["forest", "forest"]


def test_remembered_numbers_keep_the_processes_in_step(both):
    for found in both:
        _, (first, again), known = found["kept"]
        expected = found[CASES[0]]["whole"][1]
        assert first[1]["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        assert same(again, first)
        assert known == 13  # of seven pairs two share a response
    assert same(both[0]["kept"], both[1]["kept"])


def test_memory_that_runs_out_ends_it(both):
    """Tried again by one alone it would wait for the other for ever."""
    for found in both:
        assert found["memory"] == found["expected"]
