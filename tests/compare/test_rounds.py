"""A round of votes: what is asked, what is skipped, which vote counts, what is said of it."""

import json

import pytest

from dpo_lite.compare import rounds
from dpo_lite.compare.prompt_lists import choose, held_out_prompts, lines_as_prompts, prompts_in
from dpo_lite.compare.rounds import Round
from dpo_lite.errors import UserError
from dpo_lite.recipe import load_recipe, to_yaml
from dpo_lite.runs.folder import Run


def column(label, text):
    return {"label": label, "fingerprint": f"print of {label}", "text": text}


def round_of(*texts):
    going = Round("demo", [f"prompt {i}" for i in range(len(texts))], {})
    for prompt, (ours, theirs) in zip(going.prompts, texts, strict=True):
        rounds.answered(going, prompt, [column("demo", ours), column("reference", theirs)])
    return going


def vote(going, verdict):
    prompt, columns = going.pairs[going.number]
    shown = [{**c, "answer": c["text"]} for c in columns]
    going.votes.append({"prompt": prompt, "columns": shown, "verdict": verdict, "blind": True})


def test_equal_answers_are_skipped_and_counted():
    going = round_of(("a", "b"), ("same", "same \n"), ("c", "d"))
    assert (len(going.pairs), going.same, going.answered) == (2, 1, 3)
    assert rounds.progress_words(going) == (
        "0 voted · 3 of 3 answered · 1 skipped, as both say the same"
    )


def test_a_vote_counts_once_and_on_the_open_pair_alone():
    going = round_of(("a", "b"), ("c", "d"))
    assert rounds.may_vote(going, 0, "A")
    assert not rounds.may_vote(going, 1, "A")
    assert not rounds.may_vote(going, 0, "C")
    vote(going, "A")
    assert not rounds.may_vote(going, 0, "A")
    vote(going, "tie")
    assert not rounds.may_vote(going, 2, "A")


def test_a_round_waits_for_answers_and_is_over_without_them():
    going = Round("demo", ["one"], {})
    assert going.waits
    assert not going.over
    rounds.answered(going, "one", [column("demo", "a"), column("reference", "b")])
    assert not going.waits
    vote(going, "B")
    assert going.waits
    going.ended = True
    assert going.over


def test_the_standing_grows_with_the_votes():
    going = round_of(*[("a", "b")] * 6)
    assert rounds.standing_words(going) == ""
    vote(going, "bad")
    assert rounds.standing_words(going) == "No vote decided between demo and reference yet."
    vote(going, "A")
    assert "demo wins 100% against reference (1 vote, 95 % interval 21 to 100 %)" in (
        rounds.standing_words(going)
    )
    assert "no difference is shown yet" in rounds.standing_words(going)
    for _ in range(4):
        vote(going, "A")
    assert rounds.standing_words(going).endswith("better than a coin says.")


def test_prompts_nobody_has_voted_on_come_first():
    votes = [{"prompt": f"p{i}"} for i in range(8)]
    chosen = choose([f"p{i}" for i in range(10)], 3, votes, seed=1)
    assert set(chosen[:2]) == {"p8", "p9"}
    assert len(set(chosen)) == 3
    assert chosen == choose([f"p{i}" for i in range(10)], 3, votes, seed=1)
    assert choose(["a", "b"], 20) in (["a", "b"], ["b", "a"])


def test_prompts_of_lines_and_of_files(tmp_path):
    assert lines_as_prompts(" a \n\nb\na\n") == ["a", "b"]
    assert lines_as_prompts("one\u2028of two lines\r\nb") == ["one\u2028of two lines", "b"]
    text = tmp_path / "mine.txt"
    text.write_text("one\ntwo\n")
    assert prompts_in(text) == ["one", "two"]
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    data = tmp_path / "pairs.jsonl"
    rows = [{"prompt": "x", "chosen": "1", "rejected": "2"}] * 2
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert prompts_in(data) == ["x"]
    answer = [{"role": "assistant", "content": "1"}]
    data.write_text(json.dumps({"prompt": turns, "chosen": answer, "rejected": answer}) + "\n")
    assert prompts_in(data) == [turns]
    text.write_text("\n")
    with pytest.raises(UserError, match=r"mine\.txt is empty"):
        prompts_in(text)


def test_held_out_prompts_come_before_the_recipes_own(tmp_path):
    run = Run(tmp_path / "demo")
    run.path.mkdir()
    run.recipe_file.write_text(to_yaml(load_recipe("quickstart", ["eval.prompts=[own]"])))
    assert held_out_prompts(run) == ["own"]
    run.append("samples.jsonl", {"when": "before", "set": "prompts", "prompt": "own", "answer": ""})
    for when in ("before", "after"):
        run.append("samples.jsonl", {"when": when, "set": "topics", "prompt": "h", "answer": ""})
    assert held_out_prompts(run) == ["h"]
