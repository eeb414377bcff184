"""What `best-of` shows and writes: the guard's reasons are seen, what it set aside is no data."""

import io
import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from dpo_lite.cli import app, judging
from dpo_lite.errors import UserError
from dpo_lite.evaluate.best_of import Ranked
from dpo_lite.evaluate.guard import Aside
from dpo_lite.recipe import load_recipe

SALAD = Aside("unlikely", "−4.58 nats per token under the reference, its own have −0.31", 0.78)
RANKED = [
    Ranked("bats can see", 0.3, 5, True, 1),
    Ranked("bats are blind", -0.4, 5, True, 2),
    Ranked("good good good zones", 0.9, 6, True, 3, SALAD),
]


@pytest.fixture
def screen(monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(judging, "console", Console(file=text, width=200))
    return text


def test_the_policys_answers_are_not_written_without_the_guard(tmp_path):
    """Said before a run is looked for."""
    out = str(tmp_path / "x.jsonl")
    asked = ["best-of", "no-run", "--from", "policy", "--no-guard"]
    refused = CliRunner().invoke(app, [*asked, "--out", out])
    assert isinstance(refused.exception, UserError)
    assert "leave --no-guard or --out away" in str(refused.exception)
    assert "no run no-run" in str(CliRunner().invoke(app, asked).exception)


@pytest.mark.parametrize("command", ["score", "best-of"])
def test_a_file_that_cannot_be_written_is_told_before_anything_is_loaded(
    command, tmp_path, monkeypatch
):
    recipe = load_recipe("quickstart", [f"data.train={tmp_path / 'pairs.jsonl'}"])
    monkeypatch.setattr("dpo_lite.evaluate.judge.judge_recipe", lambda *given: (recipe, tmp_path))
    (tmp_path / "pairs.jsonl").write_text("{}")
    asked = [command, "run", *([str(tmp_path / "pairs.jsonl")] if command == "score" else [])]

    def told(out):
        return str(CliRunner().invoke(app, [*asked, "--out", str(out)]).exception)

    assert "--out: there is no folder" in told(tmp_path / "none" / "x.jsonl")
    assert "is a folder; name a file in it" in told(tmp_path)
    if command == "score":
        assert "is the data that is scored" in told(tmp_path / "pairs.jsonl")
    assert (tmp_path / "pairs.jsonl").read_text() == "{}"


def test_what_is_set_aside_is_shown_with_its_reason(screen):
    judging._print_ranked("Are bats blind?", RANKED)
    first, *ranks, told = screen.getvalue().strip().splitlines()
    assert first == "Are bats blind?"
    assert [line.split()[0] for line in ranks] == ["1", "2", "–"]
    assert ranks[-1].rstrip().endswith(f"good good good zones  ×3  (unlikely: {SALAD.words})")
    assert told == (
        "3 of 6 answers set aside: 3 less likely under the reference than −0.78 nats per token"
    )
    judging._print_ranked("again?", RANKED[:2])
    assert screen.getvalue().count("set aside") == 1


def test_what_is_set_aside_is_not_written(screen, tmp_path):
    out = tmp_path / "ranked.jsonl"
    judging._append(out, "Are bats blind?", RANKED)
    (line,) = out.read_text().splitlines()
    assert json.loads(line) == {
        "prompt": "Are bats blind?",
        "responses": ["bats can see", "bats are blind"],
        "scores": [0.3, -0.4],
    }
    judging._append(out, "Are bats blind?", RANKED[1:])
    assert len(out.read_text().splitlines()) == 1
    assert "not written" in screen.getvalue()
