"""The files of a drawing and of a round: what a kill leaves, and how many pairs they hold."""

import json
from types import SimpleNamespace

import pytest

from dpo_lite.errors import UserError
from dpo_lite.evaluate import own_pairs
from dpo_lite.runs.folder import Run
from dpo_lite.studies import rounds


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_kill_within_the_first_lines_is_gone_on_from(tmp_path, monkeypatch):
    """Lines without a note beside them would be somebody else's file."""
    drawing = SimpleNamespace(
        prompts=[{}] * 3, recipe=SimpleNamespace(train=SimpleNamespace(seed=1))
    )
    monkeypatch.setattr(own_pairs, "_settings", lambda *asked: {"seed": 1})
    monkeypatch.setattr(own_pairs, "_pairs_of", lambda *asked: [{"prompt": "p"}] * 3)
    out, note = tmp_path / "pairs.jsonl", own_pairs.note

    def killed(out, settings, tally, done):
        if done:
            raise KeyboardInterrupt
        note(out, settings, tally, done)

    monkeypatch.setattr(own_pairs, "note", killed)
    with pytest.raises(KeyboardInterrupt):
        own_pairs.draw_pairs(drawing, out, 0.0)
    assert len(lines(out)) == 3
    monkeypatch.setattr(own_pairs, "note", note)
    own_pairs.draw_pairs(drawing, out, 0.0)
    assert len(lines(out)) == 3
    (tmp_path / "pairs.jsonl.json").write_text('{"drawn_by": {"seed": 1}, "done": "x", "bytes": 0}')
    with pytest.raises(UserError, match="is damaged"):
        own_pairs.draw_pairs(drawing, out, 0.0)


def test_pairs_are_counted_by_lines_and_not_by_what_stands_in_answers(tmp_path, monkeypatch):
    """U+2028 and U+0085 end a line for str.splitlines, and for nobody who reads JSON lines."""
    out = tmp_path / "a-round-1.jsonl"
    out.write_text('{"chosen": "a\u2028b\u0085c"}\n{"chosen": "d"}\n', encoding="utf-8")
    monkeypatch.setattr(rounds, "_drawn", lambda *asked: own_pairs.Tally(pairs=2))
    asked = rounds.Asked(1, {}, None, 0.0, 1, by="votes")
    tally = rounds._pairs(None, Run(tmp_path / "a"), asked, 1, out, print, print)
    assert tally.pairs == 2
