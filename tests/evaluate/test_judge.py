"""A policy as a judge: its rewards are those of training, its ranking that of the data."""

import json

import numpy as np
import pytest
import torch

from dpo_lite.cli.judging import histogram
from dpo_lite.compare.token_rewards import token_rewards
from dpo_lite.data.lengths import lengths_of
from dpo_lite.errors import UserError
from dpo_lite.evaluate import best_of as best
from dpo_lite.evaluate import guard
from dpo_lite.evaluate.best_of import best_of
from dpo_lite.evaluate.judge import judge_recipe, load_judge, logps_by_role, reference_logps
from dpo_lite.evaluate.scores import encode_rows, score_source
from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.rates import Rate
from dpo_lite.recipe import to_yaml, validate_recipe
from dpo_lite.runs.folder import Run
from dpo_lite.training.method import Objective
from dpo_lite.training.update import evaluate_examples

ROWS = [
    {"prompt": f"what did cat {i} do?", "chosen": f"the cat {i} sat on the mat", "rejected": "ran"}
    for i in range(9)
]
RANKED = {"prompt": "who sat?", "responses": ["the dog", "a", "the cat sat"], "scores": [1, 3, 2]}


def make_run(base, folder, data, **train):
    """A finished run without the training: an adapter of noise on the tiny base."""
    values = {"model": {"base": base}, "data": {"train": data}, "train": train}
    recipe = validate_recipe(values, "test")
    run = Run(folder)
    run.path.mkdir(parents=True)
    run.recipe_file.write_text(to_yaml(recipe))
    model = roles.add_policy(load_base(recipe.model), recipe.adapter, 0)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                parameter.normal_(0, 0.2, generator=torch.Generator().manual_seed(1))
    roles.save_policy(model, run.adapter, base, None)
    return run


@pytest.fixture(scope="module")
def place(tiny_base, tmp_path_factory):
    """A folder with pairs.jsonl, ranked.jsonl and the run `one`."""
    folder = tmp_path_factory.mktemp("judge")
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "ranked.jsonl").write_text(json.dumps(RANKED) + "\n")
    make_run(tiny_base, folder / "one", str(folder / "pairs.jsonl"), beta=0.5)
    return folder


def scored(place, data="pairs.jsonl", *overrides, name="one"):
    recipe, adapter = judge_recipe(name, str(place / data), overrides, place)
    judge = load_judge(recipe, adapter)
    return score_source(judge, encode_rows(recipe, judge.encoder, print))


def test_rewards_are_those_of_an_evaluation(place):
    """beta * (log pi - log pi_ref), as a run's held-out scores have it; the second time too."""
    scores = scored(place)
    judge, rows = scores.judge, scores.source.table.to_list()
    expected = evaluate_examples(judge.model, rows, Objective("sigmoid", 0.5, "plain"), 10_000)
    found = np.array(scores.rewards)
    assert np.allclose(found[:, 0], expected.rewards_first, atol=1e-4)
    assert np.allclose(found[:, 1], expected.rewards_last, atol=1e-4)
    assert scores.accuracy().share == pytest.approx(expected.metrics()["rewards/accuracies"])
    assert scores.accuracy().n == 9
    assert np.abs(found).min() > 1e-3
    assert np.allclose(np.array(scored(place).rewards), found)  # the reference from the cache


def test_a_known_reference_is_not_computed(place, monkeypatch):
    scored(place)
    monkeypatch.setattr(roles, "reference", lambda model: pytest.fail("the reference was asked"))
    recipe, adapter = judge_recipe("one", str(place / "pairs.jsonl"), (), place)
    judge = load_judge(recipe, adapter)

    class OnlyPlan:
        budget = 4096

    monkeypatch.setattr("dpo_lite.evaluate.scores.plan_run", lambda *a: OnlyPlan)
    assert len(score_source(judge, encode_rows(recipe, judge.encoder, print)).rewards) == 9


