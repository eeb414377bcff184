"""What is said of the device: the card as it is, and every reason why there is none."""

import sys

import pytest
import torch

from dpo_lite.memory.device_words import device_words

TOO_OLD = "The NVIDIA driver on your system is too old (found version 11040). Please update."
NO_DRIVER = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU."
NO_CARD = "No CUDA GPUs are available"


@pytest.fixture
def machine(monkeypatch):
    """A machine with a torch built for CUDA; ``fault`` is what starting CUDA says."""

    def make(cuda="12.6", fault=None, visible=None, platform="linux"):
        def start():
            if fault:
                raise RuntimeError(fault)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.cuda, "init", start)
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.version, "hip", None)
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        return device_words()

    return make


def test_a_card_by_name_memory_and_dtype(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **asked: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA GeForce RTX 3060")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (11 * 2**30, 12 * 2**30))
    assert device_words() == "NVIDIA GeForce RTX 3060, 11.0 of 12.0 GiB free, bfloat16"


def test_a_torch_without_cuda_says_how_to_get_one(machine, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.13.0+cpu")
    words = machine(cuda=None)
    assert words.startswith("CPU, float32, because this torch (2.13.0+cpu) is built without CUDA")
    assert "pip install --force-reinstall torch==2.13.0 --index-url https://" in words
    assert machine(cuda=None, platform="darwin").endswith("there is no CUDA on a Mac")


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"visible": ""}, "CUDA_VISIBLE_DEVICES is '', which hides all cards; unset it"),
        ({"visible": "-1", "fault": NO_CARD}, "which hides all cards"),
        ({"visible": "7", "fault": NO_CARD}, "'7', and torch finds no such card"),
        ({"fault": TOO_OLD}, "driver is too old for this torch (CUDA 12.6); update it"),
        ({"fault": NO_DRIVER}, "no NVIDIA driver is found"),
        ({"fault": NO_CARD}, "torch finds no card (No CUDA GPUs are available)"),
        ({}, "torch finds no card"),
    ],
)
def test_a_cpu_by_its_reason(machine, facts, told):
    assert told in machine(**facts)
