"""Files that grow by lines: what a kill or a power cut left, for readers and for who goes on."""

import json

import pytest

from dpo_lite.errors import UserError
from dpo_lite.runs.folder import Run
from dpo_lite.runs.lines import append_line, mend_lines, mend_text, parsed, updates
from dpo_lite.runs.tails import Tails

ONE, TWO = {"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}


def lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


@pytest.mark.parametrize(
    ("text", "found", "lost"),
    [
        (b"", [], 0),
        (lines(ONE) + b'{"step": 2, "lo', [ONE], 0),
        (lines(ONE) + bytes(40), [ONE], 0),
        (lines(ONE) + b"junk\n" + lines(TWO), [ONE, TWO], 1),
        (lines(ONE) + bytes(40) + lines(TWO), [ONE, TWO], 0),  # as an older version went on
        (lines(ONE) + b"[1]\n3\n\xff\xfe\n" + b'{"loss": 1}\n{"step": "a"}\n', [ONE], 5),
        (b"[" * 100_000 + b"\n" + lines(TWO), [TWO], 1),
        (b"\n\n" + lines(ONE), [ONE], 0),
        (lines(ONE, {"step": 2, "loss": "low"}, {"step": 10**400, "loss": 1}), [ONE], 2),
    ],
)
def test_sound_lines_are_read_and_the_others_counted(tmp_path, text, found, lost):
    assert parsed(text, "metrics.jsonl") == (found, lost)
    run, tails = Run(tmp_path), Tails()
    (tmp_path / "metrics.jsonl").write_bytes(text)
    assert run.records("metrics.jsonl") == found
    assert tails.read(tmp_path / "metrics.jsonl") == found
    assert tails.lost(tmp_path / "metrics.jsonl") == lost
    assert bool(run.damages()) == bool(lost)


@pytest.mark.parametrize("left", [b'{"step": 2, "lo', bytes(40), b'{"step": 2' + bytes(9)])
def test_a_half_line_is_cut_off_with_a_word(tmp_path, left):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines(ONE) + left)
    assert mend_lines(path) == "metrics.jsonl: its last line was half-written and is cut off"
    assert path.read_bytes() == lines(ONE)
    assert mend_lines(path) is None


def test_a_line_that_lacks_its_end_alone_is_kept(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines(ONE, TWO).rstrip(b"\n"))
    assert mend_lines(path) is None
    assert path.read_bytes() == lines(ONE, TWO)


def test_an_update_without_a_number_is_none():
    assert updates([ONE, {"step": 2, "loss": None}, {"step": 3, "kl": 1.0}, TWO]) == [ONE, TWO]


def test_the_next_line_is_not_glued_to_half_of_one(tmp_path):
    """Whether or not anybody has mended the file before."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines(ONE) + b'{"step": 2, "lo')
    append_line(path, json.dumps(TWO))
    assert parsed(path.read_bytes(), path.name) == ([ONE, TWO], 1)
    append_line(tmp_path / "new", "a")
    append_line(tmp_path / "new", "b")
    assert (tmp_path / "new").read_text() == "a\nb\n"


def test_half_a_line_of_a_log_stays_and_ends(tmp_path):
    path = tmp_path / "log.txt"
    mend_text(path)
    assert not path.exists()
    path.write_bytes(b"one\ntw" + bytes(9))
    mend_text(path)
    assert path.read_bytes() == b"one\ntw\n"


def test_a_folder_in_place_of_a_file_is_one_sentence(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(UserError, match=r"metrics\.jsonl is a folder where the run has a file"):
        mend_lines(tmp_path / "metrics.jsonl")
    assert Run(tmp_path).records("metrics.jsonl") == []
    assert Tails().read(tmp_path / "metrics.jsonl") == []


@pytest.mark.parametrize("odd", [{"step": "3"}, {"step": {}}, {"set": []}, {"verdict": 1}])
def test_an_answer_with_a_step_or_set_of_another_kind_is_damaged(odd):
    sound = {"when": "during", "prompt": "p", "answer": "a", "step": 3, "set": "test"}
    assert parsed(lines(sound | odd), "samples.jsonl") == ([], 1)
    assert parsed(lines(sound), "samples.jsonl") == ([sound], 0)
