"""A forward pass that can be broken off between two layers: a long prompt is read for long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


class _Stopped(BaseException):
    """No Exception, so that no library on the way takes it for a fault and goes on."""


@contextmanager
def stopping(model: torch.nn.Module, stop: Callable[[], bool]) -> Iterator[None]:
    """Inside, every layer asks before it computes; where ``stop`` says so the block is left.

    Nothing is raised: who stops knows it. What a layer computes stays as it is. A layer is a module
    of a list of modules, as all transformers have theirs.
    """

    def ask(module, arguments):
        if stop():
            raise _Stopped

    layers = {
        layer
        for module in model.modules()
        if isinstance(module, torch.nn.ModuleList)
        for layer in module
    }
    hooks = [layer.register_forward_pre_hook(ask) for layer in layers]
    try:
        yield
    except _Stopped:
        pass
    finally:
        for hook in hooks:
            hook.remove()
