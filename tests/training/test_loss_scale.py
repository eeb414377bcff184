"""fp16, tried on the CPU: no gradient is lost, one that overflows moves nothing, resuming too."""

import json
import os
import shutil
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from dpo_lite.errors import UserError
from dpo_lite.files import read_json, write_json
from dpo_lite.jobs import train as job
from dpo_lite.model import base, roles
from dpo_lite.model.choosing import choose_way
from dpo_lite.model.precision import COMPUTED_IN, dtype_of, to_fp32
from dpo_lite.model.saved_adapter import add_saved
from dpo_lite.recipe import AdapterSection, ModelSection, PPOSection, validate_recipe
from dpo_lite.runs.folder import Run
from dpo_lite.training import loss_scale, ppo, ppo_learning, trainer
from dpo_lite.training.callbacks import RunRecorder
from dpo_lite.training.loss_scale import LossScale
from dpo_lite.training.method import Objective
from dpo_lite.training.update import update_gradient
from tests.cats import write_cats
from tests.model.small_models import random_examples, small_model

DPO = Objective("sigmoid", 0.5, "forest")
OBJECTIVES = {
    "dpo": DPO,
    "sft": replace(DPO, task="sft", loss="nll"),
    "reward": replace(DPO, task="reward", centering=0.01),
}


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    small_model("llama", hidden_size=128, intermediate_size=128).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def in_fp16(monkeypatch):
    """Bases are loaded as on a card without bf16 of its own."""
    monkeypatch.setattr(base, "compute_dtype", lambda device: torch.float16)


def load(base_folder, quantization="none", head=False):
    section = ModelSection(base=base_folder, quantization=quantization)
    model = roles.add_policy(base.load_base(section), AdapterSection(r=4, alpha=8), 0, head)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in roles.trainable_parameters(model):
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.train()


def gradient(model, objective, scale=1.0):
    """The gradient as the optimiser sees it."""
    model.zero_grad(set_to_none=True)
    outcome = update_gradient(model, random_examples(6, 2), objective, 60, scale=scale)
    trained = roles.trainable_parameters(model)
    assert LossScale(scale).settle(trained)
    return outcome.loss, torch.cat([p.grad.flatten() for p in trained])


@pytest.mark.parametrize("task", OBJECTIVES)
def test_a_scaled_gradient_is_the_gradient(base_folder, task):
    """In fp32 to the last bit, and the loss that is told is not scaled."""
    model = load(base_folder, head=task == "reward")
    loss, plain = gradient(model, OBJECTIVES[task])
    told, scaled = gradient(model, OBJECTIVES[task], 2.0**16)
    assert told == loss
    assert torch.equal(scaled, plain)
    assert plain.norm() > 0


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_in_fp16_small_gradients_survive_by_the_scale(base_folder, quantization, in_fp16):
    """A loss ten thousand times smaller: without a scale most of its gradient is gone."""
    model = load(base_folder, quantization)
    assert dtype_of(model) == torch.float16
    small = replace(DPO, beta=5e-5, dtype=torch.float16)
    _, scaled = gradient(model, small, 2.0**16)
    _, bare = gradient(model, small)
    to_fp32(model)  # the same weights
    _, exact = gradient(model, replace(small, dtype=torch.float32))
    assert (scaled - exact).norm() / exact.norm() < 0.01
    assert (bare - exact).norm() / exact.norm() > 0.1


def test_ppos_gradients_are_scaled_and_a_step_that_overflows_is_left_out(base_folder):
    model = load(base_folder)
    section = PPOSection(answers=2, max_new_tokens=4, estimator="rloo")
    torch.manual_seed(0)
    drawn = ppo.draw_answers(model, random_examples(3, 1), section, {2}, at_once=4)
    rollout = ppo.judge_answers(
        model, drawn, lambda examples, budget: ppo.Earned(torch.randn(6)), {2}, DPO, budget=60
    )
    earned = ppo_learning.credit(rollout, section, 0.1)
    found = []
    for scale in (1.0, 2.0**16):
        model.zero_grad(set_to_none=True)
        ppo_learning.minibatch_gradient(model, rollout, range(3), earned, section, DPO, 60, scale)
        assert LossScale(scale).settle(roles.trainable_parameters(model))
        found.append([p.grad.clone() for p in roles.trainable_parameters(model)])
    assert all(map(torch.equal, *found))

    trained = roles.trainable_parameters(model)
    before = [p.detach().clone() for p in trained]
    optimizer, stepped = torch.optim.AdamW(trained, lr=0.1, weight_decay=0.1), []

    def overflows(places):
        trained[0].grad = torch.full_like(trained[0], float("inf"))
        return {"loss": 0.5}

    scale = LossScale()
    ppo_learning.learn(3, 2, 1, overflows, optimizer, 1.0, lambda: stepped.append(1), scale)
    assert all(map(torch.equal, before, trained))
    assert (not stepped, not optimizer.state, scale.skipped) == (True, True, 2)


