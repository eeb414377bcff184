"""Other encodings, other spellings of a column, and lines left out by name."""

import json

import pytest

from dpo_lite.data.file_text import LeftOut
from dpo_lite.data.files import Reading, read_rows
from dpo_lite.data.glance import glance, likely_columns
from dpo_lite.data.renaming import same_but_spelling
from dpo_lite.data.sources import read_source
from dpo_lite.errors import UserError
from dpo_lite.jobs.doctor import examine

ROW = {"prompt": "Größe?", "chosen": "groß", "rejected": "klein"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_marked_encoding_is_known(encoding, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes((json.dumps(ROW, ensure_ascii=False) + "\n").encode(encoding) * 1)
    assert list(read_rows(path)) == [ROW]


def test_an_encoding_is_named_for_what_is_not_utf_8(tmp_path):
    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    text = "prompt;chosen;rejected\nGröße?;groß;klein\n"
    old.write_bytes(text.encode("cp1252"))
    new.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"line 2 is not UTF-8.*data\.encoding"):
        list(read_rows(old))
    for path in (old, new):  # what is UTF-8 stays so
        assert list(read_rows(path, Reading("cp1252"))) == [ROW]
    with pytest.raises(UserError, match="there is no klingon"):
        list(read_rows(old, Reading("klingon")))
    with pytest.raises(UserError, match="is not ascii"):
        list(read_rows(old, Reading("ascii")))


def test_a_broken_line_is_left_out_by_name_and_counted(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [json.dumps({**ROW, "prompt": f"p {n}"}) for n in range(60)]
    rows[16] = '{"prompt": "broken'
    path.write_text("\n".join(rows))
    with pytest.raises(UserError, match=r"line 17 .*data\.leave_out='\[pairs\.jsonl:17\]'"):
        examine(str(path))
    report = examine(str(path), ["data.leave_out=[pairs.jsonl:17]"])
    found = report.to_json()
    assert found["rows"] == 60
    (dropped,) = found["dropped"].items()
    assert "left out by name" in dropped[0]
    assert dropped[1]["rows"] == [16]
    assert dropped[1]["examples"][0]["detail"] == "pairs.jsonl:17"


def test_a_broken_row_of_a_table_is_left_out_where_it_stands(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('a,b\n1,2\n3,4,5\n"6,7\n8,9\n')
    with pytest.raises(UserError, match=r"line 3 has 3 cells .*leave_out='\[a\.csv:3\]'"):
        list(read_rows(path))
    with pytest.raises(UserError, match=r"line 4 begins .*leave_out='\[a\.csv:4\]'"):
        list(read_rows(path, Reading(leave_out=("a.csv:3",))))
    rows = list(read_rows(path, Reading(leave_out=("a.csv:3", "a.csv:4"))))
    assert rows == [{"a": "1", "b": "2"}, {}, {}, {"a": "8", "b": "9"}]
    assert [row.line for row in rows if isinstance(row, LeftOut)] == ["a.csv:3", "a.csv:4"]


def test_a_line_that_is_not_there_is_told(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(ROW))
    with pytest.raises(UserError, match="no line 7"):
        list(read_rows(path, Reading(leave_out=("a.jsonl:7",))))
    assert list(read_rows(path, Reading(leave_out=("other.jsonl:1",)))) == [ROW]
    with pytest.raises(UserError, match="write file:line"):
        examine(str(path), ["data.leave_out=[seven]"])


def test_a_line_of_a_file_that_no_source_has_is_told(tmp_path):
    """Also where the file is that of a held-out set, which is one that there is."""
    train, test = tmp_path / "train.jsonl", tmp_path / "other" / "test.jsonl"
    test.parent.mkdir()
    rows = [ROW | {"prompt": f"which {n}?"} for n in range(4)]
    train.write_text("\n".join(map(json.dumps, rows)))
    test.write_text('{"prompt": "broken\n' + json.dumps(ROW))
    asked = [f"data.eval=[{test}]"]
    assert examine(str(train), [*asked, "data.leave_out=[test.jsonl:1]"]).evals == {"test": 1}
    with pytest.raises(UserError, match=r"the file of tain.jsonl:2; did you mean train.jsonl\?"):
        examine(str(train), ["data.leave_out=[tain.jsonl:2]"])
    with pytest.raises(UserError, match=r"no source has the file of b/zzz.csv:2; put its name"):
        examine(str(train), ["data.leave_out=[b/zzz.csv:2]"])
    with pytest.raises(UserError, match=r"no source has the file of pairs.jsonl:2"):
        examine("builtin:myths", ["data.leave_out=[pairs.jsonl:2]"])


def test_what_is_read_otherwise_is_kept_apart(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(ROW))
    plain = read_source(str(path)).key
    assert plain == read_source(str(path), None, Reading()).key
    readings = [Reading("cp1252"), Reading(leave_out=("a.jsonl:1",)), Reading("latin-1")]
    keys = {read_source(str(path), None, reading).key for reading in readings}
    assert len(keys | {plain}) == 4


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ({"Prompt": "a", "Chosen": "b", "REJECTED ": "c"}, ["Prompt", "Chosen", "REJECTED "]),
        ({"prompt": "a", "Chosen": "b", "Rejected": "c"}, ["prompt", "Chosen", "Rejected"]),
    ],
)
def test_case_and_spaces_of_a_name_do_not_matter(row, names, tmp_path):
    assert (
        same_but_spelling([dict(zip(("prompt", "chosen", "rejected"), "abc", strict=True))]) is None
    )
    ours = same_but_spelling([row])
    assert [ours.get(name, name) for name in ("prompt", "chosen", "rejected")] == names
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({**row, names[0]: f"p {n}"}) for n in range(20)))
    report = examine(str(path))
    assert (report.format, report.rows, report.to_json()["dropped"]) == ("triples", 20, {})


def test_two_columns_that_would_be_one_are_not_guessed():
    assert (
        same_but_spelling([{"Prompt": "a", "PROMPT": "x", "Chosen": "b", "Rejected": "c"}]) is None
    )
    assert same_but_spelling([{"x": "a", "y": "b"}]) is None


def test_a_glance_shows_the_first_row_as_it_is_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("q;good_answer;bad_answer\nwhy?;so;no\n")
    seen = glance(read_source(str(path)))
    assert (seen.columns, seen.format) == (["q", "good_answer", "bad_answer"], "")
    assert "no known format" in seen.fault
    likely = likely_columns(seen.columns)
    assert likely == {"chosen": "good_answer", "rejected": "bad_answer"}
    seen = glance(read_source(str(path)), {**likely, "prompt": "q"})
    assert (seen.format, seen.fault, seen.first.responses) == ("triples", "", ["so", "no"])
    path.write_bytes(b"\xff")
    assert "UTF-8" in glance(read_source(str(path))).fault
