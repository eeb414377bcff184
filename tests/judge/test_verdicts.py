"""What is counted of a judge's outcomes, and how it is told in report and card."""

import json

from dpo_lite.judge.verdicts import (
    EXPLAINED,
    Places,
    counted,
    keep_verdict,
    markdown,
    read_verdicts,
    rows_of,
    win_rate,
)

OUTCOMES = ["first"] * 6 + ["second"] * 2 + ["tie", "same", "by place", "by place", "unread"]
SPENT = {"questions": 24, "uncounted": 0, "tokens_in": 2400, "tokens_out": 480, "cost": 0.02}


def entry(**changes):
    return {
        "judge": "qwen (10.0.0.7)",
        "model": "qwen",
        "criteria": "True\nand short.",
        "max_new_tokens": 40,
        "sets": {"test": counted(OUTCOMES)},
        "spent": SPENT,
    } | changes


def test_a_win_rate_by_hand():
    """6 wins and half of 4 others over 12 that were read: 8 / 12."""
    rate = win_rate(counted(OUTCOMES))
    assert (rate.share, rate.n) == (8 / 12, 12)
    assert win_rate(counted(["unread"] * 3)) is None
    ((*row,),) = rows_of(entry())
    assert row == ["test", "67% (39–86%) of 12", "6", "2", "1", "1", "2", "1"]
    assert rows_of(entry(sets={"test": counted(["unread"])}))[0][1] == "–"


def test_report_and_card():
    lines = markdown([entry()])
    assert lines[0] == "## Judged"
    assert lines[2] == (
        "Judged by qwen (10.0.0.7): “True and short.” 24 questions, 2,400 tokens in and 480 out,"
        " cost 0.02; greedy answers of up to 40 tokens."
    )
    assert EXPLAINED in lines
    assert "| test | 67% (39–86%) of 12 | 6 | 2 | 1 | 1 | 2 | 1 |" in lines
    public = "\n".join(markdown([entry()], public=True))
    assert "Judged by qwen: " in public
    assert "10.0.0.7" not in public
    assert markdown([]) == []


def test_one_entry_for_each_judge_and_question(tmp_path):
    Places(tmp_path).folder.joinpath("judge").mkdir()
    assert read_verdicts(tmp_path) == []
    for each in (entry(), entry(judge="other (x)"), entry(sets={"test": counted(["first"])})):
        keep_verdict(tmp_path, each)
    kept = read_verdicts(tmp_path)
    assert [one["judge"] for one in kept] == ["other (x)", "qwen (10.0.0.7)"]
    assert win_rate(kept[1]["sets"]["test"]).n == 1
    file = Places(tmp_path).verdicts
    file.write_text(json.dumps({"judged": [entry(), {"judge": 1}, entry(sets={"t": {}}), "no"]}))
    assert len(read_verdicts(tmp_path)) == 1
    file.write_text("{")
    assert read_verdicts(tmp_path) == []
