"""The doctor of the machine: each thing that may be broken is one finding, and never the end."""

import json
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from dpo_lite.cli import app
from dpo_lite.jobs import machine, machine_probes
from dpo_lite.jobs.machine import examine
from dpo_lite.jobs.machine_probes import PROBES, look
from dpo_lite.jobs.package_probes import OPTIONAL, Finding
from dpo_lite.model.base import compute_device

TOKEN = "hf_nobodyMayReadThis"
# A process that looks at nothing well: what it says of each name is told by the name.
ODD = """
import json, os, signal, sys, time
for name in sys.argv[2:]:
    print(json.dumps({"begun": name}), flush=True)
    if name == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "leaves":
        sys.exit("the last line of it")
    if name == "hangs":
        time.sleep(60)
    if name == "prints":
        print("Welcome!", flush=True)
    print(json.dumps({"name": name, "words": "fine"}), flush=True)
"""


def odd(*names, patience=20.0):
    return examine(names=names, command=[sys.executable, "-c", ODD], patience=patience)


@pytest.mark.parametrize("name", ["python", "dpo_lite", "torch", "4 bits", "host", "runs", "cache"])
def test_what_is_whole_has_nothing_to_do(name, tmp_path):
    found = look(name, str(tmp_path))
    assert (found.name, found.todo, found.wrong) == (name, "", False)


def test_a_product_that_is_off_is_found(monkeypatch):
    """Of a kernel that computes wrongly: the weights it unpacks are others."""
    import bitsandbytes.functional as packing

    true = packing.dequantize_4bit
    monkeypatch.setattr(packing, "dequantize_4bit", lambda *given: true(*given) * 1.1)
    found = look("4 bits")
    assert found.wrong
    assert "quantization=none" in found.todo


def test_a_library_that_is_missing_old_or_broken(monkeypatch):
    def version(name):
        raise metadata.PackageNotFoundError(name)

    with monkeypatch.context() as patch:
        patch.setattr(metadata, "version", version)
        found = look("peft")
        assert (found.words, found.wrong) == ("not installed", True)
        assert 'pip install "peft<0.22,>=0.21"' in found.todo
        assert not look("wandb").wrong  # an optional one may be missing
    with monkeypatch.context() as patch:
        patch.setattr(metadata, "version", lambda name: "0.3.1")
        found = look("peft")
        assert found.wrong
        assert "not 0.3.1" in found.todo
    monkeypatch.setitem(sys.modules, "peft", None)  # importing it raises ImportError
    found = look("peft")
    assert found.wrong
    assert "does not load" in found.words
    assert "ModuleNotFoundError" in found.todo


@pytest.mark.parametrize("name", PROBES)
def test_no_probe_ends_the_doctor(name, monkeypatch):
    def broken(*given, **named):
        raise SystemExit("odd things\nhappen")  # worse than any exception

    monkeypatch.setitem(PROBES, name, broken)
    found = look(name)
    assert found.wrong
    assert "SystemExit: odd things" in found.todo


def test_nothing_of_torch_is_needed_to_say_that_it_is_broken(tmp_path):
    code = (
        "import sys\nsys.modules['torch'] = None\n"  # importing it raises ImportError
        "from dpo_lite.jobs.machine_probes import main\nmain(sys.argv[1], sys.argv[2:])"
    )
    names = ["torch", "device", "4 bits", "python"]
    found = examine(str(tmp_path), names=names, command=[sys.executable, "-c", code])
    assert [f.wrong for f in found] == [True, True, True, False]


def test_a_crash_and_a_silence_are_findings_and_the_others_are_looked_at():
    found = odd("one", "dies", "prints", "leaves", "last")
    assert [f.name for f in found] == ["one", "dies", "prints", "leaves", "last"]
    assert [f.wrong for f in found] == [False, True, False, True, False]
    assert "SIGSEGV" in found[1].words
    assert "the last line of it" in found[3].words
    hung = odd("hangs", "last", patience=1.5)
    assert "did not answer within 2 s" in hung[0].words
    assert hung[1].words == "fine"


def test_a_python_that_does_not_start():
    (found,) = examine(names=["torch"], command=["/no/such/python"])
    assert found.wrong
    assert "cannot be started" in found.words


