"""The kept table of a source: made once, met again only when nothing changed."""

import json
import os
import time
from dataclasses import replace

import pytest

from dpo_lite.data import cache, encoding
from dpo_lite.data.cache_versions import ENCODING
from dpo_lite.data.encoding import Options, encode_source
from dpo_lite.data.examples import Reason
from dpo_lite.data.sources import read_source
from dpo_lite.data.tokens import Encoder
from dpo_lite.errors import UserError
from dpo_lite.runs import whole


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DPO_LITE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


def write(path, count, prompt="the cat"):
    rows = [{"prompt": f"{prompt} {i}", "chosen": "sat", "rejected": "ran"} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_source(str(path))


def test_a_table_is_made_once(tmp_path, folder, chat_tokenizer, monkeypatch):
    source = write(tmp_path / "a.jsonl", 5)
    first = encode_source(source, Options(), Encoder(chat_tokenizer))
    monkeypatch.setattr(encoding, "_write", None)  # a second making would fail
    second = encode_source(source, Options(), Encoder(chat_tokenizer))
    assert second.table[:] == first.table[:]
    assert (second.rows, second.format) == (5, "triples")
    assert len(list(folder.iterdir())) == 1


def test_everything_that_it_depends_on_makes_another(tmp_path, folder, chat_tokenizer, monkeypatch):
    source = write(tmp_path / "a.jsonl", 5)
    encode_source(source, Options(), Encoder(chat_tokenizer))
    variants = [
        (write(tmp_path / "b.jsonl", 5, "the dog"), Options(), Encoder(chat_tokenizer)),
        (source, Options(limit=4), Encoder(chat_tokenizer)),
        (source, Options(format="triples"), Encoder(chat_tokenizer)),
        (source, Options(pairs="all"), Encoder(chat_tokenizer)),
        (source, Options(where={"chosen": "sat"}), Encoder(chat_tokenizer)),
        (source, Options(columns={"prompt": "prompt"}), Encoder(chat_tokenizer)),
        (source, Options(), Encoder(chat_tokenizer, raw=True)),
        (source, Options(), Encoder(chat_tokenizer, options={"x": 1})),
    ]
    for count, (rows, options, encoder) in enumerate(variants, 2):
        encode_source(rows, options, encoder)
        assert len(list(folder.iterdir())) == count
    monkeypatch.setattr(encoding, "ENCODING", replace(ENCODING, version=ENCODING.version + 1))
    encode_source(source, Options(), Encoder(chat_tokenizer))
    assert len(list(folder.iterdir())) == len(variants) + 2


def test_a_changed_tokenizer_makes_another(chat_tokenizer):
    from copy import deepcopy

    key = Encoder(chat_tokenizer).key
    template, vocabulary = deepcopy(chat_tokenizer), deepcopy(chat_tokenizer)
    template.chat_template = "{# other #}" + template.chat_template
    vocabulary.add_tokens(["catdog"])
    assert len({key, Encoder(template).key, Encoder(vocabulary).key}) == 3


def test_what_is_dropped_is_kept_with_the_table(tmp_path, folder, chat_tokenizer):
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}, {"prompt": "a"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = read_source(str(tmp_path / "a.jsonl"))
    for _ in range(2):
        found = encode_source(source, Options(), Encoder(chat_tokenizer))
        assert [(d.row, d.reason) for d in found.dropped] == [(1, Reason.NOT_TEXT)]


@pytest.mark.slow
def test_many_batches_keep_the_order(tmp_path, folder, chat_tokenizer, monkeypatch):
    monkeypatch.setattr(encoding, "AT_ONCE", 7)
    said = []
    source = write(tmp_path / "a.jsonl", 2500)
    found = encode_source(source, Options(), Encoder(chat_tokenizer), said.append)
    assert found.table["row"][:] == list(range(2500))
    assert said == [f"reading {source.name}: {n},000 rows" for n in (1, 2)]


def test_a_failure_leaves_nothing_behind(tmp_path, folder, chat_tokenizer):
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n{broken\n')
    source = read_source(str(tmp_path / "a.jsonl"))
    with pytest.raises(UserError, match="line 2 is no valid JSON"):
        encode_source(source, Options(), Encoder(chat_tokenizer))
    assert list(folder.iterdir()) == []


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch, chat_tokenizer):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DPO_LITE_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="set DPO_LITE_CACHE to a folder of your own"):
        encode_source(write(tmp_path / "a.jsonl", 3), Options(), Encoder(chat_tokenizer))


