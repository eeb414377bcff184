"""The product on a card that is not there: devices, waits, kernels and bytes, as they would be.

A library of a few lines (backend.cpp) lets a build of torch for CPUs run fake tensors of a CUDA
card, so the code that only a card reaches runs here, autograd's threads included. No number is
computed. The scenes (tests/shadow/scenes.py) are played in a process of their own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shadow.build import build, cannot

ROOT = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def backend(tmp_path_factory):
    """The compiled library; without a compiler nothing is tried."""
    if why := cannot():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("shadow")
    done = build(folder)
    if "Python.h" in done.stderr or "file not found" in done.stderr:
        pytest.skip(f"headers are missing: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    return folder / "backend.so"


@pytest.fixture(scope="module")
def see(backend):
    """Run a module in the shadow of a card; returns its facts."""

    def run(module, *names):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", f"tests.shadow.{module}", *names],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=os.environ | {"SHADOW_BACKEND": str(backend), "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


SCENES = ("updates", "turing", "decoding", "memory_8b", "before_the_plan", "runs_out")


@pytest.fixture(scope="module")
def played(see):
    """What was seen in each scene."""
    return see("scenes", *SCENES)


def test_the_shadow_sees_what_a_card_would(see):
    assert see("itself") == {
        "one tensor": 4096,
        "kernels": {"mul": 2, "sum": 1, "ones_like": 1},
        "gradient": "cuda:0",
        "peak": 2 * 4096 + 2 * 512,  # itself and its gradient, the sum and that of it
        "left": 4096,
        "mixed": True,
        "waits": 2,
        "remembered": [2, 3],
        "full": True,
        "read until copied": True,
        "cpu": 2.0,
    }


# Kernels of a micro-batch by task: outside of the layers, and of each layer (its passes forward and
# back, of the reference too). They may only fall.
KERNELS = {"dpo": (73, 211), "sft": (30, 180), "reward": (56, 180), "ppo": (63, 180)}
# How often the host waits for the card in a micro-batch, to read what it logs. Never in a layer.
WAITS = {"dpo": 5, "sft": 3, "reward": 3, "ppo": 2}


def test_an_update_mixes_no_devices_and_launches_no_more_than_it_did(played):
    """Anything of the host's in an operation of the card would have ended the scene."""
    found = played["updates"]
    for task, (outside, each) in KERNELS.items():
        one, two = (found[f"{task} {layers}"] for layers in (1, 2))
        assert two["kernels"] - one["kernels"] <= each, task
        assert 2 * one["kernels"] - two["kernels"] <= outside, task
        assert one["waits"] == two["waits"], task
        assert sum(one["waits"].values()) <= WAITS[task], task
        assert "elsewhere" not in one["waits"]


def test_a_card_without_bf16_of_its_own_computes_in_fp16(played):
    """Masters stay fp32, and settling the gradient asks the card once."""
    assert played["turing"] == {
        "dtype": "torch.float16",
        "way": "forest",
        "settled": True,
        "waits": 1,
        "all": ["torch.float16", "torch.float32"],
    }


# Launches of a token whose step is recorded, however many layers there are: of answers to prompts,
# and of two models beside one another, which are shown while they come.
TOKEN, BESIDE = 28, 37


def test_a_drawn_tokens_step_is_one_launch(played):
    """Beside it are the mask and the choice of the token; nothing in a step waits for the card, or
    it could not be recorded; and the memory of the recorded one is given back."""
    for drawn, launches, waits in zip(played["decoding"], (TOKEN, BESIDE), (1, 2), strict=True):
        assert drawn["launched"] <= launches
        assert drawn["waited"] == waits  # whether all have ended, and what is to be shown
        assert drawn["stays"] == 0


@pytest.mark.long
def test_layers_add_nothing_to_a_recorded_step(see):
    found = see("scenes", "decoding_by_layer")["decoding_by_layer"]
    assert found["True 1"] == found["True 2"] <= TOKEN
    assert found["False 2"] - found["False 1"] > TOKEN


def is_planned(scene):
    for how, (measured, planned) in scene.items():
        assert planned == pytest.approx(measured, rel=0.05), how


def test_the_peak_of_an_update_is_the_plans(played):
    """By the lifetime of every tensor, for all layers, nothing recomputed and all of it."""
    is_planned(played["memory_8b"])


@pytest.mark.long
def test_the_peak_of_a_small_models_update_is_the_plans(see):
    is_planned(see("scenes", "memory_half_b")["memory_half_b"])


@pytest.mark.long
def test_the_peak_of_a_long_row_in_tiles_is_the_plans(see):
    """An example of 12,288 tokens: three tiles, the layers' inputs on the card or on the host."""
    found = see("scenes", "long_rows")["long_rows"]
    for how, (measured, planned) in found.items():
        assert planned == pytest.approx(measured, rel=0.1), how
    assert found["offload"][0] < found["layers"][0] - 2.5 * 2**30  # 30 inputs of 96 MiB


def test_the_preflight_needs_less_than_an_update_and_leaves_nothing(played):
    """Of examples of 3,072 tokens, every layer of the update recomputed."""
    found = played["before_the_plan"]
    assert found["left"] == 0
    assert found["scores"] < found["update"]
    assert found["costs"] < found["update"]


def test_memory_that_runs_out_is_all_given_back(played):
    found = played["runs_out"]
    assert {where for where, _ in found.values()} == {"forward", "backward"}
    assert {how: left for how, (_, left) in found.items()} == dict.fromkeys(found, 0)


@pytest.mark.long  # its small form runs in the default tests
def test_the_kit_that_measures_a_card_goes_through_on_one(see):
    """Its parts that are about memory (benchmarks/gpu): by bytes they are right, and nothing stays
    of an update that ran out of memory in either pass, nor of a preflight."""
    found = see("kit", "environment", "out-of-memory", "peaks")
    parts = [part.items() for part in found.values()]
    assert [what for part in parts for what, (_, passed) in part if passed is False] == []
    held = [what for what, (_, passed) in found["peaks"].items() if passed]
    assert held == ["weights", "adapter and optimiser", "activations", "together"]
    stays = [value for what, (value, _) in found["out-of-memory"].items() if "bytes" in what]
    assert stays == [0, 0, 0]
