"""What TensorBoard and trackio have of a run, read back by their own readers."""

import json
import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from transformers import TrainerState

from dpo_lite.errors import UserError
from dpo_lite.jobs import train as job
from dpo_lite.recipe import load_recipe, validate_recipe
from dpo_lite.runs.folder import create_run
from dpo_lite.training import trackers
from dpo_lite.training.tracker_media import answers_rows, markdown
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


def artifact_of(trackio, folder):
    trackio.init(project=trackers.PROJECT, name="reader", embed=False)
    trackio.use_artifact("one-adapter").download(folder)
    trackio.finish()
    return (Path(folder) / "adapter_model.safetensors").read_bytes()


@pytest.mark.slow
def test_they_have_what_the_run_has(tiny_base, tmp_path, monkeypatch):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trackio = pytest.importorskip("trackio")
    monkeypatch.setattr(trackio.utils, "TRACKIO_DIR", tmp_path / "trackio")
    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "trackio")
    monkeypatch.setattr("trackio.utils.ARTIFACTS_DIR", tmp_path / "trackio" / "artifacts")
    (tmp_path / "cats").mkdir()
    recipe = recipe_for(tiny_base, tmp_path, "tensorboard", "trackio")
    recipe.run.report_adapter, recipe.eval.sample_steps = True, 2
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
    tables = [row["eval/samples"]["_value"] for row in rows if "eval/samples" in row]
    assert [{line["step"] for line in table} for table in tables] == [{2}, {3}, {3}]
    for when, column in (("before", "reference"), ("after", "policy")):
        said = {s["prompt"]: s["answer"] for s in run.records("samples.jsonl") if s["when"] == when}
        assert {line["prompt"]: line[column] for line in tables[-1]} == said
    weights = (run.adapter / "adapter_model.safetensors").read_bytes()
    assert artifact_of(trackio, tmp_path / "taken") == weights


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
    assert said == ["wandb is left out from now on: no route to host"]


def test_nobody_is_told_of_a_run_that_names_no_tracker(tiny_base, tmp_path, monkeypatch):
    (tmp_path / "cats").mkdir()
    recipe = recipe_for(tiny_base, tmp_path)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    told = Trackers(create_run(tmp_path / "runs", "one", "one"), recipe, SimpleNamespace(), print)
    told.begin(None, TrainerState())
    told.log({"loss": 1.0})
    told.end()
    assert told.callbacks == {}


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


def finished(folder, name="one"):
    """A run with answers before, during and after, and an adapter."""
    run = create_run(folder / "runs", name, name)
    for when, step, answer in [
        ("before", {}, "a | b\n<b>"),
        ("during", {"step": 2}, "two"),
        ("during", {"step": 3}, "three"),
        ("after", {}, f"end of {name}"),
    ]:
        run.append("samples.jsonl", {"when": when, **step, "prompt": "Why?", "answer": answer})
    run.adapter.mkdir()
    (run.adapter / "adapter_model.safetensors").write_bytes(b"weights")
    (run.adapter / "optimizer.pt").write_bytes(b"stays at home")
    return run


def told_of(folder, base, tracker, *runs):
    """Each run told in turn, in one process as a sweep does; returns what was said."""
    (folder / "cats").mkdir()
    said = []
    for run in runs:
        recipe = recipe_for(base, folder, tracker)
        recipe.run.report_adapter = True
        told = Trackers(run, recipe, SimpleNamespace(device=None), said.append)
        told.begin(SimpleNamespace(resume_from_checkpoint=None), TrainerState(global_step=3))
        told.log({"loss": 0.5})
        told.answers()
        told.answers(last=True)
        told.adapter()
        told.end()
    return said


def test_rows_hold_each_answer_beside_the_reference():
    samples = [
        {"when": "before", "set": "cats", "prompt": "Why?", "answer": "reference"},
        {"when": "during", "set": "prompts", "step": 2, "prompt": "Why?", "answer": "two"},
        {"when": "during", "set": "prompts", "step": 4, "prompt": "Why?", "answer": "four"},
        {"when": "after", "set": "cats", "prompt": "Why?", "answer": "after"},
    ]
    row = {"step": 4, "prompt": "Why?", "reference": "reference", "policy": "four"}
    assert answers_rows(samples, 4) == [row]
    assert answers_rows(samples, 4, last=True) == [row | {"policy": "after"}]
    assert answers_rows(samples, 3) == []
    start = {"when": "start", "set": "cats", "prompt": "Why?", "answer": "SFT"}
    assert list(answers_rows([*samples, start], 4)[0]) == [
        *("step", "prompt", "reference", "start", "policy")
    ]
    assert len(answers_rows(samples[-1:] * 600, 4, last=True)) == 500


