"""Votes: kept whole, counted with care, and given back as data that trains."""

import json
import multiprocessing

import pytest

from dpo_lite.compare.vote_rows import (
    export_votes,
    preference_rows,
    training_command,
    unpaired_rows,
)
from dpo_lite.compare.votes import add_vote, read_votes, votes_file, win_rates
from dpo_lite.errors import UserError
from dpo_lite.rates import wilson
from dpo_lite.recipe import load_recipe


def vote(folder, verdict, answers=("yes", "no"), labels=("reference", "demo"), prompt="Is it?"):
    return add_vote(
        folder,
        run="demo",
        prompt=prompt,
        shown=[
            {"label": label, "fingerprint": f"print of {label}", "answer": answer}
            for label, answer in zip(labels, answers, strict=True)
        ],
        sampling={"seed": 0, "temperature": 0.7},
        verdict=verdict,
        blind=True,
    )


def test_a_vote_is_kept_whole(tmp_path):
    vote(tmp_path / "runs", "B", answers=("<b>é\n🐈", "no"))
    (found,) = read_votes(tmp_path / "runs")
    assert found["columns"][0] == {
        "label": "reference",
        "fingerprint": "print of reference",
        "answer": "<b>é\n🐈",
    }
    assert (found["verdict"], found["blind"], found["sampling"]["seed"]) == ("B", True, 0)
    with pytest.raises(ValueError, match="no verdict"):
        vote(tmp_path, "C")


def test_equal_answers_are_no_vote(tmp_path):
    for verdict in ("A", "tie", "bad"):
        vote(tmp_path, verdict, answers=("the same", "the same"), prompt=verdict)
    assert win_rates(read_votes(tmp_path))[0] == []
    vote(tmp_path, "A", answers=("one", "another"))
    ((pairing,), _) = win_rates(read_votes(tmp_path))
    assert (pairing.wins, pairing.losses, pairing.ties, pairing.bad) in [(1, 0, 0, 0), (0, 1, 0, 0)]


def test_a_line_cut_short_costs_nothing_but_itself(tmp_path):
    vote(tmp_path, "A")
    with open(votes_file(tmp_path), "ab") as file:
        file.write(b'{"prompt": "half')
    vote(tmp_path, "B", prompt="And this?")
    assert [v["verdict"] for v in read_votes(tmp_path)] == ["A", "B"]


def _many(folder, name):
    for number in range(50):
        vote(folder, "A", prompt=f"{name} {number}", answers=("x" * 5000, "y"))


@pytest.mark.slow
def test_writers_at_the_same_time_do_not_mix_their_lines(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_many, args=(tmp_path, name)) for name in "abcd"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(read_votes(tmp_path)) == 200
    # Who looks while another's line is half on the disk begins a new one: an empty line, no loss.
    assert len(list(filter(None, votes_file(tmp_path).read_text().splitlines()))) == 200


def test_who_votes_again_on_the_same_answers_has_changed_their_mind(tmp_path):
    vote(tmp_path, "A")
    vote(tmp_path, "A", answers=("no", "yes"), labels=("demo", "reference"))  # the other way round
    (only,) = read_votes(tmp_path)
    assert preference_rows([only]).rows == [{"prompt": "Is it?", "chosen": "no", "rejected": "yes"}]
    vote(tmp_path, "A", answers=("yes", "another"))
    assert len(read_votes(tmp_path)) == 2


def test_win_rates_count_ties_as_half_and_bad_ones_apart(tmp_path):
    for number, verdict in enumerate(["B", "B", "tie", "A", "bad"]):
        vote(tmp_path, verdict, prompt=str(number))
    ((pair,), names) = win_rates(read_votes(tmp_path))
    assert (names[pair.first], names[pair.second]) == ("demo", "reference")
    assert (pair.wins, pair.losses, pair.ties, pair.bad) == (2, 1, 1, 1)
    assert pair.rate == 2.5 / 4
    assert pair.interval == wilson(2.5 / 4, 4)


def test_the_best_of_three_beats_the_two_others_alone(tmp_path):
    labels = ("reference", "one", "two")
    vote(tmp_path, "C", answers=("a", "b", "c"), labels=labels)
    vote(tmp_path, "B", answers=("a", "b", "b"), labels=("reference", "one", "one"), prompt="2")
    pairs, names = win_rates(read_votes(tmp_path))
    won = {(names[p.first], names[p.second]): (p.wins, p.losses) for p in pairs}
    assert won[("two", "reference")] == (1, 0)
    assert won[("one", "reference")] == (1, 0)
    assert sorted(won[pair] for pair in won if "reference" not in pair) in ([(0, 1)], [(1, 0)])
    rows = preference_rows(read_votes(tmp_path))
    assert [r["rejected"] for r in rows.rows] == ["a", "b", "a"]
    assert rows.left_out == {"equal answers": 1}


