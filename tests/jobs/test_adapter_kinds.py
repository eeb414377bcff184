"""Whole runs with DoRA, PiSSA, rsLoRA and LoRA+: resumed bit by bit, merged and loaded as plain."""

import os
import signal

import pytest
import torch
from peft import PeftModel
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from dpo_lite.export.merge import merge
from dpo_lite.files import read_json
from dpo_lite.jobs import train as job
from dpo_lite.recipe import validate_recipe
from dpo_lite.training.callbacks import RunRecorder
from tests.cats import write_cats

KINDS = {
    "dora": {"kind": "dora", "rslora": True},
    "pissa": {"init": "pissa", "lora_plus": 4},
}
PPO = {"reward": "rewards.py:letters", "max_new_tokens": 4, "passes": 1, "minibatch": 4}


def start(base, folder, name, adapter, **more):
    values = {
        "model": {"base": base, "quantization": "none"},
        "adapter": {"r": 4, "alpha": 8} | adapter,
        "data": {"train": str(folder)},
        "train": {"lr": 1e-2, "batch_size": 4, "max_steps": 4, "save_steps": 1},
        "eval": {"generate": 0},
        "run": {"folder": str(folder / "runs"), "name": name},
    }
    for key, value in more.items():
        values[key] = values.get(key, {}) | value if isinstance(value, dict) else value
    return job.start(validate_recipe(values, "test"), name, Console(quiet=True))


def stop_at(monkeypatch, step):
    going_on = RunRecorder.on_step_end

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == step:
            os.kill(os.getpid(), signal.SIGINT)
        return going_on(self, args, state, control, **kwargs)

    monkeypatch.setattr(RunRecorder, "on_step_end", on_step_end)


def held_to(whole, part):
    expected, found = (load_file(r.adapter / "adapter_model.safetensors") for r in (whole, part))
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
    losses = [[m["loss"] for m in r.records("metrics.jsonl") if "loss" in m] for r in (whole, part)]
    assert losses[0] == losses[1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_resumed_is_the_run_whole_and_loads_anywhere(tiny_base, tmp_path, monkeypatch, kind):
    write_cats(tmp_path, train=range(16), test=range(16, 20))
    whole = start(tiny_base, tmp_path, "whole", KINDS[kind])
    first = next(m for m in whole.records("metrics.jsonl") if "loss" in m)
    assert first["loss"] == pytest.approx(0.693147, abs=1e-6)
    assert whole.manifest()["reference"] == "base, adapters off"
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        part = start(tiny_base, tmp_path, "part", KINDS[kind])
    assert part.status()["state"] == "stopped"
    job.resume(part, Console(quiet=True))
    held_to(whole, part)

    config = read_json(whole.adapter / "adapter_config.json")
    assert config["r"] == (8 if kind == "pissa" else 4)
    assert config["use_dora"] is (kind == "dora")
    ids = torch.arange(5, 25)[None]

    def says(model):
        with torch.no_grad():
            return model.eval()(ids).logits.log_softmax(-1)

    plain = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_base), whole.adapter
    )
    with plain.disable_adapter():
        bare = says(plain)
    merge(tiny_base, None, str(whole.adapter), tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert (says(merged) - says(plain)).abs().max() < 1e-4
    assert (says(plain) - bare).abs().max() > 1e-2


@pytest.mark.slow
def test_ppo_goes_on_bit_by_bit_from_such_a_start(tiny_base, tmp_path, monkeypatch):
    write_cats(tmp_path, train=range(16), test=range(16, 20))
    (tmp_path / "rewards.py").write_text(
        "def letters(completions, **others):\n    return [float(len(c)) for c in completions]\n"
    )
    monkeypatch.chdir(tmp_path)
    more = {"task": "ppo", "ppo": PPO}
    whole = start(tiny_base, tmp_path, "whole", KINDS["pissa"], **more)
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        part = start(tiny_base, tmp_path, "part", KINDS["pissa"], **more)
    assert part.status()["state"] == "stopped"
    job.resume(part, Console(quiet=True))
    held_to(whole, part)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_trl_engine_trains_the_same(tiny_base, tmp_path, kind):
    write_cats(tmp_path, train=range(16), test=range(16, 20))
    ours = start(tiny_base, tmp_path, "ours", KINDS[kind])
    theirs = start(tiny_base, tmp_path, "theirs", KINDS[kind], train={"engine": "trl"})
    losses = [
        [m["loss"] for m in run.records("metrics.jsonl") if "loss" in m] for run in (ours, theirs)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=2e-4)
    assert losses[0][-1] < 0.69
