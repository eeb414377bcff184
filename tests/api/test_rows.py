"""Rows in memory become the file that a run's recipe names."""

import json
from datetime import date
from pathlib import Path

import datasets
import numpy
import pandas
import pytest
import torch

from dpo_lite.api.rows import as_source
from dpo_lite.data.sources import read_source
from dpo_lite.errors import UserError

ROWS = [
    {"prompt": f"cat {i}?", "chosen": "sat\u2028 ü", "rejected": "ran", "score": i + 0.5}
    for i in range(3)
]


def read(source):
    return [json.loads(line) for line in Path(source).read_text("utf-8").split("\n")[:-1]]


@pytest.mark.parametrize(
    "rows",
    [ROWS, iter(ROWS), tuple(ROWS), pandas.DataFrame(ROWS), datasets.Dataset.from_list(ROWS)],
    ids=["list", "iterator", "tuple", "DataFrame", "Dataset"],
)
def test_rows_of_any_kind_are_one_file(rows, tmp_path):
    source = as_source(rows, tmp_path, "data")
    assert source == as_source(ROWS, tmp_path, "data")
    assert read(source) == ROWS == list(read_source(source).rows())


def test_other_rows_are_another_file_and_the_same_are_not_written_again(tmp_path):
    first = Path(as_source(ROWS, tmp_path, "data"))
    first.touch()
    made = first.stat().st_mtime_ns
    assert as_source(ROWS, tmp_path, "data") == str(first)
    assert first.stat().st_mtime_ns == made
    assert as_source(ROWS[:2], tmp_path, "data") != str(first)
    assert len(list(first.parent.iterdir())) == 2


def test_cells_of_other_libraries_are_plain(tmp_path):
    frame = pandas.DataFrame(
        {
            "prompt": ["a", "b"],
            "chosen": [[{"role": "user", "content": "x"}], None],
            "count": [1.0, float("nan")],
            "seen": [numpy.array([1, 2]), numpy.array([3])],
            "whole": numpy.array([1, 2]),
        }
    )
    assert read(as_source(frame, tmp_path, "data")) == [
        {"prompt": "a", "chosen": [{"role": "user", "content": "x"}], "count": 1.0}
        | {"seen": [1, 2], "whole": 1},
        {"prompt": "b", "chosen": None, "count": None, "seen": [3], "whole": 2},
    ]
    row = {"n": numpy.int64(3), "t": torch.tensor([1.5]), "day": date(2024, 2, 29)}
    assert read(as_source([row], tmp_path, "data")) == [{"n": 3, "t": [1.5], "day": "2024-02-29"}]


@pytest.mark.parametrize(
    "given",
    [
        None,
        "pairs.jsonl",
        ["a.jsonl", {"source": "org/name", "weight": 2.0}],
        [{"source": "builtin:myths", "format": "orca", "columns": {"prompt": "q"}}],
    ],
)
def test_what_a_recipe_says_is_left_as_it_is(given, tmp_path):
    assert as_source(given, tmp_path, "data") == given
    assert not list(tmp_path.iterdir())


def test_a_row_with_a_column_source_is_a_row(tmp_path):
    assert as_source([ROWS[0] | {"source": "x"}], tmp_path, "data").endswith(".jsonl")
    assert as_source(Path("a.jsonl"), tmp_path, "data") == "a.jsonl"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "data has no rows"),
        ([ROWS[0], 3], "data row 2 is a int; a row is a dict"),
        ([{"prompt": object()}], "data row 1 cannot be written as JSON"),
        (7, "data is a int; give a file's name, a list of dicts"),
        (
            datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS)),
            "such as data=rows['train']",
        ),
    ],
)
def test_what_is_no_data_is_one_sentence(rows, told, tmp_path):
    with pytest.raises(UserError) as caught:
        as_source(rows, tmp_path, "data")
    assert told in str(caught.value)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(UserError, match="a part of that path is a file"):
        as_source(ROWS, tmp_path / "runs", "data")


def test_half_a_character_is_left_to_the_reader(tmp_path):
    """A row that no text can hold is listed with the others that are left out."""
    rows = [*ROWS, {"prompt": "a", "chosen": "x \ud83d", "rejected": "y"}]
    assert list(read_source(as_source(rows, tmp_path, "data")).rows()) == rows


def test_tables_that_say_nothing_clear(tmp_path):
    frame = pandas.DataFrame(ROWS)
    with pytest.raises(UserError, match=r"^data is a Series; give .* a DataFrame"):
        as_source(frame["prompt"], tmp_path, "data")
    twice = pandas.concat([frame, frame["chosen"]], axis=1)
    with pytest.raises(UserError, match=r"^data has two columns chosen; rename or drop one"):
        as_source(twice, tmp_path, "data")
