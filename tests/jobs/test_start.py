"""Training that goes on from an adapter, and the one adapter that comes out of it."""

import json
import math
import os
import shutil
import signal

import pytest
import torch
from peft import PeftModel
from rich.console import Console
from safetensors.torch import load_file, save_file

from dpo_lite.compare.answers import compare_answers
from dpo_lite.compare.lockstep import Sampling
from dpo_lite.errors import UserError
from dpo_lite.jobs import train as job
from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.model.choosing import true_token_logps
from dpo_lite.recipe import validate_recipe
from dpo_lite.report.run import answered
from dpo_lite.training.callbacks import RunRecorder
from dpo_lite.training.loaded import load_trained
from tests.model.small_models import random_examples

EXAMPLES = random_examples(3, 2)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    for split, numbers in {"train": range(16), "test": range(16, 20)}.items():
        rows = [
            {"prompt": f"cat {i}?", "chosen": f"the cat {i} sat", "rejected": f"the cat {i} ran"}
            for i in numbers
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(folder)


@pytest.fixture(scope="module")
def train(tiny_base, pairs, tmp_path_factory):
    """Train on the tiny base in one runs folder; keywords change the recipe."""
    folder = tmp_path_factory.mktemp("work") / "runs"

    def start(name, max_steps=3, **changes):
        values = {
            "model": {"base": tiny_base, "quantization": "none"},
            "adapter": {"r": 4, "alpha": 8},
            "data": {"train": pairs},
            "train": {"lr": 1e-2, "batch_size": 8, "max_steps": max_steps, "save_steps": 1},
            "eval": {"generate": 0},
            "run": {"folder": str(folder), "name": name},
        }
        for section, keys in changes.items():
            values[section] = values.get(section, {}) | keys if isinstance(keys, dict) else keys
        return job.start(validate_recipe(values, "test"), name, Console(quiet=True))

    return start


@pytest.fixture(scope="module")
def first(train):
    return train("first")


def logps(model):
    return true_token_logps(model, EXAMPLES)


def published(run, tiny_base):
    """The policy as anybody loads it: the bare base and the run's one adapter."""
    bare = load_base(load_recipe_model(tiny_base))
    return logps(PeftModel.from_pretrained(bare, str(run.adapter)).eval())


def load_recipe_model(tiny_base):
    from dpo_lite.recipe import ModelSection

    return ModelSection(base=tiny_base, quantization="none")


@pytest.mark.parametrize("reference", ["start", "base"])
@pytest.mark.parametrize("extra_r", [0, 3])
@pytest.mark.slow
def test_one_adapter_over_the_bare_base(train, first, tiny_base, reference, extra_r):
    name = f"second-{reference}-{extra_r}"
    run = train(
        name,
        model={"adapter": "first"},
        adapter={"extra_r": extra_r},
        reference=reference,
    )
    assert [p.name for p in run.adapter.iterdir() if p.suffix == ".safetensors"] == [
        "adapter_model.safetensors"
    ]
    config = json.loads((run.adapter / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4 + extra_r, 8 + 2 * extra_r)

    _, _, model = load_trained(run)
    with roles.policy(model):
        policy = logps(model)
    with roles.reference(model):
        held_to = logps(model)
    assert (published(run, tiny_base) - policy).abs().max() < 1e-4
    bare = logps(load_base(load_recipe_model(tiny_base)))
    expected = published(first, tiny_base) if reference == "start" else bare
    assert (held_to - expected).abs().max() < 1e-4
    assert (policy - held_to).abs().max() > 1e-2

    steps = [m for m in run.records("metrics.jsonl") if "loss" in m]
    if reference == "start":
        assert steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    else:  # it starts ahead of the base
        assert steps[0]["loss"] < 0.69


@pytest.mark.slow
def test_what_a_policy_said_at_its_start_stands_beside_the_bases_answers(train, first):
    """Held to the bare base, a run is not credited with what its adapter had learned before."""
    asked = {"prompts": ["cat 3?"], "generate": 2, "max_new_tokens": 4}
    run = train("apart", 1, model={"adapter": "first"}, reference="base", eval=asked)
    samples = run.records("samples.jsonl")
    assert [s["when"] for s in samples] == ["before"] * 3 + ["start"] * 3 + ["after"] * 3
    said = {s["when"]: s["answer"] for s in samples if s["set"] == "prompts"}
    sampling = Sampling(max_new_tokens=4, temperature=0)
    folder = run.path.parent
    ((_, answers),) = compare_answers(first, ["reference", "policy"], ["cat 3?"], sampling, folder)
    assert [said["before"], said["start"]] == [answer.text for answer in answers]
    (prompt, given), *_ = answered(run)
    assert prompt == "cat 3?"
    assert list(given) == ["reference", "start", "policy"]
    assert f"- start: {said['start']}" in (run.path / "report.md").read_text()
    job.evaluate_again(run, Console(quiet=True))
    assert run.records("samples.jsonl") == samples

    without = [s for s in samples if s["when"] != "start"]  # a run of an older version
    (run.path / "samples.jsonl").write_text("".join(json.dumps(s) + "\n" for s in without))
    job.evaluate_again(run, Console(quiet=True))
    assert list(answered(run)[0][1]) == ["reference", "policy"]


def test_fresh_ranks_start_where_the_adapter_is(first, tiny_base):
    base = load_base(load_recipe_model(tiny_base))
    model = roles.continue_policy(base, str(first.adapter), "base", extra_r=3)
    assert (logps(model) - published(first, tiny_base)).abs().max() < 1e-4
    assert {p.dtype for p in roles.trainable_parameters(model)} == {torch.float32}


@pytest.mark.slow
def test_a_run_keeps_what_it_started_from(train, first, tiny_base, monkeypatch):
    """Stopped, its start deleted, resumed: the reference is still the same."""
    copy = shutil.copytree(first.path, first.path.parent / "gone")
    honest = RunRecorder.on_step_end

    def stop_at_one(self, args, state, control, **kwargs):
        if state.global_step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return honest(self, args, state, control, **kwargs)

    monkeypatch.setattr(RunRecorder, "on_step_end", stop_at_one)
    run = train("third", model={"adapter": "gone"})
    assert run.status()["state"] == "stopped"
    monkeypatch.undo()
    shutil.rmtree(copy)
    job.resume(run, Console(quiet=True))
    assert run.status()["state"] == "finished"
    whole = train("whole", model={"adapter": "first"})
    for name, tensor in load_file(whole.adapter / "adapter_model.safetensors").items():
        found = load_file(run.adapter / "adapter_model.safetensors")[name]
        assert torch.equal(found, tensor), name
    _, _, model = load_trained(run)
    with roles.reference(model):
        assert (logps(model) - published(first, tiny_base)).abs().max() < 1e-4


def spoiled(first, tmp_path, change):
    folder = tmp_path / "adapter"
    shutil.copytree(first.adapter, folder)
    file = folder / "adapter_model.safetensors"
    save_file(change(load_file(file)), file)
    return str(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {k.replace("layers.1", "layers.7"): v for k, v in t.items()}, "does not fit"),
        (lambda t: {k: v for k, v in t.items() if "layers.0" in k}, "does not fit this base"),
        (lambda t: {k: torch.cat([v, v], 1) for k, v in t.items()}, "does not load on this base"),
    ],
    ids=["other layers", "half of them", "other sizes"],
)
@pytest.mark.parametrize("extra_r", [0, 2])
def test_an_adapter_of_another_base(first, tiny_base, tmp_path, change, message, extra_r):
    base = load_base(load_recipe_model(tiny_base))
    with pytest.raises(UserError, match=message):
        roles.continue_policy(base, spoiled(first, tmp_path, change), "start", extra_r=extra_r)
