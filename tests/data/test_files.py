"""Reading local files row by row: the rows of good files, one sentence for each bad one."""

import csv
import gzip
import io
import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from dpo_lite.data.files import KINDS, content_hash, file_kind, read_rows, split_name
from dpo_lite.errors import UserError

BOM = b"\xef\xbb\xbf"
A, B = {"prompt": "a"}, {"prompt": "b"}
CHAT = [{"role": "user", "content": 'say "hi", then\nstop'}]
ROWS = [{"a": 1, "m": CHAT}, {"a": None, "m": []}]


def put(folder, name, content):
    path = folder / name
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content, 1) if name.endswith(".gz") else content)
    return path


BINARY = (".parquet", ".arrow")


def to_arrow(rows, form="file"):
    table, sink = pa.Table.from_pylist(rows), pa.BufferOutputStream()
    new = pa.ipc.new_file if form == "file" else pa.ipc.new_stream
    with new(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def to_parquet(rows, **options):
    file = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), file, **options)
    return file.getvalue()


def to_csv(rows, **options):
    file = io.StringIO()
    csv.writer(file, **options).writerows(rows)
    return file.getvalue()


def peak_of_reading(path):
    tracemalloc.start()
    for _ in read_rows(path):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl", ".jsonl"),
        ("a.jsonl.gz", ".jsonl"),
        ("a.ndjson", ".jsonl"),
        ("a.ndjson.gz", ".jsonl"),
        ("A.JSONL.GZ", ".jsonl"),
        ("a.b.json", ".json"),
        ("a.csv", ".csv"),
        ("a.tsv.gz", ".tsv"),
        ("a.parquet", ".parquet"),
        ("a.txt", None),
        ("a.jsonl.txt", None),
        ("a.jsonl.bz2", None),
        ("a.gz", None),
        ("jsonl", None),
        (".jsonl", None),
        ("a", None),
    ],
)
def test_kind(name, kind):
    assert file_kind(Path("folder.csv") / name) == kind


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.jsonl", "train"),
        ("train.jsonl.gz", "train"),
        ("train-00000-of-00003.parquet", "train"),
        ("train_prefs-00002-of-00003-0123456789abcdef.parquet", "train_prefs"),
        ("test-00000-of-00001.jsonl.gz", "test"),
        ("my.pairs-2.json", "my.pairs-2"),
        ("-00000-of-00001.parquet", "-00000-of-00001"),
    ],
)
def test_split(name, split):
    assert split_name(Path("folder") / name) == split


def test_the_hash_is_of_content_and_order(tmp_path):
    a = put(tmp_path, "a.jsonl", '{"a": 1}\n')
    same = put(tmp_path, "same.jsonl", '{"a": 1}\n')
    b = put(tmp_path, "b.jsonl", '{"b": 1}\n')
    both = put(tmp_path, "both.jsonl", '{"a": 1}\n{"b": 1}\n')
    assert content_hash([a]) == content_hash([same])
    assert len(content_hash([a])) == 32
    assert set(content_hash([a])) <= set("0123456789abcdef")
    ordered = [[], [a], [b], [a, b], [b, a], [a, a], [both]]
    assert len({content_hash(paths) for paths in ordered}) == len(ordered)
    with pytest.raises(UserError, match="No such file"):
        content_hash([a, tmp_path / "c.jsonl"])


