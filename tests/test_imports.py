"""The heavy libraries come without torch's compiler, and nothing of them is changed by that."""

import subprocess
import sys

import pytest
import torch

from dpo_lite.imports import _compiled_at_first_call, quick_imports

LOOK = """
import gc, sys
from dpo_lite.imports import quick_imports
with quick_imports():
    import dpo_lite.model.roles
assert "bitsandbytes" in sys.modules and "peft" in sys.modules
assert "torch._inductor.compile_fx" not in sys.modules
assert gc.isenabled() and gc.get_freeze_count() > 100_000
import torch
assert torch.compile.__module__ == "torch"
"""


@pytest.mark.slow
def test_the_compiler_stays_away_and_all_is_put_back():
    subprocess.run([sys.executable, "-c", LOOK], check=True)


def test_a_function_is_compiled_when_it_is_called(monkeypatch):
    compiled = []

    def compile(function, **options):
        compiled.append(options)
        return lambda value: function(value) + 1

    monkeypatch.setattr(torch, "compile", compile)
    as_decorator = _compiled_at_first_call(dynamic=False)(lambda value: 2 * value)
    direct = _compiled_at_first_call(lambda value: 3 * value)
    assert compiled == []
    assert (as_decorator(2), as_decorator(3), direct(2)) == (5, 7, 7)
    assert compiled == [{"dynamic": False}, {}]


def test_a_second_time_nothing_is_frozen(monkeypatch):
    import bitsandbytes  # noqa: F401

    monkeypatch.setattr("gc.freeze", lambda: pytest.fail("what is garbage now would stay for ever"))
    with quick_imports():
        pass
