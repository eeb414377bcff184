"""Rewards from a Python file: how it is called, and every way in which it can be wrong."""

import json

import pytest

from dpo_lite.errors import UserError
from dpo_lite.judge.client import KEY
from dpo_lite.names import is_function
from dpo_lite.recipe import validate_recipe
from dpo_lite.training.judge_reward import keep_tried, try_judge
from dpo_lite.training.reward_function import called, load_function
from dpo_lite.training.reward_source import reward_print, rewarder
from tests.judge.stand_in import stand_in

EXAMPLES = [
    {"row": 7, "prompt": "a?", "response_ids": [[1, 2], [3]], "chosen_markers": ["x"]},
    {"row": 9, "prompt": "b?", "response_ids": [[4], [5, 6]], "chosen_markers": ["y"]},
]


def decode(ids):
    return " ".join(map(str, ids))


def write(folder, text):
    (folder / "judge.py").write_text(text)
    return "judge.py:score"


def test_what_names_a_function():
    assert is_function("judge.py:score")
    assert not is_function("runs/reward-1/adapter")
    assert not is_function("judge.py")


def test_it_is_called_as_trl_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = write(
        tmp_path,
        "def score(prompts, completions, **columns):\n"
        "    assert prompts == ['a?', 'a?', 'b?', 'b?']\n"
        "    assert columns == {'chosen_markers': [['x'], ['x'], ['y'], ['y']]}\n"
        "    return [len(text) for text in completions]\n",
    )
    assert called(load_function(name), name, EXAMPLES, decode).tolist() == [3.0, 1.0, 1.0, 3.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "def score(**k): return [1.0]",
            "judge.py:score must return a number for each of the 4 completions that it is given"
            " (row 7 ('a?') and on); it returned 1.",
        ),
        (
            "def score(**k): return [1.0, 2.0, float('nan'), 0.0]",
            "judge.py:score must return a finite number for each completion, and gave nan on row 9"
            " ('b?').",
        ),
        ("def score(**k): return [1.0, float('inf'), 0.0, 0.0]", "gave inf on row 7 ('a?')"),
        (
            "def score(**k): return 1 / 0",
            "judge.py:score failed on row 7 ('a?'): ZeroDivisionError",
        ),
        (
            "def score(completions, **k): return [1 / (c != '4') for c in completions]",
            "judge.py:score failed on row 9 ('b?'): ZeroDivisionError",
        ),
        (
            "def score(completions, **k): return (1 / (c != '4') for c in completions)",
            "judge.py:score failed on row 9 ('b?'): ZeroDivisionError",
        ),
        (
            "def score(completions, **k): return [1.0] if len(completions) == 1 else 1 / 0",
            "judge.py:score failed: ZeroDivisionError",  # on no single row
        ),
        ("def score(**k): return ['1.0'] * 4", "gave '1.0' on row 7 ('a?')"),
        ("def score(**k): return [1.0, None, 2.0, 3.0]", "gave None on row 7 ('a?')"),
        ("def score(**k): return 3.0", "a list with a number for each of the 4 completions, not 3"),
        ("def score(**k): return 'good'", "not 'good'"),
        ("def score(**k): pass", "not None"),
        ("other = 1", "has no function score"),
        ("def score(:", "does not load: SyntaxError"),
        ("import sys; sys.exit(1)", "does not load: SystemExit"),
    ],
)
def test_what_can_be_wrong_with_it(tmp_path, monkeypatch, text, words):
    monkeypatch.chdir(tmp_path)
    name = write(tmp_path, text)
    with pytest.raises(UserError, match=r"^ppo\.reward: ") as error:
        called(load_function(name), name, EXAMPLES, decode)
    assert words in str(error.value)


def test_it_may_use_what_lies_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "lengths_of_words.py").write_text("def of(text): return len(text)\n")
    (tmp_path / "deep" / "judge.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "import lengths_of_words\n"
        "@dataclass\nclass Scale:\n    by: float = 2.0\n"
        "def score(completions, **k): return [Scale().by * lengths_of_words.of(c) for c in"
        " completions]\n"
    )
    name = "deep/judge.py:score"
    assert called(load_function(name), name, EXAMPLES, decode).tolist() == [6.0, 2.0, 2.0, 6.0]