def test_the_same_bytes_of_another_kind_hash_differently(tmp_path):
    names = ("a.csv", "a.tsv")
    hashes = {content_hash([put(tmp_path, name, "a,b\tc\n1,2\t3\n")]) for name in names}
    assert len(hashes) == 2


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("a.jsonl", '{"prompt": "a"}\n{"prompt": "b"}\n', [A, B]),
        ("a.jsonl", '\n  \n{"prompt": "a"}\r\n\t\n  {"prompt": "b"}  ', [A, B]),
        ("a.jsonl", BOM + b'{"prompt": "a"}', [A]),
        ("a.jsonl", '{"p": "\u2028\u2029\x85"}\n', [{"p": "\u2028\u2029\x85"}]),
        ("a.jsonl", '{"a": 1}\n{"a": [{"b": null}]}\n{}', [{"a": 1}, {"a": [{"b": None}]}, {}]),
        ("a.json", '[{"prompt": "a"}, {"prompt": "b"}]', [A, B]),
        ("a.json", BOM + b'\n[\n{"prompt": "a"}\n,{"prompt": "b"}\n]\n', [A, B]),
        ("a.json", '{"data": [{"prompt": "a"}, {"prompt": "b"}]}', [A, B]),
        ("a.json", '{"v": 1, "c": ["x"], "rows": [{"prompt": "a"}], "e": [], "m": {}}\n', [A]),
        ("a.json", '{"v": {"data": [{}]}, "train": [{"prompt": "a"}]}', [A]),
        ("a.json", '{"prompt": "a"}\n{"prompt": "b"}\n', [A, B]),
        ("a.json", '{"prompt": "a"}{"prompt": "b"} {}', [A, B, {}]),
        ("a.json", '{\n "prompt": "a"\n}\n', [A]),
        ("a.json", '{"m": [{"a": 1}]}\n{"m": [{"a": 2}]}', [{"m": [{"a": n}]} for n in (1, 2)]),
        ("a.json", '{"c": [{"a": 1}], "r": [{}]}', [{"c": [{"a": 1}], "r": [{}]}]),
        ("a.json", '{"a": [1, 2]}', [{"a": [1, 2]}]),
        ("a.csv", "a,b\n1,x\n,\n", [{"a": "1", "b": "x"}, {"a": "", "b": ""}]),
        ("a.csv", '\n\r\na,b\r\n"1,\r\n2","say ""x"""\r\n', [{"a": "1,\r\n2", "b": 'say "x"'}]),
        ("a.csv", BOM + b'"a",b\n1\n\n"1",\n', [{"a": "1", "b": None}, {"a": "1", "b": ""}]),
        ("a.csv", "a\n\u2028x\x0b\x85y\n", [{"a": "\u2028x\x0b\x85y"}]),
        ("a.tsv", 'a\tb\n1,2\t"x\ty"\n', [{"a": "1,2", "b": "x\ty"}]),
        ("a.csv", to_csv([["a"], [json.dumps(CHAT)]]), [{"a": json.dumps(CHAT)}]),
        ("a.csv", 'a;b\n"1;2";x,y\n', [{"a": "1;2", "b": "x,y"}]),  # Excel, where 1,5 is a number
        ("a.csv", "sep=;\na;b\n1;2\n", [{"a": "1", "b": "2"}]),
        ("a.csv", "a\tb\n1\t2;3\n", [{"a": "1", "b": "2;3"}]),
        ("a.tsv", "a;b\n1;2\n", [{"a": "1", "b": "2"}]),
        ("a.csv", 'a;b,c\n1,"x;y"\n', [{"a;b": "1", "c": "x;y"}]),  # its own delimiter goes first
        ("a.csv", '"a;b"\n1;2\n', [{"a;b": "1;2"}]),  # a quoted name is one name
        ("a.parquet", to_parquet(ROWS), ROWS),
    ],
)
def test_good_files(tmp_path, name, content, rows, end):
    assert list(read_rows(put(tmp_path, name + end, content))) == rows


@pytest.mark.parametrize(
    "cell",
    ["[]", "[1]", "[{]", "[{}, 1]", "[ {}]", "[{}] x", '{"a": 1}', '"[{}]"', "null", "[{" * 9999],
)
def test_other_cells_stay_text(tmp_path, cell):
    path = put(tmp_path, "a.csv", to_csv([["a"], [cell]]))
    assert list(read_rows(path)) == [{"a": cell}]


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("form", ["file", "stream"])
def test_arrow_has_two_forms(tmp_path, form, end):
    rows = [{"n": n, "text": str(n)} for n in range(600)]
    path = put(tmp_path, f"a.arrow{end}", to_arrow(rows, form))
    assert list(read_rows(path)) == rows
    assert file_kind(tmp_path / "a.feather") == ".arrow"


