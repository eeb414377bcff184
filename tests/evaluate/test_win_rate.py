"""The policy's answers against the reference's by a judge: both orders, counted, asked once."""

import json

import pytest
from typer.testing import CliRunner

from dpo_lite.cli import app
from dpo_lite.errors import UserError
from dpo_lite.evaluate.preferences import compare_by, judging_recipe
from dpo_lite.hub.card import _judged
from dpo_lite.hub.subject import Subject
from dpo_lite.judge.questions import conversation_of
from dpo_lite.judge.replies import open_judge
from dpo_lite.judge.verdicts import Places
from dpo_lite.recipe import load_recipe, to_yaml
from dpo_lite.report.run import write_report
from dpo_lite.runs.folder import Run
from tests.evaluate.test_own_pairs import trained  # noqa: F401
from tests.judge.stand_in import prefers, stand_in

ASK = [[{"role": "user", "content": "so?"}]]


def test_both_orders_of_each_pair():
    pairs = [("aaa", "a"), ("a", "aa"), ("b", "a"), ("x", "x "), ("no verdict", "y")]

    def reply(body):
        return "hm" if "no verdict" in str(body) else prefers(len)(body)

    with stand_in(reply) as server:
        judge, done = open_judge(server.section(), None), []
        outcomes, replies = compare_by(judge, ASK * 5, pairs, done.append)
        assert outcomes == ["first", "second", "tie", "same", "unread"]
        assert (server.asked, len(replies), sum(done)) == (8, 8, 8)
        server.reply = lambda body: "VERDICT: A"
        assert compare_by(open_judge(server.section(), None), ASK, [("a", "b")])[0] == ["by place"]


def test_a_conversation_is_whole_where_it_is_known():
    system = [{"role": "system", "content": "Be kind."}]
    question = {"role": "user", "content": "So?"}
    assert conversation_of({"prompt": "So?", "before": json.dumps(system)}) == [*system, question]
    for before in (None, ""):
        assert conversation_of({"prompt": "So?", "before": before}) == [question]


@pytest.mark.slow
def test_the_command_from_answers_to_card(trained, monkeypatch):  # noqa: F811
    def judged(*more):
        words = ["judge", trained.name, *more, "--runs", str(trained.path.parent)]
        return CliRunner().invoke(app, words)

    with pytest.raises(UserError, match=r"'model\.base=x' is no key of the judge"):
        judging_recipe(trained, ["model.base=x"])
    assert "judge.url is missing" in str(judged().exception)
    with stand_in(prefers(len)) as server:
        keys = [f"judge.url={server.url}", "judge.model=ruler", "judge.price_in=1"]
        first = judged(*keys, "--max-new-tokens", "6")
        assert first.exit_code == 0, first.output
        assert "judged by ruler" in first.output.lower()
        kept = json.loads(Places(trained.path).answers.read_text())["answers"]
        assert len(kept) == 4  # all held-out prompts
        assert server.asked == 2 * sum(a["policy"] != a["reference"] for a in kept)
        asked = server.asked

        def no_model(*arguments):
            raise AssertionError("nothing is loaded again")

        monkeypatch.setattr("dpo_lite.evaluate.win_rate.load_trained", no_model)
        again = judged(*keys, "--max-new-tokens", "6")
        assert again.exit_code == 0, again.output
        assert server.asked == asked
    write_report(trained)
    assert "Judged by ruler (127.0.0.1)" in (trained.path / "report.md").read_text()
    card = _judged(Subject(trained, None, trained.adapter, "", None, None, {}))
    assert "Judged by ruler: " in card


def test_a_reward_model_gives_no_answers(tmp_path):
    """Its adapter can be put on the base and would answer: no policy was trained there."""
    recipe = load_recipe("reward-quickstart", [f"run.folder={tmp_path}"])
    run = Run(tmp_path / "reward-1")
    run.path.mkdir()
    run.recipe_file.write_text(to_yaml(recipe))
    with pytest.raises(UserError, match=r"^reward-1 is a reward model: .*; name the run of a pol"):
        judging_recipe(run, [])