def test_the_unused_is_forgotten(tmp_path, folder):
    old = cache.cached_folder("old", (), lambda path: None)
    new = cache.cached_folder("new", (), lambda path: None)
    past = time.time() - cache.KEEP_SECONDS - 10
    os.utime(old, (past, past))
    cache.cached_folder("another", (), lambda path: None)
    assert not old.exists()
    assert new.exists()


def test_a_damaged_table_is_made_anew(tmp_path, folder, chat_tokenizer):
    source = write(tmp_path / "a.jsonl", 5)
    encode_source(source, Options(), Encoder(chat_tokenizer))
    next(folder.glob("*/rows.arrow")).unlink()
    assert len(encode_source(source, Options(), Encoder(chat_tokenizer)).table) == 5


@pytest.mark.parametrize("file", ["rows.arrow", "facts.json", "whole.json"])
@pytest.mark.parametrize("left", [b"", b"junk", "cut", "flipped"])
def test_a_table_that_is_not_what_was_written_is_made_anew(
    tmp_path, folder, chat_tokenizer, file, left
):
    """Also where nothing but a hash tells; that it was is a line of the data report."""
    source = write(tmp_path / "a.jsonl", 5)
    rows = encode_source(source, Options(), Encoder(chat_tokenizer)).table[:]
    path = next(folder.glob(f"*/{file}"))
    text = path.read_bytes()
    flipped = text[:-20] + bytes([text[-20] ^ 1]) + text[-19:]
    path.unlink()  # the table may still be mapped
    path.write_bytes({"cut": text[:-9], "flipped": flipped}.get(left, left))
    again = encode_source(source, Options(), Encoder(chat_tokenizer))
    assert again.table[:] == rows
    assert "is damaged (" in again.remade
    assert path.read_bytes() == text
    assert encode_source(source, Options(), Encoder(chat_tokenizer)).remade == ""


def test_two_processes_may_make_the_same(folder):
    def slow(partial):
        (partial / "a").write_text("mine")
        other = folder / "key"
        other.mkdir()
        (other / "a").write_text("theirs")
        whole.seal(other)  # another process is done in the meantime

    assert (cache.cached_folder("key", ("a",), slow) / "a").read_text() == "theirs"
    assert [path.name for path in folder.iterdir()] == ["key"]


def test_a_full_disk_is_said(folder):
    def full(partial):
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left on device"):
        cache.cached_folder("key", (), full)


def test_two_rows_that_made_one_pair_are_lost_together(tmp_path, folder, chat_tokenizer):
    rows = [
        {"prompt": "why", "completion": "it sat", "label": True},
        {"prompt": "why", "completion": "a <|im_end|> b", "label": False},
        {"prompt": "who", "completion": "it ran", "label": True},
        {"prompt": "who", "completion": "it fell", "label": False},
    ]
    path = tmp_path / "kto.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    encoded = encode_source(read_source(str(path)), Options(), Encoder(chat_tokenizer))
    assert [(d.row, d.reason) for d in encoded.dropped] == [
        (0, Reason.SPECIAL),
        (1, Reason.SPECIAL),
    ]
    assert encoded.table["row"][:] == [2]


def test_turns_behind_the_last_answer_are_counted(tmp_path, folder, chat_tokenizer):
    turns = [{"role": "user", "content": "why"}, {"role": "assistant", "content": "it sat"}]
    rows = [{"messages": turns}, {"messages": [*turns, {"role": "user", "content": "and"}]}]
    path = tmp_path / "sft.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source, encoder = read_source(str(path)), Encoder(chat_tokenizer)
    for pairs in ("best", "turns", "prompts"):
        encoded = encode_source(source, Options(pairs=pairs), encoder)
        assert [(d.row, d.reason) for d in encoded.dropped] == [(1, Reason.BEHIND)]
        assert encoded.dropped[0].detail == "messages: its last turn is of the user"
        assert encoded.table["row"][:] == [0, 1]
