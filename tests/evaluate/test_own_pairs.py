"""A policy's own answers as pairs: the best against the worst, and a drawing that goes on."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from dpo_lite.errors import UserError
from dpo_lite.evaluate import own_pairs
from dpo_lite.evaluate.own_pairs import draw_pairs, load_drawing
from dpo_lite.evaluate.round_recipes import drawing_recipe, recipe_of_pairs
from dpo_lite.jobs import train as job
from dpo_lite.recipe import load_recipe, validate_recipe
from tests.cats import write_cats

JUDGE = """
def letters(prompts, completions, **columns):
    return [sum(c.isalpha() for c in text) for text in completions]

def equal(prompts, completions, **columns):
    return [1.0 for text in completions]
"""


@pytest.fixture(scope="module")
def trained(tiny_base, tmp_path_factory):
    """A run with a policy, in a folder of its own that is the current one of these tests."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "cats").mkdir()
    write_cats(folder / "cats", train=range(40), test=range(40, 44))
    (folder / "judge.py").write_text(JUDGE)
    values = {
        "model": {"base": tiny_base},
        "data": {"train": str(folder / "cats")},
        "train": {"max_steps": 2, "lr": 1e-3, "batch_size": 8, "loss": "ipo"},
        "eval": {"generate": 0},
        "run": {"folder": str(folder / "runs")},
    }
    return job.start(validate_recipe(values, "test"), "cats", Console(quiet=True))


@pytest.fixture(autouse=True)
def beside_the_judge(trained, monkeypatch):
    monkeypatch.chdir(trained.path.parent.parent)


def drawing(trained, reward="judge.py:letters", answers=4, seed=0):
    section = {"reward": reward, "answers": answers, "max_new_tokens": 8}
    recipe = drawing_recipe(load_recipe(trained.recipe_file), trained.adapter, section, seed)
    return load_drawing(recipe, None, lambda text: None)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def ended_everywhere(monkeypatch):
    """So small a model hardly ever ends by itself; here every answer does."""

    def ends_with_anything(real):
        def ruler(*arguments):
            found = real(*arguments)
            object.__setattr__(found, "ends", set(range(1000)))
            return found

        return ruler

    drawn = own_pairs.draw_answers

    def whole(model, prompts, ppo, ends, at_once, role):
        return drawn(model, prompts, ppo, {2}, at_once, role)

    for name in ("ruler_of", "unrewarded"):
        monkeypatch.setattr(own_pairs, name, ends_with_anything(getattr(own_pairs, name)))
    monkeypatch.setattr(own_pairs, "draw_answers", whole)


@pytest.mark.slow
def test_the_best_stands_against_the_worst(trained, tmp_path, monkeypatch):
    ended_everywhere(monkeypatch)
    tally = draw_pairs(drawing(trained), tmp_path / "a.jsonl", 0.0)
    rows = lines(tmp_path / "a.jsonl")
    assert len(rows) == tally.pairs > 20
    assert tally.pairs + tally.alike + tally.unfinished + tally.tools == 40
    assert tally.answers == 160
    letters = lambda turns: sum(c.isalpha() for c in turns[0]["content"])  # noqa: E731
    for row in rows:
        assert row["prompt"][0]["content"].startswith("what did cat")
        assert letters(row["chosen"]) > letters(row["rejected"])
        assert row["rewards"] == [letters(row["chosen"]), letters(row["rejected"])]
    assert draw_pairs(drawing(trained), tmp_path / "b.jsonl", 1e6).alike > 20
    assert not lines(tmp_path / "b.jsonl")


@pytest.mark.slow
def test_what_did_not_end_is_no_data(trained, tmp_path):
    tally = draw_pairs(drawing(trained), tmp_path / "a.jsonl", 0.0)
    assert tally.unfinished + tally.alike + tally.pairs == 40
    assert tally.unfinished > 20


