"""A study as the Runs tab shows it, from folders as runs leave them."""

import json

import pytest

from dpo_lite.compare.votes import add_vote
from dpo_lite.errors import UserError
from dpo_lite.files import write_json
from dpo_lite.recipe import load_recipe, to_yaml
from dpo_lite.report.rounds import read_rounds
from dpo_lite.report.sweep_rows import SweepRow
from dpo_lite.runs.folder import create_run
from dpo_lite.runs.studies import FILE, Study
from dpo_lite.ui import rounds_draft, run_files
from dpo_lite.ui.rounds_draft import MODEL, REWARD, VOTES, Asked
from dpo_lite.ui.study_views import mark, ranked, study_html, to_vote_on


def finished(folder, name, recipe="quickstart", right=None, n=50):
    run = create_run(folder, name, "x")
    run.recipe_file.write_text(to_yaml(load_recipe(recipe)))
    run.update_status(state="finished")
    counts = {"rewards/accuracies": {"successes": right, "n": n}}
    held_out = {} if right is None else {"rewards/accuracies": right / n, "counts": counts}
    results = {"sets": {"test": held_out} if held_out else {}, "seconds": 3.0}
    (run.path / "results.json").write_text(json.dumps(results))
    return run


def sweep(folder, rights):
    values = {f"s-beta{right}": {"train.beta": str(right)} for right in rights}
    for name, right in zip(values, rights, strict=True):
        finished(folder, name, right=right)
    values["s-beta9"] = {"train.beta": "9"}
    study = Study(folder / "s.sweep")
    study.path.mkdir()
    write_json(study.path / "sweep.json", {"given": {}, "keys": ["train.beta"], "runs": values})
    return study


@pytest.mark.parametrize(
    ("rights", "told"),
    [((10, 48), "Best by accuracy: s-beta48"), ((40, 42), "No difference is seen in accuracy")],
)
def test_a_ranking_with_intervals_and_what_can_be_said_of_it(tmp_path, rights, told):
    study = sweep(tmp_path, rights)
    write_json(study.path / FILE, {"state": "running", "pid": None, "command": ["dpo-lite", "s"]})
    html = study_html(study, run_files.statuses(tmp_path))
    assert f"2 of 3 runs are finished. {told}" in html
    better, worse = (html.index(f'data-run="s-beta{right}"') for right in (rights[1], rights[0]))
    assert better < worse < html.index("to train")
    assert f"{rights[1] / 50:.0%} (" in html  # a share with its interval
    assert "interrupted" in html
    assert "$ " not in html
    assert "dpo-lite s" in html


def test_rows_without_a_number_come_last():
    rows = [
        SweepRow(name, {"k": name}, "finished", None, sets, None, None)
        for name, sets in (
            ("a", {}),
            ("b", {"t": {"accuracy": 0.5}}),
            ("c", {"t": {"accuracy": 1}}),
        )
    ]
    assert [row.run for row in ranked(rows)] == ["c", "b", "a"]


def test_rounds_show_how_far_each_is_with_its_run(tmp_path):
    finished(tmp_path, "demo")
    finished(tmp_path, "demo-round-1", right=30)
    (tmp_path / "demo-round-1.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    (tmp_path / "demo-round-2.jsonl").write_text('{"a": 1}\n')
    tally = {"rewards": 6.0, "answers": 4}
    (tmp_path / "demo-round-1.jsonl.json").write_text(json.dumps(tally))
    rows = read_rounds(tmp_path, "demo", 3)
    assert [row.reward for row in rows] == [1.5, None, None]
    assert [row.pairs for row in rows] == [2, 1, None]
    assert [row.status is not None for row in rows] == [True, False, False]
    study = Study(tmp_path / "demo.rounds")
    study.path.mkdir()
    facts = {"state": "waits", "first": "demo", "rounds": 3, "by": "votes"}
    write_json(study.file, facts)
    html = study_html(study, run_files.statuses(tmp_path))
    assert "waits for your votes" in html
    assert "+1.50" in html
    assert "after" not in html
    (tmp_path / "demo-after-round-3.jsonl.json").write_text(json.dumps(tally | {"rewards": 8.0}))
    assert "+2.00" in study_html(study, run_files.statuses(tmp_path))
    assert 'data-run="demo-round-1"' in html
    assert 'data-run="demo-round-2"' not in html
    assert "test 60% (30 of 50" in html
    pair = {"policy": "demo-round-1", "prompt": "p", "conversation": [], "answers": ["a", "b"]}
    (tmp_path / "demo-round-2.ballot.jsonl").write_text(json.dumps(pair) + "\n")
    assert to_vote_on(study) == "demo-round-1"
    shown = [{"label": x, "fingerprint": "", "answer": x} for x in "ab"]
    said = {"prompt": "p", "shown": shown, "sampling": {}, "verdict": "tie", "blind": True}
    add_vote(tmp_path, run="demo-round-1", **said)
    assert to_vote_on(study) is None
    before = mark([study])
    study.note(doing="drawing 5 of 9")
    assert mark([study]) != before


def test_the_command_of_rounds_names_the_judge(tmp_path):
    finished(tmp_path, "demo")
    finished(tmp_path, "judge", "reward-quickstart")
    assert rounds_draft.reward_runs(tmp_path) == ["judge"]
    start = ["dpo-lite", "rounds", str(tmp_path / "demo")]
    end = ["--runs", str(tmp_path)]

    def command(*fields):
        return rounds_draft.command(tmp_path, "demo", Asked(*fields))

    judge = ["--reward", str(tmp_path / "judge")]
    assert command(REWARD, "judge") == [*start, *judge, "--rounds", "3", *end]
    by_votes = command(VOTES, "", "", "", 2, 20)
    assert by_votes == [*start, "--judge", "votes", "--rounds", "2", "--prompts", "20", *end]
    assert "--prompts" not in command(VOTES, "", "", "", 2, 0)
    asked = command(MODEL, "", "http://127.0.0.1:8000/v1", "qwen3-8b")
    assert asked[3:7] == [
        "judge.url=http://127.0.0.1:8000/v1",
        "judge.model=qwen3-8b",
        "--judge",
        "model",
    ]
    for fields, why in (
        ((REWARD, ""), "Which reward"),
        ((MODEL, "", "http://x", ""), "its address and its name"),
        ((VOTES, "", "", "", 1.5), "Rounds: a whole number"),
        ((VOTES, "", "", "", 1, -2), "Prompts a round"),
    ):
        with pytest.raises(UserError, match=why):
            command(*fields)
    with pytest.raises(UserError, match="gives no answers"):
        rounds_draft.command(tmp_path, "judge", Asked(VOTES))
    with pytest.raises(UserError, match="does not run"):
        rounds_draft.command(tmp_path, "demo", Asked(REWARD, "file.py:score"), allow_code=False)