def test_a_file_within_a_file_named_otherwise(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(gzip.compress(b"{}"))
    with pytest.raises(
        UserError, match=r"is packed with gzip by its content; name it a\.jsonl\.gz"
    ):
        list(read_rows(path))


@pytest.mark.parametrize("last", ["", "\r", "\r\n", "\n"])
def test_lines_of_a_table_may_end_as_on_old_macs(tmp_path, last):
    """Excel's "CSV (Macintosh)" has no other line ends."""
    path = put(tmp_path, "a.csv", f'a;b\r1;"x\ry"\r2;z{last}')
    assert list(read_rows(path)) == [{"a": "1", "b": "x\ry"}, {"a": "2", "b": "z"}]


def test_the_index_of_pandas_is_no_column(tmp_path):
    rows = [["", "a", "b"], ["0", "1", "2"], ["1", "3"]]
    path = put(tmp_path, "a.csv", to_csv(rows))
    assert list(read_rows(path)) == [{"a": "1", "b": "2"}, {"a": "3", "b": None}]


def test_parquet_goes_over_row_groups(tmp_path):
    rows = [{"n": n, "text": str(n)} for n in range(1000)]
    path = put(tmp_path, "a.parquet", to_parquet(rows, row_group_size=300))
    assert list(read_rows(path)) == rows


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "content", "line", "message"),
    [
        ("a.jsonl", '{"a": 1}\n{broken\n', 2, r"is no valid JSON: .* \(column 2\); put that line"),
        (
            "a.jsonl",
            '{"a": 1}\n\n{"a": 1\n{"a": 2}',
            3,
            "is no valid JSON: Expecting ',' delimiter",
        ),
        ("a.jsonl", '{"a": 1}\n{"a": 1} x\n', 2, "is no valid JSON"),
        ("a.jsonl", "[\n5\n]", 1, "is no valid JSON"),
        ("a.jsonl", '{"a": "\t"}', 1, "is no valid JSON: Invalid control character"),
        ("a.jsonl", '{"a": ' + "[" * 99999, 1, "is no valid JSON: .*recursion"),
        ("a.jsonl", '{}\n{"a": ' + "[" * 99999 + "]" * 99999 + "}", 2, "is no valid JSON"),
        ("a.jsonl", "[1, 2]\n", 1, "is no JSON object; put it right or remove it"),
        ("a.jsonl", '{}\n"a"\n', 2, "is no JSON object"),
        ("a.jsonl", "{}\nnull\n", 2, "is no JSON object"),
        ("a.jsonl", b'{"prompt": "\xff"}\n', 1, "is not UTF-8; save the file as UTF-8"),
        ("a.jsonl", b'{}\n{"prompt": "caf\xe9"}\n', 2, "is not UTF-8"),
        ("a.jsonl", '{"a": 1}\n'.encode("utf-16-le"), 1, "holds a NUL byte; save the file"),
        ("a.jsonl", b"{}\n" + b"\0" * 9, 2, "holds a NUL byte"),
        ("a.json", "[{},\n{},\n5]", 3, r"is no JSON object \(element 3\)"),
        ("a.json", '[{},\n["a"], {}]', 2, r"is no JSON object \(element 2\)"),
        ("a.json", '{"v": 1,\n"data": [{},\n"x"]}', 3, r"is no JSON object \(element 2\)"),
        ("a.json", "{}\n5", 2, r"is no JSON object \(element 2\)"),
        ("a.json", '"text"', 1, r"is no JSON object \(element 1\)"),
        ("a.json", "[{}\n{}]", 2, "is no valid JSON: Expecting a comma"),
        ("a.json", "[{},\n", 1, "is no valid JSON: Expecting value"),
        ("a.json", "[{},\n{},]", 2, "is no valid JSON: "),
        ("a.json", '[{},\n{"a": tru}]', 2, "is no valid JSON: Expecting value"),
        ("a.json", "[", 1, "is no valid JSON"),
        ("a.json", "[{}]\n[{}]", 2, "is no valid JSON: More text behind the list"),
        ("a.json", '\n\n{"a": [{}],\n"b" 5}', 4, "is no valid JSON: Expecting ':' delimiter"),
        ("a.json", "{}\n,{}", 2, "is no valid JSON"),
        ("a.json", "[{},\n" + "[" * 99999, 2, "is no valid JSON: .*recursion"),
        ("a.json", '{"a":' * 99999, 1, "is no valid JSON: .*recursion"),
        ("a.json", b'[{},\n{"a": "\xff"}]', 2, "is not UTF-8"),
        ("a.json", b"[{},\n\0]", 2, "holds a NUL byte"),
        ("a.csv", b"a,b\n1,\xff\n", 2, "is not UTF-8"),
        ("a.csv", b'a,b\n1,"x\n\xff"\n', 3, "is not UTF-8"),
        ("a.csv", b"a,b\n1,\0\n", 2, "holds a NUL byte"),
        ("a.csv", 'a,b\n1,2\n"3,4\n5,6\n', 3, "begins a row that .*: a quote is never closed"),
        ("a.csv", '\na,b\n\n1,"x\ny"\n"3" 4,5\n', 6, "begins a row that is no valid CSV: ',' exp"),
        (
            "a.csv",
            "a,b\rc,d\n1,2\n",
            1,
            "is no valid CSV: new-line character seen in unquoted field;",
        ),
        ("a.csv", '\na,b\n\n"1\n",2\n1,2,3\n', 6, "has 3 cells and the header 2; quote"),
        ("a.csv", 'a,b\n"1\n\n",2,3\n', 2, "has 3 cells and the header 2"),
        ("a.csv", "a,b,a\n", 1, "has the column name 'a' twice; name each column"),
        ("a.csv", "\na,,b\n1,2,3\n", 2, "has the column name ''; name each column"),
        ("a.csv", "a, \n", 1, "has the column name ' '; name"),
        ("a.tsv", "a\tb\n1\t2\t3\n", 2, "has 3 cells and the header 2"),
    ],
)
def test_a_bad_line_is_named(tmp_path, name, content, line, message, end):
    path = put(tmp_path, name + end, content)
    with pytest.raises(UserError, match=message) as caught:
        list(read_rows(path))
    assert str(caught.value).startswith(f"data: {path} line {line} ")
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_an_integer_of_too_many_digits(tmp_path):
    path = put(tmp_path, "a.jsonl", '{"a": ' + "1" * 5000 + "}")
    with pytest.raises(UserError, match="line 1 is no valid JSON: Exceeds the limit"):
        list(read_rows(path))


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        *((f"a{kind}", b"", "is empty") for kind in KINDS),
        *((f"a{kind}", b" \n\r\n\t ", "is empty") for kind in KINDS if kind not in BINARY),
        *((f"a{kind}", BOM + b"\n", "is empty") for kind in KINDS if kind not in BINARY),
        ("a.json", "[]", "holds no rows"),
        ("a.json", ' {"data": [ ]}', "holds no rows"),
        ("a.csv", "a,b\n\n", "holds no rows"),
        ("a.parquet", to_parquet([A])[:-9], "is no readable Parquet"),
        ("a.parquet", b"PAR1" + b"x" * 99 + b"PAR1", "is no readable Parquet file: .*; get it"),
        ("a.parquet", b"hello", "is no readable Parquet"),
        ("a.arrow", to_arrow([A])[:-9], "is no readable Arrow file: .*; get it"),
        ("a.arrow", b"ARROW1" + b"x" * 99, "is no readable Arrow"),
        ("a.txt", b"hello", r"is no \.jsonl, .*\.arrow file; name it .* such as a\.jsonl"),
        ("a.xlsx", b"hello", "file; save its sheet as CSV"),
        ("a.bin", b"hello", "file; convert it to one"),
        ("a.jsonl", to_parquet([A]), r"is a Parquet file by its content; name it a\.parquet"),
        ("a.csv", to_arrow([A]), r"is an Arrow file by its content; name it a\.arrow"),
        ("a.csv", b"PK\x03\x04 a sheet", "is an archive or a sheet by its content; unpack it"),
        ("a.jsonl", b'\n[\n  {"a": 1}]', r"holds one JSON list and .*; name it a\.json"),
        ("a.jsonl", BOM + b'{\n  "a": 1\n}', r"holds rows over several lines .* a\.json"),
        ("a.csv", b'{"a": 1}\n{"a": 2}', r"holds JSON and no table; name it a\.jsonl"),
        ("a.tsv", b'[{"a": 1}]', r"holds a JSON list and no table; name it a\.json"),
        ("a.jsonl", b"<!DOCTYPE html>\n<html>", "is a web page and no data; download the file"),
    ],
)
def test_files_without_rows(tmp_path, name, content, message, end):
    path = put(tmp_path, name + end, content)
    with pytest.raises(UserError, match=message) as caught:
        list(read_rows(path))
    assert str(caught.value).startswith(f"data: {path} ")


