"""Checkpoints by their number: which there are, which go, and one that is damaged by its name."""

import os

import pytest

from dpo_lite.errors import UserError
from dpo_lite.runs import whole
from dpo_lite.runs.checkpoints import STATE, complete, find_checkpoint, numbered, rotate
from dpo_lite.runs.folder import create_run


def made(folder, *steps):
    for step in steps:
        with whole.written_whole(folder / f"checkpoint-{step}") as path:
            (path / STATE).write_text('{"global_step": 1}')
    return folder


def steps_in(folder):
    return list(numbered(folder))


def test_names_that_only_begin_like_one_are_none(tmp_path):
    made(tmp_path, 4, 10)
    for name in ("checkpoint-best", "checkpoint-4-backup", "checkpoint-", "checkpoint-010"):
        (tmp_path / name).mkdir()
        (tmp_path / name / STATE).write_text("{}")
    (tmp_path / "checkpoint-20").write_text("a file")
    (tmp_path / "checkpoint-30").mkdir()
    assert steps_in(tmp_path) == [4, 10, 30]
    assert list(complete(tmp_path)) == [4, 10]
    assert numbered(tmp_path / "nowhere") == {}


def test_the_oldest_go_by_number_whatever_their_time_says(tmp_path):
    made(tmp_path, 2, 4, 6)
    for step, time in ((2, 9_000_000_000), (4, 8_000_000_000), (6, 1_000_000_000)):
        os.utime(tmp_path / f"checkpoint-{step}", (time, time))
    (tmp_path / "checkpoint-best").mkdir()
    rotate(tmp_path / "checkpoint-6")
    assert steps_in(tmp_path) == [4, 6]
    assert (tmp_path / "checkpoint-best").is_dir()


def test_the_newest_written_and_the_best_stay(tmp_path):
    """Also beside one of a later update, which is of a way that was left."""
    made(tmp_path, 2, 4, 6, 8, 20)
    rotate(tmp_path / "checkpoint-8", best=2)
    assert steps_in(tmp_path) == [2, 8, 20]


def test_a_damaged_one_is_not_handed_out(tmp_path):
    run = create_run(tmp_path, "one", "demo")
    with pytest.raises(UserError, match="has no checkpoint yet"):
        find_checkpoint(run, "last")
    made(run.checkpoints, 2, 4)
    assert find_checkpoint(run, "last") == (run.checkpoints / "checkpoint-4", 4)
    assert find_checkpoint(run, "checkpoint-2")[1] == 2
    with pytest.raises(UserError, match="there are 2, 4, and `last`"):
        find_checkpoint(run, "³")
    (run.checkpoints / "checkpoint-4" / STATE).write_text("{")
    with pytest.raises(UserError, match=r"checkpoint-4 is damaged: trainer_state\.json is cut"):
        find_checkpoint(run, "last")