def test_a_name_for_two_models_is_told_apart():
    votes = [
        {
            "verdict": "A",
            "columns": [
                {"label": "demo", "fingerprint": print_, "answer": "a"},
                {"label": "reference", "fingerprint": "base", "answer": "b"},
            ],
        }
        for print_ in ("111111aa", "222222bb")
    ]
    _, names = win_rates(votes)
    assert names == {"111111aa": "demo (111111)", "222222bb": "demo (222222)", "base": "reference"}


def test_export_says_what_it_leaves_out(tmp_path):
    vote(tmp_path, "A", prompt="1")
    vote(tmp_path, "tie", prompt="2")
    vote(tmp_path, "bad", prompt="3")
    vote(tmp_path, "A", prompt="4", answers=("", "no"))
    vote(tmp_path, "A", prompt="5", labels=("two", "one"))
    vote(tmp_path, "B", prompt="5", labels=("reference", "one"))
    export = export_votes(tmp_path, tmp_path / "votes" / "mine.jsonl")
    assert export.left_out == {
        "ties": 1,
        "both bad": 1,
        "empty answers": 1,
        "voted on again later": 1,
    }
    lines = (tmp_path / "votes" / "mine.jsonl").read_text().splitlines()
    assert [json.loads(line)["chosen"] for line in lines] == ["yes", "no"]
    with pytest.raises(UserError, match="exists; choose another name"):
        export_votes(tmp_path, tmp_path / "votes" / "mine.jsonl")
    with pytest.raises(UserError, match=r"end it with \.jsonl"):
        export_votes(tmp_path, tmp_path / "mine.txt")
    with pytest.raises(UserError, match=r"no votes in .* that prefer one answer"):
        export_votes(tmp_path / "nowhere", tmp_path / "other.jsonl")
    assert len(preference_rows(read_votes(tmp_path), run="two").rows) == 1


@pytest.mark.slow
def test_votes_are_data_that_trains(tiny_base, tmp_path):
    """The loop closes: votes → export → the data doctor knows it → two updates from the adapter."""
    from rich.console import Console

    from dpo_lite.files import read_json
    from dpo_lite.jobs import train as job
    from dpo_lite.jobs.doctor import examine
    from dpo_lite.recipe import validate_recipe

    runs = tmp_path / "runs"
    for number in range(8):
        vote(runs, "AB"[number % 2], answers=("the cat", "a dog"), prompt=f"who is {number}?")
    file = tmp_path / "mine.jsonl"
    export_votes(runs, file)
    assert examine(str(file)).format == "triples"

    values = {
        "model": {"base": tiny_base},
        "data": {"train": str(file)},
        "train": {"max_steps": 2, "batch_size": 4, "lr": 1e-3},
        "eval": {"max_new_tokens": 2, "generate": 1},
        "run": {"folder": str(runs), "name": "demo"},
    }
    console = Console(quiet=True)
    job.start(validate_recipe(values, "test"), "demo", console)
    command = training_command(runs, "demo", file)
    assert command[:2] == ["dpo-lite", "train"]
    run = job.start(load_recipe(command[2], command[3:]), "demo", console)
    assert run.name == "demo-votes-1"
    assert run.status()["state"] == "finished"
    assert run.manifest()["reference"] == "start adapter, frozen"
    assert len([m for m in run.records("metrics.jsonl") if "loss" in m]) == 2
    assert read_json(run.path / "data.json")["kept"] < 8  # some of them are held out
    assert training_command(runs, "demo", file)[3] == "run.name=demo-votes-2"


