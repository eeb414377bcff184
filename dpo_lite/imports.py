"""Import the heavy libraries in about two thirds of the time.

Two things cost seconds there and help nobody. Python's collector walks over all objects again and
again while hundreds of thousands are made that stay; and bitsandbytes compiles two functions with
``torch.compile`` as it is imported, which brings torch's whole compiler, whether they are used or
not (they are its kernels for devices that have none of their own).
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any


@contextmanager
def quick_imports() -> Iterator[None]:
    """What is imported inside stays, so the collector looks at it neither now nor later."""
    if "bitsandbytes" in sys.modules or not gc.isenabled():
        yield  # they are here, or the collector is somebody else's business
        return
    gc.disable()
    try:
        import torch

        compiled, torch.compile = torch.compile, _compiled_at_first_call
        try:
            import bitsandbytes  # noqa: F401
        finally:
            torch.compile = compiled
        yield
    finally:
        gc.enable()
    gc.freeze()


def _compiled_at_first_call(function: Callable | None = None, **options: Any) -> Callable:
    """``torch.compile``, but the compiler is imported when the function is called."""
    if function is None:
        return lambda function: _compiled_at_first_call(function, **options)

    @cache
    def compiled() -> Callable:
        import torch

        return torch.compile(function, **options)

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        return compiled()(*arguments, **named)

    return call
