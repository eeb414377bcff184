"""A run of one update trains, and one that trained nothing says so and is not published."""

from io import StringIO

import pytest
from rich.console import Console

from dpo_lite.cli.results import print_results
from dpo_lite.errors import UserError
from dpo_lite.files import read_json
from dpo_lite.hub.push import preview
from dpo_lite.jobs import train as job
from dpo_lite.model.adds_nothing import adds_nothing
from dpo_lite.recipe import validate_recipe
from dpo_lite.report.advise import NOTHING
from dpo_lite.training import schedule
from dpo_lite.ui.publish_views import run_names
from tests.cats import write_cats


def one_update(base, folder, **train):
    write_cats(folder, train=range(6), test=range(6, 8))
    values = {
        "model": {"base": base, "quantization": "none"},
        "data": {"train": str(folder)},
        "train": {"batch_size": 8, "epochs": 1} | train,  # fewer rows than one update takes
        "eval": {"generate": 0},
        "hub": {"repo": "me/adapter", "base_id": "me/base"},
        "run": {"folder": str(folder / "runs")},
    }
    return job.start(validate_recipe(values, "test"), "one", Console(quiet=True))


def screen(run):
    console = Console(file=StringIO(), width=200)
    print_results(run, console)
    return console.file.getvalue()


@pytest.mark.slow
def test_the_only_update_counts(tiny_base, tmp_path):
    run = one_update(tiny_base, tmp_path)
    (step,) = [m for m in run.records("metrics.jsonl") if "loss" in m]
    assert step["learning_rate"] == 5e-6
    assert not adds_nothing(run.adapter / "adapter_model.safetensors")
    assert "untrained" not in read_json(run.path / "results.json")
    assert "dpo-lite push" in screen(run)
    assert preview(run).repo == "me/adapter"
    assert run_names(tmp_path / "runs") == [run.name]


@pytest.mark.slow
def test_what_trained_nothing_says_so_and_is_not_published(tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "share_of_peak", lambda *arguments: 0.0)  # as by a warm-up from 0
    run = one_update(tiny_base, tmp_path)
    assert read_json(run.path / "results.json")["untrained"] is True
    assert NOTHING in screen(run).replace("\n", " ") or NOTHING[:40] in screen(run)
    assert "dpo-lite push" not in screen(run)
    assert NOTHING[:30] in (run.path / "report.md").read_text("utf-8")
    assert run_names(tmp_path / "runs") == []
    with pytest.raises(UserError, match=r"nothing in it was trained.*nothing to publish"):
        preview(run)
