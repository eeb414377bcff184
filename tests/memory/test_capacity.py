"""What this process takes of the machine, by the system's own numbers."""

import mmap
import sys
from types import SimpleNamespace

import psutil
import pytest
import torch

from dpo_lite.memory import capacity
from dpo_lite.memory.capacity import memory_in_use, peak_memory

CPU = torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="the card's memory is told there")
def test_what_is_in_use_is_seen():
    before, size = memory_in_use(), 2**26
    with mmap.mmap(-1, size) as held:  # pages of its own: an allocator may have old ones left
        for place in range(0, size, mmap.PAGESIZE):
            held[place] = 1
        assert memory_in_use() - before > size / 2
        assert peak_memory(CPU) >= size


def test_the_peak_where_there_is_no_resource_module(monkeypatch):
    monkeypatch.setattr(capacity, "_high_water", lambda: None)
    monkeypatch.setitem(sys.modules, "resource", None)
    windows = SimpleNamespace(peak_wset=123)
    monkeypatch.setattr(psutil.Process, "memory_info", lambda process: windows)
    assert peak_memory(CPU) == 123


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a child has a mark of its own")
def test_the_peak_is_not_that_of_who_started_the_process(monkeypatch):
    """getrusage's goes on over exec: a round's training had that of the drawing before it."""
    resource = pytest.importorskip("resource")
    parent = SimpleNamespace(ru_maxrss=2**40)
    monkeypatch.setattr(resource, "getrusage", lambda who: parent)
    assert psutil.Process().memory_info().rss / 2 < peak_memory(CPU) < 2**40
