"""Two processes that train together: the update of one, and faults that end or change both."""

import os

import pytest
import torch

from dpo_lite.errors import UserError
from dpo_lite.training import launcher, ranks
from dpo_lite.training.ppo import Rollout
from dpo_lite.training.ppo_split import joined_rollouts
from tests.launched import launched
from tests.training import side_by_side
from tests.training.side_by_side import CASES, ESTIMATORS

# Sums of some ten numbers in fp32 in another order: of a gradient as a whole 1e-7 is what one
# rounding makes, and what its parts cancel to may be ten times smaller than they are.
ROUNDING = 2e-6


def relative(found, expected):
    assert found.keys() == expected.keys()
    difference = sum((found[name] - expected[name]).square().sum() for name in expected)
    return (difference / sum(g.square().sum() for g in expected.values())).sqrt().item()


def close(found, expected):
    return found == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("side-by-side")
    side_by_side.save_base(folder)
    return folder


@pytest.fixture(scope="module")
def both(folder):
    """What each of two processes found."""
    ends = launched("tests.training.side_by_side", folder)
    assert [end.code for end in ends] == [0, 0], ends[0].err + ends[1].err
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.slow
def test_an_update_is_that_of_one_process(both, folder):
    assert [found["who"] for found in both] == [(0, 2, True), (1, 2, False)]
    for case in CASES:
        gradient, metrics = side_by_side.update(folder, *case)
        (first, first_metrics), (second, second_metrics) = (f["updates"][case] for f in both)
        assert relative(first, gradient) < ROUNDING, case
        assert all(torch.equal(first[name], second[name]) for name in first), case
        assert first_metrics == second_metrics
        assert close(first_metrics, metrics), case


@pytest.mark.slow
def test_each_has_a_share_alike_in_tokens(both):
    for case in CASES:
        shares = [found["shares"][case] for found in both]
        assert sorted(shares[0] + shares[1]) == list(range(case[2]))
        examples = side_by_side.examples_of(*case[::2])
        sizes = [sum(map(len, [e["prompt_ids"], *e["response_ids"]])) for e in examples]
        tokens = [sum(sizes[i] for i in share) for share in shares]
        assert max(tokens) - min(tokens) <= 2 * max(sizes)
        if case[2] > 2:
            assert any({0, 2} <= set(share) for share in shares)  # of one prompt


@pytest.mark.slow
def test_ppo_learns_from_a_minibatch_as_one_process_does(both, folder):
    for estimator in ESTIMATORS:
        gradient, metrics = side_by_side.ppo_update(folder, estimator)
        (first, first_metrics), (second, second_metrics) = (f["ppo"][estimator] for f in both)
        assert relative(first, gradient) < ROUNDING
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert first_metrics == second_metrics
        assert close(first_metrics, metrics)


@pytest.mark.slow
def test_an_evaluation_is_that_of_one_process(both, folder):
    counted = []
    expected = side_by_side.evaluation(folder, counted.append)
    assert both[0]["evaluation"] == both[1]["evaluation"]
    assert close(both[0]["evaluation"], expected)
    assert [found["progress"] for found in both] == [9, 9] == [sum(counted)] * 2


@pytest.mark.slow
def test_the_references_numbers_are_shared_and_written_once(both):
    (known, files, seen), (other, _, others) = (found["kept"] for found in both)
    assert known == other
    assert len(known) == 13  # of 14 responses two are one
    assert len(files) == 1
    for mine, theirs in zip(seen, others, strict=True):
        assert torch.equal(mine, theirs)
    assert torch.equal(seen[1][:4], seen[0])  # the first number stays


@pytest.mark.slow
def test_a_fault_of_one_is_told_to_all(both):
    for found in (f["faults"] for f in both):
        assert found["user"] == "UserError: row 7 is broken"
        assert found["memory"] == [400, 200, 100]
        assert found["both"] == "UserError: the loss became nan"
        assert found["first"] == "KeyError: 'gone'"
    assert both[0]["faults"]["odd"] == "RuntimeError: OddError: onetwo"
    assert both[1]["faults"]["odd"] == "OddError: onetwo"


@pytest.mark.slow
def test_gradients_are_added_up(both):
    for (first, second, none), (good, over, scale) in (found["sums"] for found in both):
        assert first.eq(3).all()
        assert second.eq(5).all()
        assert none is None
        # One process' overflow is dropped in both.
        assert not good
        assert over is None
        assert scale == {"scale": 2.0**15, "good": 0, "skipped": 1}