def test_the_file_runs_once(tmp_path, monkeypatch):
    """A reward may load a model; a changed file is another."""
    monkeypatch.chdir(tmp_path)
    code = "open('ran', 'a').write('x')\ndef score(**k): return [0.0] * 4\n"
    name = write(tmp_path, code)
    assert load_function(name) is load_function(name)
    assert (tmp_path / "ran").read_text() == "x"
    write(tmp_path, code + "# another\n")
    load_function(name)
    assert (tmp_path / "ran").read_text() == "xx"


def earned(folder, reward, **keys):
    """What rewards without a model of their own make of the examples."""
    values = {"model": {"base": "x"}, "data": {"train": "x"}, "task": "ppo"}
    recipe = validate_recipe(values | {"ppo": {"reward": reward}} | keys, "test")

    class Tokenizer:
        decode = staticmethod(lambda ids, skip_special_tokens: decode(ids))

    return recipe, rewarder(None, recipe, None, Tokenizer())(EXAMPLES, 0)


def test_several_are_added_by_their_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.py").write_text(
        "def letters(completions, **k): return [len(c) for c in completions]\n"
        "def fives(completions, **k): return ['5' in c for c in completions]\n"
    )
    both = ["two.py:letters", {"source": "two.py:fives", "weight": -2.5, "name": "no-fives"}]
    recipe, found = earned(tmp_path, both)
    assert found.parts.tolist() == [[3, 0], [1, 0], [1, 0], [3, 1]]
    assert found.total.tolist() == [3, 1, 1, 0.5]  # 3 - 2.5
    assert [one.label for one in recipe.ppo.rewards] == ["letters", "no-fives"]
    assert "1 × letters + -2.5 × no-fives" in recipe.objective
    _, alone = earned(tmp_path, "two.py:letters")
    assert (alone.parts, alone.total.tolist()) == (None, [3, 1, 1, 3])
    first = reward_print(recipe)
    assert first != reward_print(earned(tmp_path, [*both[:1], "two.py:fives"])[0])  # a weight
    (tmp_path / "two.py").write_text((tmp_path / "two.py").read_text() + "# another\n")
    assert first != reward_print(recipe)


def test_a_judge_scores_and_what_it_did_not_score_counts_as_the_others(tmp_path, monkeypatch):
    """Answers "1 2", "3", "4", "5 6": the judge gives 9, nothing, 4 and 5 of 10."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(KEY, raising=False)
    (tmp_path / "one.py").write_text("def one(completions, **k): return [1.0] * len(completions)\n")
    said = {"1 2": "SCORE: 9", "3": "I would rather not.", "4": "SCORE: 4", "5 6": "SCORE: 5"}

    def reply(body):
        text = body["messages"][0]["content"]
        return next(own for answer, own in said.items() if f"]\n{answer}\n[end of ans" in text)

    with stand_in(reply) as server:
        judge = {"url": server.url, "model": "x"}
        _, found = earned(tmp_path, "judge", judge=judge)
        assert found.total.tolist() == pytest.approx([0.9, 0.6, 0.4, 0.5])
        assert found.unread.tolist() == [False, True, False, False]
        _, found = earned(tmp_path, ["judge", {"source": "one.py:one", "weight": 2}], judge=judge)
        assert found.total.tolist() == pytest.approx([2.9, 2.6, 2.4, 2.5])


def test_what_a_judge_said_when_it_was_tried_is_kept_and_not_asked_again(tmp_path, monkeypatch):
    """Before there is a run the reply waits; of a run that goes on it is in its file."""
    monkeypatch.delenv(KEY, raising=False)
    file = tmp_path / "judge" / "rewards.jsonl"
    with stand_in(lambda body: "SCORE: 9") as server:
        values = {"task": "ppo", "model": {"base": "b"}, "data": {"train": "d"}}
        values |= {"ppo": {"reward": "judge"}, "judge": {"url": server.url, "model": "x"}}
        recipe = validate_recipe(values, "test")
        try_judge(recipe)
        for _ in range(2):
            keep_tried(recipe, file)
        (line,) = map(json.loads, file.read_text().splitlines())
        assert (line["reply"], line["read"]) == ("SCORE: 9", 0.9)
        try_judge(recipe, file)
        assert server.asked == 1


@pytest.mark.parametrize("name", ["none.py:score", "../judge.py:score"])
def test_only_files_under_the_current_folder(tmp_path, monkeypatch, name):
    write(tmp_path, "def score(**k): return []")
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    with pytest.raises(UserError, match="there is no file"):
        load_function(name)
