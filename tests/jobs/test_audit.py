"""The audit of a recipe's data: what is written keeps every row or counts it."""

import json

import pytest

from dpo_lite.errors import UserError
from dpo_lite.jobs.audit import audit, drop_doubtful
from dpo_lite.jobs.doctor import asked_recipe, prepared
from dpo_lite.report.audit import audit_words, draw_shortcuts, dropped_words, shortcut_rows
from tests.data.test_audit import flipped, made, neutral, polite


@pytest.fixture(scope="module")
def wrong(tmp_path_factory):
    """A file of pairs of which some are the wrong way round, and which rows these are."""
    folder = tmp_path_factory.mktemp("audit")
    pairs, wrong = flipped(made(400, polite), 0.05, seed=2)
    rows = [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs]
    rows.insert(7, {"prompt": "x", "chosen": "a", "rejected": "a"})  # dropped by the doctor
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path, {number + (number >= 7) for number in wrong}


def audited(source, *overrides):
    recipe = asked_recipe(str(source), overrides, None, lambda text: None)
    tokenizer, data = prepared(recipe)
    return recipe, audit(recipe, tokenizer, data), data


def test_rows_without_the_doubtful_ones(wrong, tmp_path):
    path, flips = wrong
    recipe, found, data = audited(path)
    out = tmp_path / "sound.jsonl"
    facts = drop_doubtful(recipe, found, data.report.format, out)
    kept = [json.loads(line) for line in out.read_text().splitlines()]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    dropped = facts["dropped_rows"]
    assert kept == [row for number, row in enumerate(rows) if number not in dropped]
    assert facts["kept"] + facts["dropped"] == facts["rows"] == 401
    assert len(flips & set(dropped)) >= 0.9 * len(dropped) > 5
    beside = json.loads((tmp_path / "sound.jsonl.json").read_text())
    assert beside == facts
    assert beside["parent"] == str(path)
    assert f"{len(kept)} of 401 rows" in dropped_words(facts, out)
    with pytest.raises(UserError, match="exists"):
        drop_doubtful(recipe, found, data.report.format, out)
    assert found.doubted(1)[0]["row"] == found.rows[0]


def test_words_and_picture(wrong, tmp_path):
    _, found, _ = audited(wrong[0])
    cells = shortcut_rows(found.shortcuts)
    assert cells[0][0] == "length"
    words = " ".join(audit_words(found.shortcuts, found.doubts, len(found.pairs)))
    assert "50 % is chance" in words
    assert f"the other way in {len(found.doubts.doubtful)}" in words
    draw_shortcuts(found.shortcuts, "pairs", tmp_path / "audit.png")
    assert (tmp_path / "audit.png").stat().st_size > 5_000


def test_what_cannot_be_audited_or_dropped(wrong, tmp_path):
    path, _ = wrong
    few = tmp_path / "few.jsonl"
    few.write_text("".join(path.read_text().splitlines(keepends=True)[:20]))
    with pytest.raises(UserError, match="too few"):
        audited(few)
    with pytest.raises(UserError, match="single responses"):
        audited(path, "data.pairs=prompts")
    recipe, found, _ = audited(path)
    with pytest.raises(UserError, match="made of two rows"):
        drop_doubtful(recipe, found, "kto", tmp_path / "a.jsonl")
    with pytest.raises(UserError, match="end its name in"):
        drop_doubtful(recipe, found, "triples", tmp_path / "a.csv")
    some = made(200, lambda draw: (neutral(draw, 20), neutral(draw, 20)))
    rows = [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in some]
    chance = tmp_path / "chance.jsonl"
    chance.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe, found, _ = audited(chance)
    with pytest.raises(UserError, match="cannot tell"):
        drop_doubtful(recipe, found, "triples", tmp_path / "a.jsonl")
    assert not (tmp_path / "a.jsonl").exists()