def test_plain_text_is_trained_on_as_plain_text(tmp_path):
    """The recipe's format goes with its data, and ``raw`` is how the model is asked."""
    recipe = "model: {base: a/b}\ndata: {train: own.jsonl, format: raw:orca}\n"
    for name in ("demo", "demo/adapter"):
        (tmp_path / name).mkdir()
    (tmp_path / "demo/recipe.yaml").write_text(recipe)
    command = training_command(tmp_path, "demo", "votes.jsonl")
    assert load_recipe(command[2], command[3:]).data.format == "raw"


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "1",
        "null",
        '"text"',
        "{}",
        "[" * 3000,
        '{"time": 1, "verdict": "A", "columns": []}',
        '{"time": 1, "run": "r", "prompt": "p", "verdict": ["A"], "columns": []}',
        '{"time": 1, "run": "r", "prompt": "p", "verdict": "A", "columns": [1]}',
        '{"time": 1, "run": "r", "prompt": "p", "verdict": "A", "columns": []}',
        '{"time": "x", "run": "r", "prompt": "p", "verdict": "tie", "columns": []}',
        '{"time": 1, "run": "r", "prompt": ["p"], "verdict": "tie", "columns": []}',
    ],
)
def test_json_of_another_shape_is_no_vote_and_is_counted(line, tmp_path):
    from dpo_lite.compare.votes import passed_over

    add_vote(
        tmp_path,
        run="r",
        prompt="p",
        shown=[{"label": w, "fingerprint": w, "answer": w} for w in "xy"],
        sampling={},
        verdict="A",
        blind=True,
    )
    with open(tmp_path / "votes.jsonl", "a") as file:
        file.write(line + "\n")
    assert len(read_votes(tmp_path)) == 1
    assert passed_over(tmp_path) == 1


CHAT = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": " Hello \n"},
    {"role": "user", "content": "Are bats blind?"},
]


def test_a_conversation_is_exported_exactly_as_it_was(tmp_path):
    vote(tmp_path, "A", prompt=CHAT, answers=(" yes\n", "no"))
    vote(tmp_path, "B", prompt="Is it?")
    rows = preference_rows(read_votes(tmp_path)).rows
    assert rows[0] == {
        "prompt": CHAT,
        "chosen": [{"role": "assistant", "content": " yes\n"}],
        "rejected": [{"role": "assistant", "content": "no"}],
    }
    assert rows[1]["prompt"] == [{"role": "user", "content": "Is it?"}]  # one file, one format


@pytest.mark.parametrize("prompt", [[], ["x"], [{"role": "user"}], {"role": "user"}, 3])
def test_what_is_no_conversation_is_no_vote(tmp_path, prompt):
    vote(tmp_path, "A", prompt=prompt)
    assert read_votes(tmp_path) == []


def test_thumbs_are_rows_of_single_answers_and_no_win(tmp_path):
    vote(tmp_path, "A", answers=("yes",), labels=("demo",))
    vote(tmp_path, "bad", answers=("no",), labels=("demo",))
    assert win_rates(read_votes(tmp_path))[0] == []
    assert preference_rows(read_votes(tmp_path)).rows == []
    assert unpaired_rows(read_votes(tmp_path)).rows == [
        {"prompt": "Is it?", "completion": "yes", "label": True},
        {"prompt": "Is it?", "completion": "no", "label": False},
    ]
    vote(tmp_path, "bad", answers=("yes",), labels=("demo",))  # another mind
    assert [row["label"] for row in unpaired_rows(read_votes(tmp_path)).rows] == [False, False]


def test_votes_on_several_answers_come_apart_into_single_ones(tmp_path):
    vote(tmp_path, "B", prompt="one", answers=("x", "y"))
    vote(tmp_path, "bad", prompt="two", answers=("x", "y"))
    vote(tmp_path, "tie", prompt="three")
    vote(tmp_path, "A", prompt="four", answers=("same", "same"))
    export = unpaired_rows(read_votes(tmp_path))
    told = [(r["prompt"], r["completion"], r["label"]) for r in export.rows]
    assert told == [
        ("one", "x", False),
        ("one", "y", True),
        ("two", "x", False),
        ("two", "y", False),
    ]
    assert export.left_out == {"ties": 1, "equal answers": 1}


@pytest.mark.parametrize("kind", ["pairs", "answers"])
@pytest.mark.parametrize("prompt", ["Are bats blind?", CHAT])
def test_the_data_layer_reads_what_is_exported(tmp_path, kind, prompt):
    from dpo_lite.data.recognition import recognise

    vote(tmp_path, "A", prompt=prompt)
    export_votes(tmp_path, tmp_path / "v.jsonl", kind=kind)
    rows = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    found = recognise(rows)
    assert found.name == {"pairs": ("triples" if prompt != CHAT else "conversational")}.get(
        kind, "kto"
    )
    (ranked, *_) = [found.convert(row) for row in rows]
    asked = [{"role": turn["role"], "content": turn["content"]} for turn in ranked.prompt]
    assert asked == (CHAT if prompt == CHAT else [{"role": "user", "content": prompt}])
