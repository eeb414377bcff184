"""What is noted beside a long file is taken where it is of that file, and nowhere else."""

import json

import pytest

from dpo_lite.runs import places, tails
from dpo_lite.runs.folder import Run, create_run
from dpo_lite.runs.tails import Tail

NAME = "metrics.jsonl"


def lines(first, last):
    found = []
    for step in range(first, last + 1):
        found.append({"step": step, "loss": 1 / step, "pairs": 16})
        if step % 100 == 0:
            found.append({"step": step, "eval_held_out_loss": 0.5})
    return found


def write(path, records):
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


@pytest.fixture
def long(tmp_path, monkeypatch):
    """A file of 999 updates, which is a long one here, and what a whole look keeps of it."""
    monkeypatch.setattr(tails, "MOST", 50)
    monkeypatch.setattr(tails, "ALL", 4_000)
    monkeypatch.setattr(tails, "NOTED", 8_000)
    monkeypatch.setattr(tails, "CHUNK", 700)
    path = tmp_path / NAME
    write(path, lines(1, 999))
    return path, Tail(path).read()


def read_bytes(monkeypatch, path):
    """A new look, and how many bytes of the file it took line by line."""
    taken = []
    honest = Tail._take
    with monkeypatch.context() as patch:
        patch.setattr(
            Tail, "_take", lambda self, text: (taken.append(len(text)), honest(self, text))
        )
        tail = Tail(path)
        tail.read()
    return tail, sum(taken)


def test_the_second_look_reads_the_kept_lines_alone(long, monkeypatch):
    path, whole = long
    tail, taken = read_bytes(monkeypatch, path)
    assert tail.records == whole
    assert taken == 0
    write(path, lines(1000, 1003))
    tail, taken = read_bytes(monkeypatch, path)
    assert tail.records == [*whole[:-1], *tail.records[len(whole) - 1 :]]
    assert tail.records[-1]["step"] == 1003
    assert 0 < taken < 400


def test_how_many_lines_were_damaged_is_kept(long):
    path, _ = long
    with open(path, "a") as file:
        file.write('{"step": 1000, "lo\n')
    write(path, lines(1001, 2000))
    assert Tail(path).read()
    first = places.noted(path, path.stat().st_size)
    tail = Tail(path)
    tail.read()
    assert tail.lost == first.lost == 1


def of_notes(change):
    def damage(path):
        file = places.file_of(path)
        found = json.loads(file.read_text())
        file.write_text(change(found) if callable(change) else change)

    return damage


def moved(found):
    found["updates"][3] += 1
    return json.dumps(found)


def another_kind(found):
    found["others"], found["newest"] = found["newest"], []
    return json.dumps(found)


def with_a_word(found):
    return json.dumps(found | {"lost": "many"})


def a_damaged_line(path):
    """One that is kept, of the same length as before."""
    text = path.read_bytes()
    at = places.noted(path, len(text)).updates[3]
    path.write_bytes(text[: at + 1] + b"x" + text[at + 2 :])


def another_beginning(path):
    path.write_bytes(path.read_bytes().replace(b'"step": 1,', b'"step": 2,', 1))


DAMAGES = {
    "cut": of_notes(lambda found: json.dumps(found)[:-30]),
    "empty": of_notes(""),
    "a list": of_notes("[1, 2]"),
    "other keys": of_notes('{"read": 5}'),
    "a word for a number": of_notes(with_a_word),
    "a place that begins no line": of_notes(moved),
    "a line of another kind": of_notes(another_kind),
    "a damaged line": a_damaged_line,
    "another beginning": another_beginning,
    "missing": lambda path: places.file_of(path).unlink(),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_anything_else_is_read_whole(long, monkeypatch, name):
    path, _ = long
    DAMAGES[name](path)
    tail, taken = read_bytes(monkeypatch, path)
    assert taken == path.stat().st_size
    places.forget(path)
    assert tail.records == Tail(path).read()
    again, taken = read_bytes(monkeypatch, path)  # by then it is noted anew
    assert (again.records, taken) == (tail.records, 0)


def test_a_run_notes_them_while_it_grows_and_forgets_them_with_the_lines(long, tmp_path):
    path, whole = long
    run = create_run(tmp_path / "runs", "one", "one")
    run.note_places()  # of no file yet
    (run.path / NAME).write_bytes(path.read_bytes())
    run.note_places()
    assert places.file_of(run.path / NAME).is_file()
    run.forget_after(900)
    assert not places.file_of(run.path / NAME).exists()
    assert Run(run.path).followed(NAME).records[-1]["step"] == 900
    assert whole[-1]["step"] == 999


def test_a_short_file_has_none(tmp_path):
    write(tmp_path / NAME, lines(1, 200))
    Tail(tmp_path / NAME).read()
    assert not places.file_of(tmp_path / NAME).exists()


def test_where_nothing_can_be_written_it_is_read_all_the_same(long, monkeypatch):
    path, whole = long
    places.forget(path)

    def refused(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(places, "write_json", refused)
    assert Tail(path).read() == whole