def test_parquet_without_rows(tmp_path):
    table = pa.table({"prompt": pa.array([], pa.string())})
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(UserError, match="holds no rows"):
        list(read_rows(tmp_path / "a.parquet"))


def test_parquet_that_breaks_past_its_footer(tmp_path):
    content = bytearray(to_parquet([{"a": "text" * n} for n in range(99)], compression="gzip"))
    content[40:400] = bytes(360)
    with pytest.raises(UserError, match="is no readable Parquet"):
        list(read_rows(put(tmp_path, "a.parquet", bytes(content))))


def test_broken_gzip(tmp_path):
    whole = gzip.compress(b"".join(b'{"a": %d}\n' % n for n in range(9999)))
    path = tmp_path / "a.jsonl.gz"
    for content, message in [
        (whole[:-20], "ended before"),
        (whole[:5], "ended before"),
        (whole[:99] + bytes(99) + whole[198:], "cannot be read: .*; check that it is there, whole"),
        (whole[:-8] + bytes(8), "CRC check failed"),
        (b'{"a": 1}\n', "Not a gzipped file"),
    ]:
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            list(read_rows(path))
    for kind in KINDS:
        path = put(tmp_path, f"b{kind}", b"hello").rename(tmp_path / f"b{kind}.gz")
        with pytest.raises(UserError, match="Not a gzipped file"):
            list(read_rows(path))


