"""Decisions on rows, and the file that follows: every row is written or listed."""

import json

import pytest

from dpo_lite.data.decisions import (
    Decisions,
    add_decision,
    apply_decisions,
    read_decisions,
)
from dpo_lite.errors import UserError
from dpo_lite.recipe import DataSection

ROWS = [{"prompt": f"Q{n}?", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(6)]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def written(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_are_dropped_turned_and_counted(source, tmp_path):
    section, out = DataSection(train=str(source)), tmp_path / "new.jsonl"
    decisions = Decisions({4: "drop", 1: "flip", 2: "keep"})
    facts = apply_decisions(section, "triples", decisions, out, doubtful=[4, 1, 2, 5])
    flipped = ROWS[1] | {"chosen": "bad 1", "rejected": "good 1"}
    assert written(out) == [ROWS[0], flipped, ROWS[2], ROWS[3], ROWS[5]]
    assert facts == json.loads((tmp_path / "new.jsonl.json").read_text())
    assert facts["parent"] == str(source)
    assert (facts["rows"], facts["kept"], facts["dropped"], facts["flipped"]) == (6, 5, 1, 1)
    assert (facts["dropped_rows"], facts["flipped_rows"], facts["kept_rows"]) == ([4], [1], [2])
    assert facts["doubtful_not_looked_at"] == 1
    assert "ratings_taken_out" not in facts
    with pytest.raises(UserError, match="exists"):
        apply_decisions(section, "triples", decisions, out)


def test_a_line_that_was_left_out_by_name_is_counted(source, tmp_path):
    source.write_text(source.read_text() + "{broken\n")
    section = DataSection(train=str(source), leave_out=["pairs.jsonl:7"])
    facts = apply_decisions(section, "triples", Decisions({0: "drop"}), tmp_path / "new.jsonl")
    assert (facts["rows"], facts["kept"], facts["left_out"]) == (7, 5, ["pairs.jsonl:7"])
    assert written(tmp_path / "new.jsonl") == ROWS[1:]


def test_ratings_that_are_taken_out_of_turned_rows_are_listed(source, tmp_path):
    rows = [row | {"score_chosen": 5, "score_rejected": 2} for row in ROWS]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    decisions = Decisions({3: "flip"})
    section = DataSection(train=str(source))
    facts = apply_decisions(section, "triples", decisions, tmp_path / "new.jsonl")
    assert facts["ratings_taken_out"] == [3]
    assert written(tmp_path / "new.jsonl")[3]["score_chosen"] is None


@pytest.mark.parametrize(
    ("decisions", "why"),
    [
        (Decisions({}), "Nothing is decided"),
        (Decisions({6: "drop"}), "row 6 .* is none of them"),
        (Decisions({1: "drop"}, content="another"), "has changed since"),
    ],
)
def test_decisions_that_are_not_of_these_data_write_nothing(source, tmp_path, decisions, why):
    out = tmp_path / "new.jsonl"
    with pytest.raises(UserError, match=why):
        apply_decisions(DataSection(train=str(source)), "triples", decisions, out)
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_the_later_decision_stands_and_null_takes_it_back(tmp_path):
    path = tmp_path / "decisions.jsonl"
    path.write_text('{"content": "abc"}\n')
    for row, decision in ((3, "drop"), (5, "flip"), (3, "keep"), (5, None)):
        add_decision(path, row, decision)
    assert read_decisions(path) == Decisions({3: "keep"}, "abc")
    with open(path, "a") as file:
        file.write('{"row": 9, "deci')  # a kill
    assert read_decisions(path).of == {3: "keep"}
    add_decision(path, 9, "drop")
    assert read_decisions(path).of == {3: "keep", 9: "drop"}
    with open(path, "a") as file:  # a separator of Unicode's in a text ends no line
        file.write('{"row": 4, "decision": "keep", "note": "a\u2028b\u0085c"}\n')
    assert read_decisions(path).of == {3: "keep", 9: "drop", 4: "keep"}


@pytest.mark.parametrize("line", ['{"row": -1, "decision": "keep"}', '{"row": 1, "decision": "x"}'])
def test_what_is_no_decision_is_named_by_its_line(tmp_path, line):
    path = tmp_path / "decisions.jsonl"
    path.write_text(f'{{"row": 1, "decision": "drop"}}\n{line}\n')
    with pytest.raises(UserError, match="line 2 is no decision"):
        read_decisions(path)


def test_half_a_letter_in_another_column_stays_as_it_was_spelt(tmp_path):
    path, out = tmp_path / "pairs.jsonl", tmp_path / "new.jsonl"
    rows = [row | {"note": "\ud83d", "place": "é"} for row in ROWS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    apply_decisions(DataSection(train=str(path)), "triples", Decisions({4: "drop"}), out)
    assert written(out) == [*rows[:4], rows[5]]
