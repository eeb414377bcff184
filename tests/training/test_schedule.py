"""The learning rate is above 0 from first to last update, and transformers' own otherwise."""

import pytest
import torch
from transformers import get_scheduler

from dpo_lite.training.schedule import rates_as_asked, schedule, share_of_peak


@pytest.mark.parametrize("scheduler", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 97])
def test_every_update_learns_and_one_learns_most(scheduler, warmup, steps):
    shares = [share_of_peak(step, scheduler, warmup, steps) for step in range(steps)]
    assert min(shares) > 0
    assert max(shares) == 1


def test_by_hand():
    assert share_of_peak(0, "cosine", 0.1, 1) == 1  # the only update of a run on a few rows
    shares = [share_of_peak(step, "linear", 0.2, 10) for step in range(10)]
    assert shares == pytest.approx([1 / 2, 1, *(1 - k / 8 for k in range(8))])


@pytest.mark.parametrize("scheduler", ["cosine", "linear"])
def test_behind_the_warm_up_it_is_transformers_own(scheduler):
    def rates(make):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
        moving = make(optimizer)
        found = []
        for _ in range(40):
            found.append(moving.get_last_lr()[0])
            optimizer.step()
            moving.step()
        return found

    ours = rates(lambda optimizer: schedule(optimizer, scheduler, 0.1, 40))
    theirs = rates(lambda optimizer: get_scheduler(scheduler, optimizer, 4, 40))
    assert ours[4:] == pytest.approx(theirs[4:])
    assert ours[:4] == pytest.approx([3e-4 * k / 4 for k in (1, 2, 3, 4)])
    assert theirs[0] == 0


@pytest.mark.parametrize("scheduler", ["cosine", "constant"])
def test_a_checkpoint_keeps_the_place_and_the_recipe_the_rates(scheduler):
    """Bit for bit those of a run that was not stopped, unless the recipe asks for others."""

    def made(lr, decay):
        parameter = torch.nn.Parameter(torch.ones(1))
        optimizer = torch.optim.AdamW([parameter], lr=lr, weight_decay=decay)
        return optimizer, schedule(optimizer, scheduler, 0.2, 10)

    optimizer, rates = made(1e-3, 0.1)
    for _ in range(4):
        optimizer.step()
        rates.step()
    for lr, decay in ((1e-3, 0.1), (3e-3, 0.0)):
        again, going_on = made(lr, decay)
        with rates_as_asked(again, going_on):
            again.load_state_dict(optimizer.state_dict())
            going_on.load_state_dict(rates.state_dict())
        (group,) = again.param_groups
        assert group["lr"] == lr * share_of_peak(4, scheduler, 0.2, 10)
        assert group["weight_decay"] == decay
        if lr == 1e-3:
            assert again.param_groups[0] | {"params": 0} == optimizer.param_groups[0] | {
                "params": 0
            }
        again.step()
        going_on.step()
        assert group["lr"] == lr * share_of_peak(5, scheduler, 0.2, 10)