@pytest.mark.slow
def test_who_does_what(both):
    for rank, found in enumerate(f["order"] for f in both):
        assert found["own"] == rank
        assert found["doubled"] == [(0, 0), (2, 1), (4, 0), (6, 1), (8, 0)]
        assert found["progress"] == 5
        assert found["one"] == "3 by 0"
        assert found["of_first"] == "from 0"
        assert found["tensor"] == [0.0, 0.0]
        assert found["gathered"] == [0, 1]


def test_one_process_does_what_it_is_given():
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.ones(2)
    ranks.sum_gradients([parameter])
    assert parameter.grad.tolist() == [1, 1]
    assert ranks.alone()
    assert (ranks.rank(), ranks.count(), ranks.devices()) == (0, 1, None)
    assert ranks.gathered("a") == ["a"]
    assert ranks.each(lambda: 1) == ranks.of_first(lambda: 1) == 1
    assert ranks.first_then_others(lambda: 2) == 2
    assert ranks.dealt([1, 2], lambda some, told: [-i for i in some]) == [-1, -2]
    with pytest.raises(UserError, match="as it is"):
        ranks.each(fails)
    assert ranks.tells("anything")


def fails():
    raise UserError("as it is")


def test_a_rollout_is_put_together_in_the_order_of_its_prompts():
    """Five prompts with two answers each, dealt to three processes in turn."""
    lengths = [3, 1, 2, 2, 1, 4, 1, 1, 2, 3]

    def rollout(prompts):
        rows = [2 * prompt + number for prompt in prompts for number in range(2)]
        width = max(lengths[row] for row in rows)
        mask = torch.arange(width) < torch.tensor([lengths[row] for row in rows])[:, None]
        numbers = mask * (torch.tensor(rows)[:, None] + 1.0)
        rewards = torch.tensor(rows, dtype=torch.float32)
        examples = [{"prompt": str(prompt)} for prompt in prompts]
        return Rollout(examples, rewards, rewards > 4, mask, numbers, -numbers, 2 * numbers)

    found, expected = (
        joined_rollouts([rollout([0, 3]), rollout([1, 4]), rollout([2])]),
        rollout(range(5)),
    )
    assert found.examples == expected.examples
    for name in "rewards ended mask policy_logps reference_logps values".split():
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"ACCELERATE_USE_FSDP": "true"}, "launched with FSDP1"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, "add `--fsdp_version 2`"),
        (
            {"ACCELERATE_USE_FSDP": "1", "FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "true"},
            "leave `fsdp_offload_params` away",
        ),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "launched with DeepSpeed"),
    ],
)
def test_launches_that_are_refused(environment, words, monkeypatch):
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(UserError, match=words):
        ranks.join()


def test_fsdp_of_one_process_is_no_launch(monkeypatch):
    """And nothing of it is left for the libraries, which would load and save in their own way."""
    for key in ("ACCELERATE_USE_FSDP", "FSDP_CPU_RAM_EFFICIENT_LOADING"):
        monkeypatch.setenv(key, "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    ranks.join()
    assert ranks.alone()
    assert not ranks.fsdp()
    assert not [key for key in os.environ if key.startswith(("ACCELERATE_", "FSDP_"))]


def test_what_the_launcher_says_of_precision_is_not_for_us(monkeypatch):
    """Else accelerate would compute a recipe's fp32 in bf16, or compile the model."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    ranks.join()
    assert ranks.alone()
    assert not {"ACCELERATE_MIXED_PRECISION", "ACCELERATE_DYNAMO_BACKEND", "LOCAL_RANK"} & set(
        os.environ
    )


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, ("0", "1")),
        ("3,1,2", ("3", "1")),
        ("GPU-a, GPU-b", ("GPU-a", "GPU-b")),
        ("", ("", "")),
        ("5", ("5", None)),
    ],
)
def test_each_process_takes_a_card_of_its_own(visible, names, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    for place, name in enumerate(names):
        monkeypatch.setenv("LOCAL_RANK", str(place))
        if name is None:
            with pytest.raises(UserError, match=r"names 1 cards \(5\), too few"):
                launcher.own_device()
        else:
            assert launcher.own_device() == name