def card(monkeypatch, **facts):
    """What is found of a card that computes on the CPU."""
    facts = {"capability": (8, 6), "free": 11, "square": torch.eye, "smi": None} | facts
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **asked: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA GeForce RTX 3060")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *d: facts["capability"])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    memory = (facts["free"] * 2**30, 12 * 2**30)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *device: memory)
    eye = torch.eye
    square = facts["square"]
    monkeypatch.setattr(
        torch, "eye", lambda n, device=None: square(n) if device == "cuda" else eye(n)
    )
    driver = SimpleNamespace(stdout="580.65.06\n")
    monkeypatch.setattr(machine_probes.subprocess, "run", lambda *asked, **how: driver)
    return look("device")


def test_a_card_is_told_with_capability_and_driver(monkeypatch):
    found = card(monkeypatch)
    assert found.words == (
        "NVIDIA GeForce RTX 3060, 11.0 of 12.0 GiB free, bfloat16, compute capability 8.6, driver"
        " 580.65.06"
    )
    assert not found.todo


def no_kernel(n):
    raise RuntimeError("CUDA error: no kernel image is available for execution on the device")


@pytest.mark.parametrize(
    ("facts", "told", "wrong"),
    [
        ({"square": no_kernel}, "install a torch that is built for it", True),
        ({"square": torch.ones(32, 32).mul}, "multiplies wrongly", True),
        ({"free": 2}, "Other programs hold 10.0 GiB", True),
        ({"capability": (6, 1)}, "computes in fp32", False),
    ],
)
def test_a_card_that_will_not_do(monkeypatch, facts, told, wrong):
    found = card(monkeypatch, **facts)
    assert told in found.todo
    assert found.wrong is wrong


@pytest.mark.skipif(compute_device().type != "cpu", reason="is about a machine without a card")
def test_a_driver_without_a_card_in_use_is_wrong_and_none_is_not(monkeypatch):
    monkeypatch.setattr(machine_probes.shutil, "which", lambda name: None)
    assert not look("device").wrong
    monkeypatch.setattr(machine_probes.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert look("device").wrong


def test_a_folder_that_cannot_be_written_and_a_full_disk(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    found = look("runs", str(tmp_path / "file" / "runs"))
    assert found.wrong
    assert "cannot be written" in found.todo
    usage = SimpleNamespace(free=2**20)
    monkeypatch.setattr(machine_probes.shutil, "disk_usage", lambda path: usage)
    assert look("runs", str(tmp_path)).wrong


def test_the_cache_is_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("DPO_LITE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "deep").mkdir(parents=True)
    (tmp_path / "cache" / "deep" / "file").write_bytes(bytes(2**28))
    assert look("cache").words.endswith("holds 0.2 GiB")


def test_the_token_is_told_of_and_never_told(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    found = examine(str(tmp_path), names=["hub"])
    assert found == [Finding("hub", "a token is there, from HF_TOKEN")]


def test_the_command_says_it_and_its_code_too(monkeypatch):
    def ask(*findings):
        monkeypatch.setattr(machine, "examine", lambda runs, say: list(findings))
        return [CliRunner().invoke(app, ["doctor", *more]) for more in ([], ["--json"])]

    good, bad = Finding("python", "3.12"), Finding("torch", "[red]none", "Install it.", True)
    words, as_json = ask(good)
    assert (words.exit_code, as_json.exit_code) == (0, 0)
    assert "ready:  dpo-lite train" in words.output
    words, as_json = ask(good, bad)
    assert (words.exit_code, as_json.exit_code) == (1, 1)
    assert "torch: Install it." in words.output
    assert "[red]none" in words.output
    told = json.loads(as_json.stdout[as_json.stdout.index("{") :])
    assert told["ok"] is False
    assert told["findings"][1] == {
        "name": "torch", "words": "[red]none", "todo": "Install it.", "wrong": True
    }  # fmt: skip


@pytest.mark.slow
def test_the_whole_machine_of_these_tests(tmp_path):
    found = examine(str(tmp_path))
    assert [f.name for f in found] == [*PROBES]
    assert {f.name for f in found if f.wrong} <= {"device", "bases", "host", "runs", *OPTIONAL}
