"""A short part of benchmarks/torture.py: damage and kills end in the same bytes or one sentence.

Two small runs are made once; every test goes on with a copy.
"""

import os
import shutil
import signal
from dataclasses import replace

import pytest
from rich.console import Console

from benchmarks import torture
from benchmarks.torture_cases import CASES, Case, Kill, case
from dpo_lite.hub.card import _went_on
from dpo_lite.jobs import train as job
from dpo_lite.report.run import write_report
from dpo_lite.runs.folder import Run
from tests.cats import write_cats

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="a kill needs a copy of this process"),
]

SHORT = [
    "checkpoint: optimizer.pt cut",
    "both checkpoints cut",
    "samples: answers before lost",
    "metrics: half a line",
    "another train.lr",
    "the manifest lost for good",
    "cache: rows.arrow flipped",
    "killed at a checkpoint, half of optimizer.pt",
    "killed at manifest.json, before it is there",
    "a disk full at 70,000 bytes a file",
]


@pytest.fixture(scope="module")
def stage(tiny_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("torture")
    (folder / "pairs").mkdir()
    write_cats(folder / "pairs", train=range(40), test=range(40, 46))
    return torture.set_up(tiny_base, str(folder / "pairs"), folder)


@pytest.mark.parametrize("name", SHORT)
def test_the_same_bytes_or_one_sentence(stage, name):
    outcome = torture.tried(case(name), stage)
    assert torture.is_well(case(name), outcome), outcome


def test_names_are_those_of_different_cases():
    names = [each.name for each in CASES]
    assert len(names) == len(set(names)) > 100


def test_another_result_would_be_found(stage):
    """What the table calls the same is not whatever comes out."""
    another = stage.stopped.path.parent / "another"
    shutil.copytree(stage.whole.path, another)
    adapter = another / "adapter" / "adapter_model.safetensors"
    content = bytearray(adapter.read_bytes())
    content[-1] ^= 1
    adapter.write_bytes(content)
    assert torture.differs(Run(another), stage.whole) == "the adapter"
    silent = Case("silent", lambda run, cache: None, words="never said")
    assert not torture.is_well(silent, torture.tried(silent, stage))


def test_on_with_another_recipe_where_it_is_asked_for(stage, tmp_path):
    """It is recorded in the run, the report and the card; the next resume finds nothing odd."""
    run = Run(tmp_path / "copy")
    shutil.copytree(stage.stopped.path, run.path)
    case("another train.lr").damage(run, tmp_path)
    with torture.cache_at(stage.cache):
        outcome = torture.resumed(run, stage.whole, anyway=True)
    assert outcome.words.startswith("the adapter differs")  # as it was asked to
    assert "going on although train.lr was 0.001 and is 0.002" in outcome.words
    assert run.status()["state"] == "finished"
    (note,) = run.manifest()["went_on_anyway"]
    assert note["step"] == 5
    assert note["differences"] == [{"key": "train.lr", "before": 0.001, "now": 0.002}]
    words = "The run went on after update 5 although train.lr was 0.001 and became 0.002."
    assert words in (run.path / "report.md").read_text()
    assert _went_on(run.manifest()).strip().endswith("since its start: train.lr.")
    run.update_status(state="stopped")
    with torture.cache_at(stage.cache):
        again = torture.resumed(run, run)
    assert again.verdict == torture.SAME
    assert "although" not in again.words


def test_a_rank_that_no_checkpoint_fits_is_refused_all_the_same(stage, tmp_path):
    run = Run(tmp_path / "copy")
    shutil.copytree(stage.stopped.path, run.path)
    case("another adapter.r").damage(run, tmp_path)
    with torture.cache_at(stage.cache):
        outcome = torture.resumed(run, stage.whole, anyway=True)
    assert outcome.verdict == torture.SAID
    assert "adapter.r was 16 and is 8; put that back" in outcome.words
    assert "--anyway" not in outcome.words


AT = {
    "during the training": Kill("dpo_lite.training.trainer:update_gradient", call=3),
    "during the evaluation": Kill("dpo_lite.training.offline:evaluate_examples", call=1),
    "during the answers at the end": Kill("dpo_lite.jobs.held_out:answer_held_out", call=2),
}


@pytest.mark.parametrize(
    ("when", "number"),
    [
        ("during the training", "SIGHUP"),
        ("during the evaluation", "SIGTERM"),
        ("during the answers at the end", "SIGHUP"),
    ],
)
def test_a_signal_saves_what_is_there(stage, tmp_path, monkeypatch, when, number):
    """Also where no checkpoint was due; it goes on to the same end, and all its seconds count."""
    seldom = torture.recipe_for(stage.base, stage.data, tmp_path, "told", save_steps=100)
    monkeypatch.setattr(torture, "recipe_for", lambda *arguments: seldom)
    told = replace(AT[when], number=getattr(signal, number))
    with torture.cache_at(stage.cache):
        run = torture.told_to_end(stage, tmp_path, told)
        assert run.status()["state"] == "stopped"
        last = 3 if when == "during the training" else 6
        assert run.last_checkpoint().name == f"checkpoint-{last}"
        before = run.seconds()
        outcome = torture.resumed(run, stage.whole)
    assert outcome.verdict == torture.SAME, outcome.words
    assert run.results()["seconds"] > before > 0


def test_a_full_disk_at_a_checkpoint_is_a_sentence_and_goes_on_later(stage, tmp_path, monkeypatch):
    """Nothing half-written is left, and the run ends as if the disk had had room."""

    def full(folder):
        raise OSError(28, "No space left on device", str(folder / "whole.json"))

    run = Run(tmp_path / "copy")
    shutil.copytree(stage.stopped.path, run.path)
    with torture.cache_at(stage.cache):
        with monkeypatch.context() as patch:
            patch.setattr("dpo_lite.runs.whole.seal", full)
            outcome = torture.resumed(run, stage.whole)
        assert outcome.verdict == torture.SAID
        assert "(No space left on device): make room there" in outcome.words
        assert run.status()["state"] == "failed"
        assert sorted(p.name for p in run.checkpoints.iterdir()) == ["checkpoint-4", "checkpoint-5"]
        assert not list(run.path.glob(".*"))
        assert torture.resumed(run, stage.whole).verdict == torture.SAME


def test_results_that_were_lost_are_measured_again(stage, tmp_path):
    """By `dpo-lite eval`; until then the report is written without."""
    run = Run(tmp_path / "copy")
    shutil.copytree(stage.whole.path, run.path)
    (run.path / "results.json").write_text('{"sets": ')
    assert any("`dpo-lite eval " in words for words in run.damages())
    write_report(run)
    with torture.cache_at(stage.cache):
        job.evaluate_again(run, Console(quiet=True))
    assert run.results()["sets"]["test"] == stage.whole.results()["sets"]["test"]
    assert run.damages() == []
