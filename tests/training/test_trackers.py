"""What TensorBoard and trackio have of a run, read back by their own readers."""

import json
import sqlite3
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console
from transformers import TrainerState

from dpo_lite.errors import UserError
from dpo_lite.jobs import train as job
from dpo_lite.recipe import load_recipe, validate_recipe
from dpo_lite.runs.folder import create_run
from dpo_lite.training import trackers
from dpo_lite.training.trackers import Settings, Trackers, check_trackers, held_out_numbers
from tests.cats import write_cats


def recipe_for(base, folder, *names, **keys):
    write_cats(folder / "cats", train=range(16), test=range(16, 20))
    values = {
        "model": {"base": base},
        "data": {"train": str(folder / "cats")},
        "train": {"lr": 1e-3, "batch_size": 8, "max_steps": 3, "eval_steps": 2},
        "eval": {"generate": 2, "max_new_tokens": 4},
        "run": {"folder": str(folder / "runs"), "name": "one", "report_to": list(names)},
    }
    return validate_recipe(values | keys, "test")


@pytest.mark.slow
def test_they_have_what_the_run_has(tiny_base, tmp_path, monkeypatch):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trackio = pytest.importorskip("trackio")
    monkeypatch.setattr(trackio.utils, "TRACKIO_DIR", tmp_path / "trackio")
    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "trackio")
    (tmp_path / "cats").mkdir()
    recipe = recipe_for(tiny_base, tmp_path, "tensorboard", "trackio")
    run = job.start(recipe, "one", Console(quiet=True))
    written = [line for line in run.records("metrics.jsonl") if "loss" in line]

    board = reader.EventAccumulator(str(run.path / "tensorboard"))
    board.Reload()
    losses = [event.value for event in board.Scalars("train/loss")]
    assert losses == pytest.approx([line["loss"] for line in written])
    margins = [event.value for event in board.Scalars("train/rewards/margins")]
    assert margins == pytest.approx([line["rewards/margins"] for line in written])
    (name,) = json.loads((run.path / "results.json").read_text())["sets"]
    assert {event.step for event in board.Scalars(f"eval/{name}_loss")} == {2, 3}
    (said,) = board.Tensors("args/text_summary")
    assert json.loads(said.tensor_proto.string_val[0])["train"]["lr"] == 1e-3

    with sqlite3.connect(tmp_path / "trackio" / f"{trackers.PROJECT}.db") as kept:
        rows = [json.loads(row[0]) for row in kept.execute("select metrics from metrics")]
    assert [row["train/loss"] for row in rows if "train/loss" in row] == pytest.approx(losses)


def test_a_missing_package_is_a_sentence_with_its_install_line(tiny_base, tmp_path, monkeypatch):
    (tmp_path / "cats").mkdir()
    recipe = recipe_for(tiny_base, tmp_path, "swanlab")
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="swanlab is not installed; `pip install swanlab`"):
        check_trackers(recipe)
    with pytest.raises(UserError, match=r"run.report_to"):
        load_recipe("quickstart", ["run.report_to=[aim]"])


def test_one_that_fails_is_told_once_and_left_out(tiny_base, tmp_path, monkeypatch):
    (tmp_path / "cats").mkdir()
    recipe = recipe_for(tiny_base, tmp_path, "wandb")
    said, heard = [], []

    class OfflineCallback:
        def on_train_begin(self, args, state, control, **more):
            assert args.to_sanitized_dict()["train.lr"] == 1e-3
            assert args.run_name == "one"

        def on_log(self, args, state, control, logs, **more):
            heard.append(logs)
            raise ConnectionError("no route to host\nand more")

    kinds = [OfflineCallback]
    monkeypatch.setattr(trackers, "get_reporting_integration_callbacks", lambda names: kinds)
    run = create_run(tmp_path / "runs", "one", "one")
    told = Trackers(run, recipe, SimpleNamespace(device=None), said.append)
    told.begin(SimpleNamespace(), TrainerState())
    for number in range(3):
        told.log({"loss": number})
    told.end()
    assert heard == [{"loss": 0}]
    assert said == ["Offline is left out from now on: no route to host"]


def test_nobody_is_told_of_a_run_that_names_no_tracker(tiny_base, tmp_path, monkeypatch):
    (tmp_path / "cats").mkdir()
    recipe = recipe_for(tiny_base, tmp_path)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    told = Trackers(create_run(tmp_path / "runs", "one", "one"), recipe, SimpleNamespace(), print)
    told.begin(None, TrainerState())
    told.log({"loss": 1.0})
    told.end()
    assert told.callbacks == []


def test_what_is_held_out_goes_by_its_set():
    results = {"sets": {"cats": {"loss": 0.5, "generation": {"policy": 0.75}, "counts": {"n": 4}}}}
    assert held_out_numbers(results) == {"eval_cats_loss": 0.5, "eval_cats_generation": 0.75}


def test_settings_are_the_recipe_and_publish_nothing(tiny_base, tmp_path):
    (tmp_path / "cats").mkdir()
    recipe = recipe_for(tiny_base, tmp_path, "trackio")
    run = create_run(tmp_path / "runs", "one", "one")
    settings = Settings(run, recipe, SimpleNamespace(learning_rate=3.0))
    assert settings.to_dict()["model"]["base"] == tiny_base
    assert all(isinstance(v, str | int | float) for v in settings.to_sanitized_dict().values())
    assert settings.trackio_static_space_id is False
    assert settings.learning_rate == 3.0
