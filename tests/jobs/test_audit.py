"""The audit of a recipe's data: what is written keeps every row or counts it."""

import json

import pytest
from typer.testing import CliRunner

from dpo_lite.cli import app
from dpo_lite.errors import UserError
from dpo_lite.jobs.audit import audit, drop_doubtful, refuse_grouped, review_of
from dpo_lite.jobs.doctor import asked_recipe, prepared
from dpo_lite.report.audit import audit_words, draw_shortcuts, dropped_words, shortcut_rows
from tests.data.test_audit import POLITE, RUDE, flipped, made, neutral, polite


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


def test_a_review_lists_each_doubted_row_once_and_says_why(wrong):
    path, _ = wrong
    recipe, found, data = audited(path)
    review = review_of(recipe, found, data)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [pair["row"] for pair in review["doubtful"]] == found.rows
    assert review["rows"] == len(found.rows)
    for pair in review["doubtful"]:
        assert pair["chosen"] == rows[pair["row"]]["chosen"]
        assert pair["turns"] == [["user", rows[pair["row"]]["prompt"]]]
        assert pair["no_flip"] == ""
    # what was planted is what is told: polite words speak for the answer that is labelled worse
    why = review["doubtful"][0]["why"]
    for_rejected, against_chosen = why.split(" Against the chosen one speaks ")
    assert any(f"“{word}”" in for_rejected for word in POLITE)
    assert any(f"“{word}”" in against_chosen for word in RUDE)
    with pytest.raises(UserError, match="made of two rows"):
        refuse_grouped("kto", "Audit")


def test_decisions_on_the_command_line(wrong, tmp_path):
    path, flips = wrong
    made, out = tmp_path / "made.jsonl", tmp_path / "out.jsonl"
    made.write_text("".join(f'{{"row": {row}, "decision": "flip"}}\n' for row in flips))
    words = ["data", str(path), "--decisions", str(made)]
    told = CliRunner().invoke(app, [*words, "--out", str(out)])
    assert told.exit_code == 0, told.output
    assert f"{len(flips)} turned round" in " ".join(told.output.split())
    before = [json.loads(line) for line in path.read_text().splitlines()]
    after = [json.loads(line) for line in out.read_text().splitlines()]
    assert {n for n, row in enumerate(before) if row != after[n]} == flips
    assert all(after[n]["chosen"] == before[n]["rejected"] for n in flips)