def test_the_scale_goes_down_at_once_and_up_slowly(monkeypatch):
    monkeypatch.setattr(loss_scale, "GROWTH", 3)
    parameter, scale = torch.nn.Parameter(torch.zeros(2)), LossScale(4.0)
    seen = []
    for value in (1.0, float("inf"), 1.0, float("nan"), 1.0, 1.0, 1.0):
        parameter.grad = torch.tensor([value, 1.0])
        taken = scale.settle([parameter])
        assert taken == (parameter.grad is not None)
        seen.append((scale.scale, scale.skipped))
    assert seen == [(4, 0), (2, 1), (2, 1), (1, 2), (1, 2), (1, 2), (2, 2)]
    again = LossScale()
    again.load(json.loads(json.dumps(scale.state())))
    assert again == scale
    parameter.grad = torch.tensor([float("inf"), 1.0])
    with pytest.raises(UserError, match="however the loss is scaled"):
        LossScale(1.0).settle([parameter])


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_a_model_that_fp16_does_not_hold_computes_in_fp32(tmp_path, quantization, in_fp16):
    """Its hidden states pass 65,504; in fp32 they are as right as any."""
    model = small_model("llama", hidden_size=128, intermediate_size=128)
    with torch.no_grad():
        for name, factor in {"gate_proj": 30, "up_proj": 30, "down_proj": 1000}.items():
            getattr(model.model.layers[0].mlp, name).weight *= factor
    model.save_pretrained(tmp_path)
    model = load(str(tmp_path), quantization)
    choice = choose_way(model, random_examples(2, 2))
    assert choice.way == "forest"
    assert choice.reason.startswith("in fp32, as fp16 does not hold its numbers")
    assert dtype_of(model) == torch.float32
    _, found = gradient(model, DPO)
    assert found.isfinite().all()


@pytest.mark.parametrize(
    ("quantization", "place"), [("nf4", "adapter"), ("none", "checkpoints/checkpoint-4")]
)
def test_a_runs_adapter_is_worn_in_the_numbers_that_it_was_trained_in(
    base_folder, tmp_path, quantization, place, in_fp16
):
    """fp32 where fp16 did not do; a card that has bf16 keeps it, and other runs keep fp16."""
    roles.save_policy(load(base_folder, quantization), tmp_path / place, base_folder, None)
    section = ModelSection(base=base_folder, quantization=quantization)
    worn = {}
    for said in ("float32", "float16", None):
        facts = {"data": {"fingerprint": "", "examples": 1}}
        write_json(tmp_path / "manifest.json", facts | ({COMPUTED_IN: said} if said else {}))
        worn[said] = roles.load_policy(base.load_base(section), tmp_path / place)
        assert dtype_of(worn[said]) == (torch.float32 if said == "float32" else torch.float16)
    _, found = gradient(worn["float32"], DPO)
    assert found.isfinite().all()
    write_json(tmp_path / "manifest.json", facts | {COMPUTED_IN: "float32"})
    in_bf16 = base.load_base(section).to(torch.bfloat16) if quantization == "none" else None
    if in_bf16 is not None:
        assert dtype_of(roles.load_policy(in_bf16, tmp_path / place)) == torch.bfloat16
    # Beside others on one base, it is the base that is turned.
    shared = roles.load_policy(base.load_base(section), _elsewhere(tmp_path, place))
    assert dtype_of(shared) == torch.float16
    add_saved(shared, tmp_path / place, "column1", head=False, trained=False)
    assert dtype_of(shared) == torch.float32


def test_numbers_that_changed_on_the_way_are_recorded(base_folder, tmp_path, in_fp16):
    run, model = Run(tmp_path), load(base_folder)
    facts = {"data": {"fingerprint": "", "examples": 1}, COMPUTED_IN: "float16", "seed": 3}
    write_json(tmp_path / "manifest.json", facts)
    to_fp32(model)
    job._record_numbers(run, SimpleNamespace(model=model))
    assert run.manifest() == facts | {COMPUTED_IN: "float32"}