def test_records_are_data_to_train_on(place, tmp_path, tiny_base):
    scores = scored(place)
    scores.write(tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == [row["prompt"] for row in ROWS]
    assert rows[3]["responses"] == [ROWS[3]["chosen"], ROWS[3]["rejected"]]
    recipe, _ = judge_recipe("one", str(tmp_path / "out.jsonl"), (), place)
    again = encode_rows(recipe, scores.judge.encoder, print)
    assert len(again.table) == 9
    better = max(zip(rows[0]["scores"], rows[0]["responses"], strict=True))[1]
    text = scores.judge.tokenizer.decode(
        again.table[0]["response_ids"][0], skip_special_tokens=True
    )
    assert text.strip() == better


def test_records_have_all_turns_and_leave_out_what_names_tools(place, tmp_path):
    turns = [
        {"role": "system", "content": "be short"},
        {"role": "user", "content": "who sat?"},
        {"role": "assistant", "content": "the cat"},
        {"role": "user", "content": "where?"},
    ]
    answers = {
        key: [{"role": "assistant", "content": text}]
        for key, text in (("chosen", "on the mat"), ("rejected", "who knows"))
    }
    rows = [{"prompt": turns} | answers, {"prompt": turns[3:], "tools": [{"name": "f"}]} | answers]
    (place / "turns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe, adapter = judge_recipe("one", str(place / "turns.jsonl"), (), place)
    judge = load_judge(recipe, adapter)
    judge.tokenizer.chat_template = "{{ tools or '' }}" + judge.tokenizer.chat_template
    scores = score_source(judge, encode_rows(recipe, judge.encoder, print))
    assert len(scores.fitting) == 2
    assert scores.write(tmp_path / "out.jsonl") == 1
    (line,) = (tmp_path / "out.jsonl").read_text().splitlines()
    assert json.loads(line)["prompt"] == turns


def test_a_ranking_is_scored_whole(place):
    """Three responses, best first by their scores: three pairs are counted."""
    scores = scored(place, "ranked.jsonl")
    (record,) = scores.records()
    assert record["responses"] == ["a", "the cat sat", "the dog"]
    a, b, c = record["scores"]
    right = (a > b) + (a > c) + (b > c)
    assert scores.accuracy().share == pytest.approx(right / 3)
    assert scores.accuracy().n == 1  # its pairs hang together
    assert len(scores.margins()) == 3


def test_ties_are_left_out(place):
    scores = scored(place)
    for row in scores.rewards:
        row[:] = [1.0, 0.0]
    scores.rewards[0][:] = [2.0, 2.0]
    scores.rewards[1][:] = [0.0, 1.0]
    assert scores.accuracy() == Rate(7 / 8, 8)
    assert [record["row"] for record in scores.doubted(5)] == [1]
    assert scores.longer_wins() == Rate(7 / 8, 8)


def test_any_adapter_on_its_base(place):
    """Without a run: the base that the adapter names, the default beta, or what is said."""
    folder = str(place / "one" / "adapter")
    by_run, by_folder = scored(place), scored(place, "pairs.jsonl", "train.beta=0.5", name=folder)
    assert np.allclose(np.array(by_folder.rewards), np.array(by_run.rewards), atol=1e-5)
    assert scored(place, name=folder).judge.recipe.train.beta == 0.1


def test_per_token_where_the_loss_is(place, tiny_base):
    make_run(tiny_base, place / "norm", str(place / "pairs.jsonl"), loss="sigmoid_norm")
    summed = scored(place, "pairs.jsonl", "train.beta=5")
    mean = scored(place, name="norm")
    for rewards, sums, lengths in zip(mean.rewards, summed.rewards, mean.lengths, strict=True):
        assert np.allclose(rewards, sums / lengths, atol=1e-4)


def test_rows_over_the_limit_are_counted(place):
    rows = [*ROWS, ROWS[0] | {"prompt": "what did the first cat do, and where, and when?"}]
    (place / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    most = lengths_of(scored(place).source.table.data).whole.max()
    scores = scored(place, "long.jsonl", f"data.max_length={most}")
    assert len(scores.rewards) == 9
    assert scores.dropped == {"longer than the limit": 1}
    with pytest.raises(UserError, match="longer than 8 tokens"):
        scored(place, "pairs.jsonl", "data.max_length=8")


@pytest.mark.parametrize("role", ["reference", "policy"])
def test_best_of_ranks_what_was_drawn(place, role):
    judge = load_judge(*judge_recipe("one", None, (), place))
    how = {"role": role, "max_new_tokens": 6, "temperature": 1.5}
    ranked = best_of(judge, "who sat?", 10, guard=False, **how)
    assert sum(answer.times for answer in ranked) == 10
    rewards = [answer.reward for answer in ranked]
    assert rewards == sorted(rewards, reverse=True)
    assert rewards[0] > rewards[-1]
    assert best_of(judge, "who sat?", 10, guard=False, **how) == ranked
    guarded = best_of(judge, "who sat?", 10, **how)  # draws more, but not other ones
    assert sorted((a.text, a.reward) for a in guarded) == sorted((a.text, a.reward) for a in ranked)


def test_best_of_sets_aside_what_the_reference_would_hardly_say(place, monkeypatch):
    """Limits that nothing or everything passes: what is aside comes last and keeps its reward."""
    judge = load_judge(*judge_recipe("one", None, (), place))
    monkeypatch.setattr(guard, "surprise_limit", lambda usual: usual)  # half of the ordinary
    ranked = best_of(judge, "who sat?", 20, max_new_tokens=6)
    aside = [answer.aside is not None for answer in ranked]
    assert aside == sorted(aside)
    assert 0 < sum(aside) < len(aside)
    reasons = {answer.aside.kind for answer in ranked if answer.aside}
    assert reasons == {"unlikely"}
    plain = best_of(judge, "who sat?", 20, max_new_tokens=6, guard=False)
    assert {a.text: a.reward for a in ranked} == {a.text: a.reward for a in plain}


def test_the_guard_takes_the_numbers_of_the_reward(place, monkeypatch):
    """The reference's own answers at temperature 1 are their own measure: nothing is computed more,
    and log pi_ref is that of the reward."""
    judge = load_judge(*judge_recipe("one", None, (), place))
    handed = []

    def taken(answers, usual):
        handed.extend([answers, usual])
        return [None] * len(answers)

    monkeypatch.setattr(best, "reference_logps", lambda *a: pytest.fail("computed twice"))
    monkeypatch.setattr(best, "set_aside", taken)
    best_of(judge, "who sat?", 16, max_new_tokens=6)
    answers, usual = handed
    assert len(usual) == 16
    assert {a.ids for a in usual} == {a.ids for a in answers}
    example = {
        "prompt_ids": judge.encoder.prompt_ids("who sat?"),
        "response_ids": [list(a.ids) for a in answers],
    }
    objective = Objective("sigmoid", 0.5, "plain")
    (truth,) = reference_logps(judge.model, [example], objective, 4096)
    assert [a.logp for a in answers] == pytest.approx(truth, abs=1e-3)


def test_best_of_agrees_with_the_tokens_of_compare(place):
    """The same answer has the same reward as a column of `compare` shows it with."""
    recipe, adapter = judge_recipe("one", None, (), place)
    judge = load_judge(recipe, adapter)
    prompt, answer = judge.encoder.prompt_ids("who sat?"), [45, 50, 60, judge.encoder.end_id]
    example = {"prompt_ids": prompt, "response_ids": [answer]}
    objective = Objective("sigmoid", 0.5, "forest")
    ((policy,),), ((reference,),) = logps_by_role(judge.model, [example], objective, 4096)
    (tokens,) = token_rewards(judge.model, prompt, [answer], roles.POLICY, "__base__", 0.5)
    assert 0.5 * (policy - reference) == pytest.approx(sum(tokens), abs=1e-4)


def test_the_histogram_has_zero_in_its_middle():
    line = histogram(np.array([-1.0, 1.0, 1.0, 1.0]))
    left, right = line.split("│")
    assert left.startswith("-1.00 ▃")
    assert right == " " * 11 + "█ 1.00"
    assert histogram(np.zeros(3)).count("█") == 1


def test_faults_before_the_base_is_loaded(place):
    with pytest.raises(UserError, match=r"There is no run nothing in .*there are "):
        judge_recipe("nothing", "x.jsonl", (), place)
    run = Run(place / "unfinished")
    run.path.mkdir()
    run.recipe_file.write_text((place / "one" / "recipe.yaml").read_text())
    with pytest.raises(UserError, match="no adapter yet"):
        judge_recipe("unfinished", "x.jsonl", (), place)
