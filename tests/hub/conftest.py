"""The files of finished and unfinished runs, without training them, and a Hub on this machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dpo_lite.files import write_json, write_text
from dpo_lite.recipe import to_yaml, validate_recipe
from dpo_lite.runs.folder import Run
from tests.fake_hub import WRITE, FakeHub

RESULTS = {
    "sets": {
        "test": {
            "likelihood": {"reference": 0.4, "policy": 0.8},
            "generation": {"reference": None, "policy": None},
            "rewards/accuracies": 0.75,
            "rewards/margins": 1.1,
            "loss": 0.48,
            "counts": {
                "likelihood": {
                    "reference": {"successes": 20, "n": 50},
                    "policy": {"successes": 40, "n": 50},
                },
                "rewards/accuracies": {"successes": 36, "n": 48, "ties": 2},
            },
        }
    }
}
MANIFEST = {
    "dpo_lite": "0.1",
    "versions": {"torch": "2.13.0", "peft": "0.21.2"},
    "base_revision": "a" * 40,
    "reference": "base, adapters off",
    "quantization": "nf4",
    "device": "cpu",
    "data": {
        "fingerprint": "f00d",
        "examples": 1234,
        "held_out": {"test": 50},
        "drawn_from": {},
        "max_length": 512,
    },
}


def write_adapter(folder: Path, base: str) -> None:
    folder.mkdir(parents=True)
    tensors = {f"x.lora_{part}.weight": torch.ones(2, 2) for part in "AB"}
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"base_model_name_or_path": base, "peft_type": "LORA", "r": 16, "lora_alpha": 32}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "training_args.bin").write_bytes(b"may hold a token")
    (folder / "optimizer.pt").write_bytes(b"states")


@pytest.fixture
def make_run(tmp_path):
    """Make a run folder; keywords are sections of the recipe."""

    def make(state="finished", name="demo-1", **sections):
        run = Run(tmp_path / "runs" / name)
        values = {"model": {"base": "some/base"}, "data": {"train": "some/pairs:train"}} | sections
        write_adapter(run.adapter, str(tmp_path))
        write_text(run.recipe_file, to_yaml(validate_recipe(values, "test")))
        write_json(run.path / "results.json", RESULTS)
        write_json(run.path / "manifest.json", MANIFEST)
        (run.path / "curves.png").write_bytes(b"\x89PNG")
        for when, answer in (("before", "no"), ("after", "yes <b>")):
            run.append(
                "samples.jsonl", {"when": when, "set": "p", "prompt": "Why?", "answer": answer}
            )
        run.append("metrics.jsonl", {"step": 1, "loss": 0.69, "rewards/margins": 0.0})
        run.append("metrics.jsonl", {"step": 2, "loss": 0.5, "rewards/margins": 0.7})
        run.update_status(state=state)
        return run

    return make


@pytest.fixture
def run(make_run):
    return make_run()


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """The base's licence is asked for nowhere, unless a test says what it is."""
    monkeypatch.setattr("dpo_lite.hub.card_metadata.base_licence", lambda base: {})


@pytest.fixture
def hub():
    with FakeHub() as hub:
        yield hub


@pytest.fixture
def client(hub, tmp_path, monkeypatch):
    """This process's huggingface_hub, pointed at the small Hub; returns ``login``."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("dpo_lite.hub.push.WAITS", (0.0, 0.0))

    def login(token):
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        else:
            monkeypatch.delenv("HF_TOKEN", raising=False)

    login(WRITE)
    return login


@pytest.fixture
def command(hub, tmp_path):
    """``dpo-lite`` in a process of its own, as a user runs it."""

    def run_command(*arguments, token=WRITE):
        root = str(Path(__file__).parents[2])
        env = hub.environment(tmp_path / "hf", token)
        return subprocess.run(
            [sys.executable, "-m", "dpo_lite", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=env | {"PYTHONPATH": root, "COLUMNS": "160", "NO_COLOR": "1"},
        )

    return run_command