def test_a_cell_of_markdown_stays_one_cell():
    table = markdown([{"prompt": "a | b\n<b>x</b>", "policy": ""}])
    head, _, body = table.splitlines()
    assert head == "| prompt | policy |"
    assert body == "| a &#124; b<br>&lt;b>x&lt;/b> |   |"


def test_an_adapter_is_sent_only_where_somebody_takes_it(tiny_base, tmp_path):
    (tmp_path / "cats").mkdir()
    run = {"folder": str(tmp_path), "report_to": ["tensorboard"], "report_adapter": True}
    with pytest.raises(UserError, match=r"run\.report_adapter needs a tracker .* takes files"):
        recipe_for(tiny_base, tmp_path, run=run)


def test_tensorboard_shows_the_answers_as_a_table(tiny_base, tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = finished(tmp_path)
    said = told_of(tmp_path, tiny_base, "tensorboard", run)
    assert said == [f"tensorboard takes no files; the adapter is in {run.adapter}"]
    board = reader.EventAccumulator(str(run.path / "tensorboard"))
    board.Reload()
    during, after = board.Tensors("eval/samples/text_summary")
    (text,) = during.tensor_proto.string_val
    assert text.decode().splitlines()[-1] == "| 3 | Why? | a &#124; b<br>&lt;b> | three |"
    assert "end of one" in after.tensor_proto.string_val[0].decode()


@pytest.mark.long
def test_wandb_offline_keeps_a_run_apart_for_each(tiny_base, tmp_path, monkeypatch):
    """Not installed with the tests' requirements: `pip install wandb` runs it."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    runs = [finished(tmp_path), finished(tmp_path, "two")]
    assert told_of(tmp_path, tiny_base, "wandb", *runs) == []
    tables = list((tmp_path / "wandb").glob("offline-run-*/files/media/table/eval/*.json"))
    assert len(tables) == 4
    rows = [json.loads(table.read_text()) for table in tables]
    assert {row["data"][0][3] for row in rows} == {"three", "end of one", "end of two"}
    assert rows[0]["columns"] == ["step", "prompt", "reference", "policy"]
    kept = [file.read_bytes() for file in (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")]
    assert len(kept) == 2
    assert all(b"adapter_model.safetensors" in one and b"optimizer.pt" not in one for one in kept)
    assert sorted(one for one in (b"one-adapter", b"two-adapter") for k in kept if one in k) == [
        *(b"one-adapter", b"two-adapter")
    ]


@pytest.mark.long
def test_mlflow_has_one_table_and_the_adapter(tiny_base, tmp_path, monkeypatch):
    """Not installed with the tests' requirements: `pip install mlflow` runs it."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    monkeypatch.chdir(tmp_path)
    assert told_of(tmp_path, tiny_base, "mlflow", finished(tmp_path)) == []
    (found,) = mlflow.search_runs(experiment_names=[trackers.PROJECT], output_format="list")
    place = mlflow.artifacts.download_artifacts(run_id=found.info.run_id)
    table = json.loads((Path(place) / "samples.json").read_text())
    assert table["columns"] == ["step", "prompt", "reference", "policy"]
    assert [row[3] for row in table["data"]] == ["three", "end of one"]
    assert [f.name for f in (Path(place) / "adapter").iterdir()] == ["adapter_model.safetensors"]


@pytest.mark.long
def test_swanlab_offline_has_table_and_adapter(tiny_base, tmp_path, monkeypatch):
    """Not installed with the tests' requirements: `pip install swanlab` runs it."""
    pytest.importorskip("swanlab")
    monkeypatch.setenv("SWANLAB_MODE", "offline")
    monkeypatch.setenv("SWANLAB_LOG_DIR", str(tmp_path / "log"))
    runs = [finished(tmp_path), finished(tmp_path, "two")]
    assert told_of(tmp_path, tiny_base, "swanlab", *runs) == []
    folders = list((tmp_path / "log").glob("run-*"))
    texts = {"".join(f.read_text() for f in folder.rglob("*.json")) for folder in folders}
    assert len(texts) == 2
    assert all("three" in text for text in texts)
    assert {name for name in ("end of one", "end of two") for t in texts if name in t} == {
        *("end of one", "end of two")
    }
    assert all([*folder.rglob("adapter_model.safetensors")] for folder in folders)