def test_what_cannot_be_opened(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="No such file or directory; check that it is there"):
        list(read_rows(tmp_path / "a.jsonl"))
    (tmp_path / "b.csv").mkdir()
    for path in (tmp_path, tmp_path / "b.csv"):
        with pytest.raises(UserError, match="Is a directory"):
            list(read_rows(path))

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"Permission denied; check that .* yours to read\."):
        list(read_rows(tmp_path / "a.jsonl"))


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.csv"])
def test_a_note_of_git_lfs_is_no_data(tmp_path, name):
    note = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n"
    with pytest.raises(UserError, match="git lfs pull"):
        list(read_rows(put(tmp_path, name, note)))


def test_rows_before_a_broken_line_are_given(tmp_path):
    for name, content in [("a.jsonl", "{}\n{}\n{"), ("a.json", "[{}, {}, {"), ("a.csv", 'a\n1\n"')]:
        rows = read_rows(put(tmp_path, name, content))
        next(rows)
        if name != "a.csv":
            assert next(rows) == {}
        with pytest.raises(UserError, match="is no valid"):
            next(rows)


def test_a_row_of_ten_megabytes(tmp_path):
    text = "x" * (10 << 20) + '"\n,'
    files = {
        "a.jsonl": json.dumps({"a": text}),
        "a.json": json.dumps([{"a": text}]),
        "a.csv": to_csv([["a"], [text]]),
        "a.parquet": to_parquet([{"a": text}]),
    }
    for name, content in files.items():
        assert list(read_rows(put(tmp_path, name, content))) == [{"a": text}]


def test_the_limit_of_csv_cells_is_not_lowered(tmp_path):
    before = csv.field_size_limit(1 << 30)
    try:
        list(read_rows(put(tmp_path, "a.csv", "a\n1\n")))
        assert csv.field_size_limit() == 1 << 30
    finally:
        csv.field_size_limit(before)


def test_memory_stays_small(tmp_path):
    rows = [{"text": f"{n}" * 20, "numbers": [float(n)] * 60} for n in range(1000)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    table = to_csv([["a", "b"], *([row["text"], row["numbers"]] for row in rows)])
    for name, content in [("a.jsonl", lines), ("a.jsonl.gz", lines), ("a.csv", table)]:
        assert peak_of_reading(put(tmp_path, name, content)) < len(content) / 2
    for shape in (rows, {"data": rows}):  # the bytes and the text; rows would be five times more
        text = json.dumps(shape, indent=0)
        assert peak_of_reading(put(tmp_path, "a.json", text)) < 2.5 * len(text)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz", "a.json.gz", "a.parquet.gz"])
def test_what_unpacks_without_end_is_refused_at_a_bound(name, tmp_path, monkeypatch):
    monkeypatch.setattr("dpo_lite.data.file_text.MAX_LINE", 1 << 20)
    monkeypatch.setattr("dpo_lite.data.file_text.MAX_UNPACKED", 1 << 20)
    path = tmp_path / name
    path.write_bytes(gzip.compress(b'"prompt": "' + b"x" * (1 << 24)))
    assert path.stat().st_size < 1 << 15
    tracemalloc.start()
    with pytest.raises(UserError, match="over 1 MiB"):
        list(read_rows(path))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1 << 23
