"""Long files in bounded memory: what is kept of them, and that nothing seldom is lost."""

import itertools
import json

import pytest

from dpo_lite.runs import tails
from dpo_lite.runs.lines import sound_lines
from dpo_lite.runs.tails import Grid, Tail, Tails

NAME = "metrics.jsonl"


def updates(first, last):
    return [{"step": step, "loss": 1 / step, "pairs": 16} for step in range(first, last + 1)]


def held_out(step):
    return {"step": step, "eval_held_out_loss": 0.5}


def write(path, records, how="a"):
    with open(path, how, encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


@pytest.fixture
def few(monkeypatch):
    """Bounds that a small file is over."""
    monkeypatch.setattr(tails, "MOST", 50)
    monkeypatch.setattr(tails, "ALL", 4_000)
    monkeypatch.setattr(tails, "CHUNK", 700)


@pytest.mark.parametrize("at_once", [True, False])
def test_of_a_long_file_an_even_part_is_kept_and_all_that_is_seldom(tmp_path, few, at_once):
    path, tail = tmp_path / NAME, Tail(tmp_path / NAME)
    for first in range(1, 1001, 100):
        write(path, [*updates(first, first + 99), held_out(first + 99)])
        _ = at_once or tail.read()
    records = tail.read()
    steps = [record["step"] for record in records if "loss" in record]
    assert steps[0] == 1
    assert steps[-1] == 1000
    assert 20 < len(steps) <= 51
    grid = steps[:-1]  # the newest is beside it
    gaps = [b - a for a, b in itertools.pairwise(grid)]
    assert max(gaps) <= 2 * min(gaps)
    assert [r["step"] for r in records if "loss" not in r] == list(range(100, 1001, 100))
    assert records == sorted(records, key=lambda record: record["step"])
    assert tail.lost == 0


def test_of_a_short_file_all_is_kept_however_it_is_cut(tmp_path, monkeypatch):
    records = [*updates(1, 7), held_out(7), *updates(8, 9), {"step": 9, "kl": 0.1}]
    text = "".join(json.dumps(record) + "\n" for record in records).encode()
    for chunk in (1, 20, 100, 10_000):
        monkeypatch.setattr(tails, "CHUNK", chunk)
        path = tmp_path / f"{chunk}-{NAME}"
        tail = Tail(path)
        for end in range(0, len(text) + 1, 13):
            path.write_bytes(text[:end])
            tail.read()
        path.write_bytes(text)
        assert tail.read() == records
        assert list(sound_lines(path)) == records


def test_seldom_lines_of_a_thousand_kinds_are_thinned_too(tmp_path, few):
    path = tmp_path / NAME
    write(path, [held_out(step) for step in range(1, 1001)])
    kept = Tail(path).read()
    assert 20 < len(kept) <= 50
    assert kept[0]["step"] == 1


def test_a_file_that_was_replaced_is_read_anew(tmp_path):
    path, files = tmp_path / NAME, Tails(most=1)
    write(path, updates(1, 3))
    assert len(files.read(path)) == 3
    other = tmp_path / "other"
    write(other, updates(5, 9))
    other.replace(path)
    assert [r["step"] for r in files.read(path)] == [5, 6, 7, 8, 9]
    write(path, updates(1, 1), "w")
    assert [r["step"] for r in files.read(path)] == [1]
    path.unlink()
    assert files.read(path) == []


def test_a_wider_grid_keeps_what_a_narrow_one_kept():
    narrow, places = Grid(), [0, 3, 9, 10, 17, 18, 30, 31, 47]
    for place in places:
        narrow.keep(place, {})
    narrow.widen(8)
    assert [place for place, _ in narrow.kept] == [0, 9, 17, 30, 47]
    narrow.widen(16)
    assert [place for place, _ in narrow.kept] == [0, 17, 47]
    assert narrow.due() == 48
