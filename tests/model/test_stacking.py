"""Two adapters as one: the sum of what they add, to the last bit where their scales agree."""

import pytest
import torch

from dpo_lite.errors import UserError
from dpo_lite.model.stacking import Adapter, concatenated, fresh_beside

LAYERS = {"q": (6, 4), "v": (3, 4)}  # out, in


def adapter(rank, alpha, layers=LAYERS, seed=0, **config):
    torch.manual_seed(seed)
    tensors = {}
    for name, (out, width) in layers.items():
        tensors[f"{name}.lora_A.weight"] = torch.randn(rank, width)
        tensors[f"{name}.lora_B.weight"] = torch.randn(out, rank)
    settings = {"r": rank, "lora_alpha": alpha, "target_modules": list(layers)}
    return Adapter(settings | config, tensors)


def added(adapter, name):
    """What the adapter adds to a layer's weight."""
    down, up = (adapter.tensors.get(f"{name}.lora_{part}.weight") for part in "AB")
    return 0 if down is None else adapter.scale * up @ down


@pytest.mark.parametrize("second", [{"alpha": 6}, {"alpha": 5}, {"alpha": 5, "use_rslora": True}])
def test_the_sum_is_exact(second):
    one, two = adapter(2, 4, seed=1), adapter(3, seed=2, **second)
    both = concatenated(one, two)
    assert both.rank == 5
    assert both.scale == one.scale
    for name in LAYERS:
        expected = added(one, name) + added(two, name)
        assert torch.allclose(added(both, name), expected, atol=1e-5)


def test_layers_that_only_one_has():
    one, two = adapter(2, 4, {"q": (6, 4)}), adapter(3, 6, {"v": (3, 4)})
    both = concatenated(one, two)
    assert both.config["target_modules"] == ["q", "v"]
    assert torch.allclose(added(both, "q"), added(one, "q"))
    assert torch.allclose(added(both, "v"), added(two, "v"))


def test_fresh_ranks_add_nothing():
    start = adapter(2, 4)
    fresh = fresh_beside(start, 3, seed=1)
    both = concatenated(start, fresh)
    for name in LAYERS:
        assert torch.equal(added(both, name), added(start, name))
        down = fresh.tensors[f"{name}.lora_A.weight"]
        assert down.abs().max() <= 0.5
        assert down.std() > 0.1
    assert both.config["lora_alpha"] == 10
    again = fresh_beside(start, 3, seed=1)
    assert all(torch.equal(t, again.tensors[name]) for name, t in fresh.tensors.items())


@pytest.mark.parametrize(
    "odd", [{"use_dora": True}, {"rank_pattern": {"q": 4}}, {"bias": "all"}], ids=str
)
def test_what_has_no_sum_is_refused(odd):
    with pytest.raises(UserError, match="has no sum"):
        concatenated(adapter(2, 4, **odd), adapter(2, 4))
