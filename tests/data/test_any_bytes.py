"""Any bytes at all give rows or one sentence, and what was written comes back."""

import csv
import json

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dpo_lite.data.files import KINDS, read_rows
from dpo_lite.errors import UserError
from tests.data.test_files import BOM, put, to_csv

FUZZ = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PIECES = rb'{ } [ ] , : " \ a "a" "\\u00 1 1e999 -0 null true NaN [{ }] {"a": {"data":[{'.split()
PIECES += [
    b"\n",
    b"\r",
    b"\t",
    b"\0",
    b" ",
    b"\xe2\x80\xa8",
    b"\xff",
    BOM,
    b'""',
    b"a,b\n",
    b"{}\n",
]


@pytest.mark.parametrize("kind", KINDS)
@FUZZ
@given(data=st.one_of(st.binary(max_size=60), st.lists(st.sampled_from(PIECES)).map(b"".join)))
def test_any_bytes_give_rows_or_one_sentence(tmp_path, kind, data):
    (tmp_path / f"a{kind}").write_bytes(data)
    (tmp_path / f"b{kind}.gz").write_bytes(data)
    for path in (tmp_path / f"a{kind}", tmp_path / f"b{kind}.gz"):
        try:
            assert all(isinstance(row, dict) for row in read_rows(path))
            continue
        except UserError as error:
            said = str(error)
        assert said.startswith(f"data: {path} ")
        assert "\n" not in said


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.slow
@FUZZ
@given(
    rows=st.lists(st.dictionaries(st.text(), JSON, max_size=3), min_size=1, max_size=3),
    options=st.fixed_dictionaries(
        {"ensure_ascii": st.booleans(), "indent": st.sampled_from([None, 1])}
    ),
)
def test_json_round_trip(tmp_path, rows, options):
    lines = "\n".join(json.dumps(row, ensure_ascii=options["ensure_ascii"]) for row in rows)
    for name, content in [
        ("a.jsonl", lines),
        ("a.jsonl.gz", lines),
        ("list.json", json.dumps(rows, **options)),
        ("wrapped.json", json.dumps({"v": [1], "data": rows, "after": []}, **options)),
        ("sequence.json.gz", "\n".join(json.dumps(row, **options) for row in [*rows, {}])),
    ]:
        expected = [*rows, {}] if name.startswith("sequence") else rows
        assert list(read_rows(put(tmp_path, name, content))) == expected


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
NAMES = TEXT.filter(lambda name: name.strip() and name[0] != "\ufeff")
CELLS = TEXT | st.text("\"',\t\r\n []{}1", max_size=8)


@FUZZ
@given(
    header=st.lists(NAMES, min_size=1, max_size=4, unique=True),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    data=st.data(),
)
def test_csv_round_trip(tmp_path, header, quoting, data):
    # A single name that is not quoted and holds another delimiter is read as several.
    assume(len(header) > 1 or not set(header[0]) & set(";|\t,="))
    row = st.lists(CELLS, min_size=len(header), max_size=len(header))
    rows = data.draw(st.lists(row, min_size=1, max_size=4))
    for name, delimiter in [("a.csv", ","), ("a.tsv", "\t"), ("a.csv.gz", ",")]:
        content = to_csv([header, *rows], delimiter=delimiter, quoting=quoting)
        found = list(read_rows(put(tmp_path, name, content)))
        assert [list(row) for row in found] == [header] * len(rows)
        for cells, row in zip(rows, found, strict=True):
            for text, cell in zip(cells, row.values(), strict=True):
                assert cell == text or (isinstance(cell, list) and cell == json.loads(text))
