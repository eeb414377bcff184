"""The reference cache: the same training for less, and never a number that is not this model's."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from dpo_lite.data.cache_versions import SCORING
from dpo_lite.jobs import train as job
from dpo_lite.model import identity, roles
from dpo_lite.model.base import load_base
from dpo_lite.recipe import AdapterSection, ModelSection, validate_recipe
from dpo_lite.training.method import Objective
from dpo_lite.training.reference_cache import (
    ReferenceCache,
    cache_facts,
    open_cache,
    response_keys,
)
from dpo_lite.training.update import evaluate_examples, update_gradient
from tests.model.small_models import random_examples, small_model

DPO = Objective("sigmoid", 0.5, "forest")


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    small_model("llama", hidden_size=64).save_pretrained(folder)
    return folder


@pytest.fixture
def model(base_folder):
    """A policy that has moved away from its reference."""
    base = load_base(ModelSection(base=str(base_folder), quantization="none"))
    model = roles.add_policy(base, AdapterSection(r=4, alpha=8), seed=0).train()
    with torch.no_grad():
        for parameter in roles.trainable_parameters(model):
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


@pytest.fixture
def passes(monkeypatch):
    """A list that grows with every forward pass of the reference."""
    found = []
    honest = roles.reference

    def counted(model):
        found.append(1)
        return honest(model)

    monkeypatch.setattr(roles, "reference", counted)
    return found


def recipe_for(folder, **changes):
    values = {
        "model": {"base": str(folder), "quantization": "none"},
        "data": {"train": "unused"},
        **changes,
    }
    return validate_recipe(values, "test")


def gradient(model, examples, references=None, objective=DPO, budget=60):
    model.zero_grad(set_to_none=True)
    outcome = update_gradient(model, examples, objective, budget, references)
    return outcome, torch.cat([p.grad.flatten() for p in roles.trainable_parameters(model)])


def fixed(*logps):
    return lambda: torch.tensor(logps)


def never():
    raise AssertionError("the reference was computed again")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["forest", "separate", "plain"])
def test_same_losses_and_gradients(model, tmp_path, passes, way):
    objective = Objective("plackett_luce", 0.5, way)
    examples = random_examples(8, 3)
    plain, expected = gradient(model, examples, None, objective)
    micro_batches = len(passes)
    assert micro_batches > 1
    references = ReferenceCache(tmp_path)
    first, found = gradient(model, examples, references, objective)
    assert len(passes) == 2 * micro_batches
    assert torch.equal(first.losses, plain.losses)
    assert torch.equal(found, expected)

    # The second epoch, split otherwise; an evaluation; and another process: nothing is computed.
    for known in (references, ReferenceCache(tmp_path)):
        again, found = gradient(model, examples[::-1], known, objective, budget=10_000)
        held_out = evaluate_examples(model, examples, objective, 90, references=known)
        assert len(passes) == 2 * micro_batches
        assert torch.allclose(again.losses.flip(0), plain.losses, atol=1e-5)
        assert (found - expected).norm() / expected.norm() < 1e-5
        assert torch.equal(held_out.reference_last, plain.reference_last)
        assert torch.allclose(held_out.losses, plain.losses, atol=1e-5)


def test_one_new_response_computes_its_batch(model, tmp_path, passes):
    references = ReferenceCache(tmp_path)
    examples = random_examples(4, 2)
    gradient(model, examples[:2], references, budget=10_000)
    gradient(model, examples, references, budget=10_000)
    assert len(passes) == 2
    gradient(model, examples, references, budget=1)
    assert len(passes) == 2


# What a number is kept under: every ingredient changes it.


def facts_of(folder, model, objective=DPO, **section):
    return cache_facts(recipe_for(folder, model={"base": str(folder), **section}), model, objective)


def test_quantisation_dtype_and_way_change_the_key(base_folder, model):
    variants = [
        facts_of(base_folder, model, quantization="none"),
        facts_of(base_folder, model, quantization="nf4"),
        facts_of(base_folder, model, Objective("sigmoid", 0.5, "forest", torch.bfloat16)),
        facts_of(base_folder, model, Objective("sigmoid", 0.5, "separate")),
        facts_of(base_folder, model, Objective("sigmoid", 0.5, "plain")),
    ]
    assert len({json.dumps(facts) for facts in variants}) == len(variants)


def test_what_a_sweep_changes_keeps_the_key(base_folder, model):
    expected = open_cache(recipe_for(base_folder), model, DPO).folder
    recipe = recipe_for(base_folder, train={"lr": 1e-3, "beta": 0.3, "loss": "ipo", "seed": 1})
    found = open_cache(recipe, model, Objective("ipo", 0.3, "forest", sft_weight=1.0))
    assert found.folder == expected
    off = recipe_for(base_folder, train={"reference_cache": False})
    assert open_cache(off, model, DPO) is None


def test_the_content_of_a_local_base_changes_the_key(tmp_path, model):
    def identity_of(name, scale=1.0, theta=10_000.0):
        folder = tmp_path / name
        small_model("llama", hidden_size=64).save_pretrained(folder)
        weights = load_file(folder / "model.safetensors")
        weights["model.norm.weight"] *= scale
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        config = json.loads((folder / "config.json").read_text())
        config["rope_parameters"]["rope_theta"] = theta
        (folder / "config.json").write_text(json.dumps(config))
        return facts_of(folder, model)["base"]

    first = identity_of("a")
    assert identity_of("b") == first  # the same weights elsewhere
    assert identity_of("a", scale=1.001) != first  # other weights of the same size and name
    assert identity_of("a", theta=500_000.0) != first
    assert identity_of("a") == first


def test_the_hash_of_unchanged_weights_is_not_computed_again(base_folder, model, monkeypatch):
    expected = facts_of(base_folder, model)["base"]
    monkeypatch.setattr(identity, "_file_hash", None)
    section = ModelSection(base=str(base_folder))
    assert identity.base_identity(section, model.get_base_model().config) == expected


def test_id_and_commit_of_a_hub_base_change_the_key(model, base_folder):
    def of(base, commit):
        return identity.base_identity(ModelSection(base=base), SimpleNamespace(_commit_hash=commit))

    found = [of("org/one", "aaaa"), of("org/two", "aaaa"), of("org/one", "bbbb")]
    assert len({json.dumps(each) for each in found}) == 3
    assert of("org/one", None) is None  # whatever this base is now, nothing is kept
    said = []
    assert open_cache(recipe_for("org/one"), model, DPO, said.append) is None
    assert "computed every time" in said[0]


@pytest.mark.slow
def test_the_start_adapter_changes_the_key(base_folder, model, tmp_path):
    """Its presence, its weights and its scale; not the folder that it lies in."""

    def started(name):
        base = load_base(ModelSection(base=str(base_folder), quantization="none"))
        return facts_of(base_folder, roles.continue_policy(base, str(tmp_path / name), "start"))

    def save(name):
        roles.save_policy(model, tmp_path / name, str(base_folder), None)

    save("a")
    save("b")
    assert started("a") == started("b")
    file = tmp_path / "b" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"lora_alpha": 9}))
    with torch.no_grad():
        roles.trainable_parameters(model)[0][0, 0] += 1e-3
    save("c")
    found = [facts_of(base_folder, model), started("a"), started("b"), started("c")]
    assert len({json.dumps(facts) for facts in found}) == 4


def test_versions_change_the_key(base_folder, model, monkeypatch):
    expected = facts_of(base_folder, model)
    monkeypatch.setattr(identity, "version", lambda name: "0.0")
    assert facts_of(base_folder, model) != expected
    monkeypatch.undo()
    monkeypatch.setattr(identity, "SCORING", replace(SCORING, version=SCORING.version + 1))
    assert facts_of(base_folder, model) != expected


def test_every_id_and_where_the_response_begins_change_its_key():
    def key(prompt, response):
        (found,) = response_keys([{"prompt_ids": prompt, "response_ids": [response]}])
        return found

    found = [
        key([1, 2, 3], [4, 5]),
        key([1, 2, 9], [4, 5]),
        key([1, 2, 3], [4, 9]),
        key([1, 2], [3, 4, 5]),
        key([1, 2, 3, 4], [5]),
        key([1, 2, 3], [5, 4]),
        key([1, 2, 3], [4, 5, 0]),
        key([11, 2, 3], [4, 5]),
    ]
    assert len(set(found)) == len(found)
    pair = {"prompt_ids": [1, 2, 3], "response_ids": [[9], [4, 5]]}
    assert response_keys([pair])[1] == found[0]  # whatever it is compared with


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_positions_that_depend_on_the_batch_are_not_cached(base_folder, model, kind):
    model.get_base_model().config.rope_parameters = {"rope_type": kind, "rope_theta": 1e4}
    assert facts_of(base_folder, model) is None


# Files that are not whole.


# Whole runs.


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DPO_LITE_CACHE", str(tmp_path / "cache"))
    rows = [
        {"prompt": f"cat {i}?", "chosen": f"cat {i} sat", "rejected": f"cat {i} ran"}
        for i in range(28)
    ]
    for split, part in {"train": rows[:24], "test": rows[24:]}.items():
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in part))
    return tmp_path


def run_recipe(base, folder, **train):
    options = {"lr": 1e-3, "batch_size": 8, "epochs": 2, "save_steps": 2} | train
    return validate_recipe(
        {
            "model": {"base": base, "quantization": "none"},
            "data": {"train": str(folder)},
            "train": options,
            "eval": {"generate": 0},
            "run": {"folder": str(folder / "runs")},
        },
        "test",
    )


def losses(run):
    return [m["loss"] for m in run.records("metrics.jsonl") if "loss" in m]


@pytest.mark.slow
def test_runs_compute_the_reference_once(tiny_base, own_folder, monkeypatch):
    """Three updates of new rows and the held-out set; from then on nothing, whatever the run."""
    console = Console(quiet=True)
    calls = []
    honest = ReferenceCache.logps

    def counted(self, examples, compute):
        return honest(self, examples, lambda: calls.append(len(examples)) or compute())

    monkeypatch.setattr(ReferenceCache, "logps", counted)
    first = job.start(run_recipe(tiny_base, own_folder), "first", console)
    assert sum(calls) == 28
    calls.clear()
    job.start(run_recipe(tiny_base, own_folder, beta=0.3, loss="ipo", seed=1), "sweep", console)
    job.evaluate_again(first, console)
    assert calls == []

    plain = job.start(run_recipe(tiny_base, own_folder, reference_cache=False), "plain", console)
    assert losses(first) == pytest.approx(losses(plain), abs=1e-5)


@pytest.mark.slow
def test_a_resumed_run_computes_what_it_has_not_met(tiny_base, own_folder, monkeypatch):
    console = Console(quiet=True)
    honest = job.RunRecorder.on_step_end

    def stop_at_four(self, args, state, control, **kwargs):
        self.stop_asked = state.global_step == 4
        return honest(self, args, state, control, **kwargs)

    monkeypatch.setattr(job.RunRecorder, "on_step_end", stop_at_four)
    run = job.start(run_recipe(tiny_base, own_folder), "part", console)
    assert run.status()["state"] == "stopped"
    monkeypatch.undo()
    monkeypatch.setenv("DPO_LITE_CACHE", str(own_folder / "cache"))

    calls = []
    honest = ReferenceCache.logps

    def counted(self, examples, compute):
        return honest(self, examples, lambda: calls.append(len(examples)) or compute())

    monkeypatch.setattr(ReferenceCache, "logps", counted)
    job.resume(run, console)
    assert run.status()["state"] == "finished"
    assert len(losses(run)) == 6
    assert calls == [4]  # the held-out set alone, which the stopped run had not come to