@pytest.mark.slow
def test_a_drawing_that_was_left_goes_on_to_the_same_lines(trained, tmp_path, monkeypatch):
    ended_everywhere(monkeypatch)
    whole, part = tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    expected = draw_pairs(drawing(trained), whole, 0.0)

    def stop(count):
        if part.exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_pairs(drawing(trained), part, 0.0, stop)
    first = part.read_text()
    assert first
    part.write_text(first + '{"prompt": half of a li')  # as a kill in the middle of writing leaves
    assert draw_pairs(drawing(trained), part, 0.0) == expected
    assert part.read_bytes() == whole.read_bytes()
    again = draw_pairs(drawing(trained), part, 0.0)  # it is whole, and nothing is drawn
    assert again == expected
    assert part.read_bytes() == whole.read_bytes()
    with pytest.raises(UserError, match=r"part\.jsonl was drawn with another margin"):
        draw_pairs(drawing(trained), part, 2.0)
    with pytest.raises(UserError, match="another answers, seed"):
        draw_pairs(drawing(trained, answers=3, seed=1), part, 0.0)
    (tmp_path / "mine.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"mine\.jsonl exists"):
        draw_pairs(drawing(trained), tmp_path / "mine.jsonl", 0.0)


@pytest.mark.slow
def test_the_next_round_is_trained_from_there(trained, tmp_path, monkeypatch):
    ended_everywhere(monkeypatch)
    out = tmp_path / "round.jsonl"
    draw_pairs(drawing(trained), out, 0.0)
    recipe = recipe_of_pairs(load_recipe(trained.recipe_file), trained.adapter, out)
    assert (recipe.task, recipe.train.loss, recipe.reference) == ("dpo", "ipo", "start")
    assert recipe.data.eval == [f"{trained.path.parent.parent / 'cats'}:test"]
    run = job.start(recipe, "round", Console(quiet=True))
    assert run.status()["state"] == "finished"
    assert run.steps()[0]["rewards/margins"] == 0  # policy equals the adapter that drew
    assert "test" in json.loads((run.path / "results.json").read_text())["sets"]


def held_out_by(folder, **data):
    """What a round is held up to, after a run on these data."""
    recipe = validate_recipe({"model": {"base": "a/b"}, "data": data}, "test")
    found = recipe_of_pairs(recipe, folder / "adapter", folder / "round.jsonl").data
    return found.held_out


def test_a_round_is_held_up_to_what_the_run_held_out(tmp_path):
    rows = {"pairs": [], "named": [], "said": []}
    for n in range(4):
        ask, good, bad = f"q{n}", f"good {n}", f"bad {n}"
        rows["pairs"].append({"prompt": ask, "chosen": good, "rejected": bad})
        rows["named"].append({"ask": ask, "good": good, "bad": bad})
        rows["said"].append({"prompt": ask, "completion": good})
    files = {}
    for name, some in rows.items():
        files[name] = str(tmp_path / f"{name}.jsonl")
        Path(files[name]).write_text("".join(json.dumps(row) + "\n" for row in some))
    (own,) = held_out_by(tmp_path, train=files["pairs"])
    assert (own.source, own.share) == (files["pairs"], 0.05)
    both = held_out_by(tmp_path, train=files["pairs"], eval=files["pairs"], eval_share=0.2)
    assert [part.share for part in both] == [None, 0.2]
    columns = {"prompt": "ask", "chosen": "good", "rejected": "bad"}
    (named,) = held_out_by(tmp_path, train=files["named"], eval=files["named"], columns=columns)
    assert (named.columns, named.share) == (columns, None)
    (split,) = held_out_by(tmp_path, train=f"{tmp_path}:pairs", eval="pairs")
    assert split.source == f"{tmp_path}:pairs"
    assert held_out_by(tmp_path, train=files["said"]) is None  # of which nothing is compared


def test_earlier_turns_come_back_and_prompts_with_tools_are_counted(trained):
    class Ruler:
        ends = (2,)

        class tokenizer:
            decode = staticmethod(lambda ids, skip_special_tokens: "yes" if ids[0] else "no")

    of = own_pairs.Drawing(load_recipe(trained.recipe_file), Ruler(), None)
    system = [{"role": "system", "content": "Be kind."}]
    example = {"prompt": "So?", "before": json.dumps(system), "response_ids": [[0, 2], [1, 2]]}

    def by_reward(example, rewards, margin):
        return own_pairs._by_reward(Ruler(), example, rewards, margin)

    row = own_pairs._row(of, example, by_reward(example, [0.5, 2.0], 0.0))
    assert row["prompt"] == [*system, {"role": "user", "content": "So?"}]
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("yes", "no")
    assert row["rewards"] == [2.0, 0.5]
    assert by_reward(example, [0.5, 2.0], 1.5) == "alike"
    assert by_reward(example | {"before": None}, [0.5, 2.0], 0.0) == "tools"
    unended = example | {"response_ids": [[0, 2], [1]]}
    assert by_reward(unended, [1.0, 2.0], 0.0) == "unfinished"
