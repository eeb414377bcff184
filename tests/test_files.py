"""Small files: what is read of a damaged one, and what no file can hold."""

import pytest

from dpo_lite.errors import UserError
from dpo_lite.files import json_text, read_json, write_json, write_text


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 5000, b"9" * 5000])
def test_a_damaged_object_is_one_sentence(tmp_path, text):
    file = tmp_path / "facts.json"
    assert read_json(file) is None
    file.write_bytes(text)
    with pytest.raises(UserError, match=r"facts\.json is damaged"):
        read_json(file)


def test_half_a_letter_is_written_as_json_spells_it(tmp_path):
    value = {"text": "a\ud800é"}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert json_text({"text": "é"}) == '{"text": "é"}'
    write_text(tmp_path / "report.md", "a\ud800é")
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == "a?é"
