"""The list of a folder's files: written last, and what it finds."""

import json

import pytest

from dpo_lite.runs import whole


def filled(folder):
    with whole.written_whole(folder):
        (folder / "a.bin").write_bytes(bytes(range(100)))
        (folder / "b").mkdir()
        (folder / "b" / "c.json").write_text("{}")
    return folder


def test_a_folder_is_whole_as_it_was_written(tmp_path):
    folder = filled(tmp_path / "x")
    assert whole.has_list(folder)
    assert whole.fault(folder) is None
    (folder / "another").write_text("is nobody's business")
    assert whole.fault(folder) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "a.bin is empty"),
        (bytes(range(40)), "a.bin is cut short (40 of 100 bytes)"),
        (bytes(range(101)), "a.bin has 101 bytes, not 100"),
        (bytes(100), "a.bin is not what was written (its hash differs)"),
        (None, "a.bin is missing"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, content, words):
    folder = filled(tmp_path / "x")
    (folder / "a.bin").unlink()
    if content is not None:
        (folder / "a.bin").write_bytes(content)
    assert whole.fault(folder) == words


@pytest.mark.parametrize("text", ["", "[]", '{"files": {"a.bin": 3}}', '{"files"'])
def test_a_list_that_is_none(tmp_path, text):
    folder = filled(tmp_path / "x")
    (folder / whole.LIST).write_text(text)
    assert "list, whole.json, is damaged" in whole.fault(folder)


def test_a_folder_in_place_of_a_file(tmp_path):
    folder = filled(tmp_path / "x")
    (folder / "a.bin").unlink()
    (folder / "a.bin").mkdir()
    assert whole.fault(folder) == "a.bin is no file"


def test_what_is_being_written_is_not_whole_and_a_failure_leaves_nothing(tmp_path):
    folder, seen = tmp_path / "x", []

    def fill():
        with whole.written_whole(folder):
            (folder / "a").write_text("a")
            seen.append(whole.fault(folder))
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fill()
    assert seen == ["it was not written to its end"]
    assert not folder.exists()


def test_what_was_there_is_replaced(tmp_path):
    folder = filled(tmp_path / "x")
    with whole.written_whole(folder):
        (folder / "new").write_text("n")
    assert sorted(path.name for path in folder.iterdir()) == ["new", whole.LIST]
    assert list(json.loads((folder / whole.LIST).read_text())["files"]) == ["new"]