def _elsewhere(run, place):
    """The same adapter without its run."""
    return shutil.copytree(run / place, run / "a" / "b" / "c")


CARDS = {
    (8, 6): torch.bfloat16,
    (7, 5): torch.float16,
    (7, 0): torch.float16,
    (6, 1): torch.float32,
}


@pytest.mark.parametrize(("capability", "dtype"), CARDS.items())
def test_the_numbers_of_a_card(monkeypatch, capability, dtype):
    """Emulated bf16 does not count: a T4 says that it has some."""
    properties = type("Properties", (), {"major": capability[0], "minor": capability[1]})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert base.compute_dtype(torch.device("cuda")) == dtype


# --- whole runs ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    write_cats(folder, train=range(24), test=range(24, 28))
    return str(folder)


@pytest.fixture
def train(tiny_base, pairs, tmp_path, in_fp16, monkeypatch):
    """A run of four updates in fp16, of which the second overflows."""
    real = trainer.PreferenceTrainer.training_step

    def gradient(model, inputs, *others):
        outcome = update_gradient(model, inputs, *others)
        if gradient.trainer.state.global_step == 1:
            roles.trainable_parameters(model)[0].grad[0, 0] = float("inf")
        return outcome

    def training_step(self, *arguments, **options):
        gradient.trainer = self
        return real(self, *arguments, **options)

    monkeypatch.setattr(trainer.PreferenceTrainer, "training_step", training_step)
    monkeypatch.setattr(trainer, "update_gradient", gradient)

    def start(name):
        values = {
            "model": {"base": tiny_base},
            "data": {"train": pairs},
            "train": {"lr": 1e-3, "batch_size": 8, "max_steps": 4, "save_steps": 1},
            "eval": {"generate": 0},
            "run": {"folder": str(tmp_path), "name": name},
        }
        recipe = validate_recipe(values, "test")
        recipe.train.weight_decay = 0.1
        return job.start(recipe, name, Console(quiet=True))

    return start


@pytest.mark.slow
def test_a_skipped_update_changes_nothing_and_is_counted(train, monkeypatch):
    """Neither weights nor moments nor the schedule; and what is resumed behind it is the same."""
    kept = {}

    def keep(self, args, state, control, **others):
        folder = self.run.checkpoints / f"checkpoint-{state.global_step}"
        kept[state.global_step] = (
            load_file(folder / "adapter_model.safetensors"),
            torch.load(folder / "optimizer.pt")["state"],
            torch.load(folder / "scheduler.pt")["last_epoch"],
            read_json(folder / trainer.SCALE_FILE),
        )

    with monkeypatch.context() as patch:
        patch.setattr(RunRecorder, "on_save", keep)
        whole = train("whole")
    (before, moments, place, _), (after, same, still, scale) = kept[1], kept[2]
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(
        torch.equal(moments[key][name], same[key][name]) for key in moments for name in moments[key]
    )
    assert (place, still, kept[3][2]) == (1, 1, 2)
    assert scale == {"scale": 2.0**15, "good": 0, "skipped": 1}
    assert not torch.equal(kept[3][0][next(iter(after))], after[next(iter(after))])
    assert whole.manifest()[COMPUTED_IN] == "float16"
    logged = [m for m in whole.records("metrics.jsonl") if "loss" in m]
    assert [m["skipped"] for m in logged] == [0, 1, 1, 1]
    assert [m["loss_scale"] for m in logged] == [2.0**16] + [2.0**15] * 3
    report = (whole.path / "report.md").read_text()
    assert "1 update changed nothing: the gradient was too large for fp16." in report

    def stop_at_two(self, args, state, control, **kwargs):
        if state.global_step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return honest(self, args, state, control, **kwargs)

    honest = RunRecorder.on_step_end
    with monkeypatch.context() as patch:
        patch.setattr(RunRecorder, "on_step_end", stop_at_two)
        part = train("part")
    assert part.status()["state"] == "stopped"
    job.resume(part, Console(quiet=True))
    last = part.checkpoints / "checkpoint-4"
    assert read_json(last / trainer.SCALE_FILE) == kept[4][3]
    for name, found in load_file(last / "adapter_model.safetensors").items():
        assert torch.equal(found, kept[4][0][name]), name
