"""A prompt that is being read is broken off between two layers, and nothing is left behind."""

import torch

from dpo_lite.compare.stopping import stopping


class Layers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(3))
        self.done = 0

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
            self.done += 1
        return x


def test_it_stops_between_two_layers_and_not_before_it_is_asked():
    model, x = Layers(), torch.ones(1, 2)
    expected = model(x)
    model.done = 0
    reached = []
    with stopping(model, lambda: model.done == 2):
        model(x)
        reached.append("behind")
    assert (model.done, reached) == (2, [])
    with stopping(model, lambda: False):
        assert torch.equal(model(x), expected)
    assert not any(layer._forward_pre_hooks for layer in model.layers)


def test_faults_are_not_swallowed():
    try:
        with stopping(Layers(), lambda: False):
            raise ValueError("a fault")
    except ValueError:
        return
    raise AssertionError("it was swallowed")
