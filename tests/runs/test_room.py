"""Room on the disk is asked for before the first update."""

from collections import namedtuple

import pytest

from dpo_lite.errors import UserError
from dpo_lite.runs import room

MIB = 2**20
Usage = namedtuple("Usage", "total used free")


def test_three_checkpoints_and_the_adapter_must_find_room(tmp_path, monkeypatch):
    def have(mib):
        monkeypatch.setattr(room.shutil, "disk_usage", lambda place: Usage(0, 0, mib * MIB))

    have(3 * 120 + 40 + 16)
    room.check_room(tmp_path / "runs", 120 * MIB, 40 * MIB)
    have(3 * 120 + 40 + 15)
    with pytest.raises(UserError, match=r"has 415 MiB free, and the run wants 416: 3 checkpoints"):
        room.check_room(tmp_path / "runs", 120 * MIB, 40 * MIB)


def test_what_lies_there_already_takes_no_more(tmp_path, monkeypatch):
    for step in (2, 4):
        (tmp_path / "checkpoints" / f"checkpoint-{step}").mkdir(parents=True)
        (tmp_path / "checkpoints" / f"checkpoint-{step}" / "a").write_bytes(bytes(MIB))
    monkeypatch.setattr(room.shutil, "disk_usage", lambda place: Usage(0, 0, 18 * MIB))
    room.check_room(tmp_path, MIB, MIB)
    with pytest.raises(UserError, match="make room, or choose another"):
        room.check_room(tmp_path / "elsewhere", MIB, MIB)
