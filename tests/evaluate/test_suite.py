"""Tasks of lm-evaluation-harness by our scoring: its own numbers, both roles, kept and told."""

import io
import json
import sys

import pytest
from rich.console import Console
from typer.testing import CliRunner

from dpo_lite.cli import app, common
from dpo_lite.data.tokens import encoder_of
from dpo_lite.errors import UserError
from dpo_lite.evaluate.suite import _quiet
from dpo_lite.hub.card import model_card
from dpo_lite.hub.card_metadata import metadata
from dpo_lite.hub.public_recipe import public_recipe
from dpo_lite.hub.subject import Subject
from dpo_lite.jobs import suite as job
from dpo_lite.jobs import train as training
from dpo_lite.recipe import load_recipe, validate_recipe
from dpo_lite.report.suite import markdown, read_suite
from dpo_lite.training.loaded import load_trained
from tests.evaluate.tasks_of_cats import write_tasks
from tests.evaluate.test_judge import ROWS, make_run

NEEDED = "lm_eval is not installed (requirements-dev.txt)"


@pytest.fixture(scope="module")
def harness():
    return pytest.importorskip("lm_eval", reason=NEEDED)


@pytest.fixture(scope="module")
def run(tiny_base, tmp_path_factory):
    """A run with an adapter of noise, and tasks beside it."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    made = make_run(tiny_base, folder / "one", str(folder / "pairs.jsonl"))
    (folder / "text.txt").write_text("The cat sat on the mat.\n\nThe dog ran.\n\nIt sat down.\n")
    return made


@pytest.fixture(scope="module")
def loaded(run):
    return load_trained(run)


def harness_lm(loaded, **options):
    from dpo_lite.evaluate.harness import HarnessLM

    recipe, tokenizer, model = loaded
    return HarnessLM(model, encoder_of(tokenizer, recipe.data), **options)


def asked(kind, *arguments):
    from lm_eval.api.instance import Instance

    return [Instance(request_type=kind, doc={}, arguments=args, idx=0) for args in arguments]


@pytest.mark.parametrize("longest", [400, 24])
def test_numbers_are_those_of_the_harness_own_model(harness, loaded, longest):
    """Of shared and cut contexts, none at all, words behind a space, and texts in windows."""
    from lm_eval.models.huggingface import HFLM

    lm = harness_lm(loaded, max_length=longest)
    own = HFLM(
        pretrained=lm.model.get_base_model(),
        tokenizer=lm.tokenizer,
        max_length=lm.max_length,
        batch_size=4,
    )
    pairs = [
        (context, text)
        for context in ("what did the cat do?", "the cat ", "", "the dog and the cat sat on it")
        for text in (" it sat", " the", " it sat on the mat", " the")
    ]
    found = lm.loglikelihood(asked("loglikelihood", *pairs))
    expected = own.loglikelihood(asked("loglikelihood", *pairs), disable_tqdm=True)
    for (ours, greedy), (theirs, theirs_greedy) in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)
        assert greedy == theirs_greedy
    texts = [("the cat sat on the mat " * n,) for n in (1, 3)]
    rolled = lm.loglikelihood_rolling(asked("loglikelihood_rolling", *texts))
    theirs = own.loglikelihood_rolling(asked("loglikelihood_rolling", *texts), disable_tqdm=True)
    assert rolled == pytest.approx(theirs, rel=1e-5)
    lm.role = "reference"
    apart = lm.loglikelihood(asked("loglikelihood", pairs[0]))[0][0]
    assert abs(apart - found[0][0]) > 1e-2


def test_answers_are_those_of_the_harness_own_model(harness, loaded):
    """Greedy, up to stop texts that the prompt may end with and that may be tokens."""
    from lm_eval.models.huggingface import HFLM

    lm = harness_lm(loaded, max_length=200)
    own = HFLM(
        pretrained=lm.model.get_base_model(),
        tokenizer=lm.tokenizer,
        max_length=lm.max_length,
        batch_size=1,
    )
    chat = [{"role": "user", "content": "what did the cat do?"}]
    opened = [*chat, {"role": "assistant", "content": "The"}]
    assert lm.apply_chat_template(chat) == own.apply_chat_template(chat)
    assert lm.apply_chat_template(opened, False) == own.apply_chat_template(opened, False)
    long = {"do_sample": False, "max_gen_toks": 12, "until": []}
    prompts = [lm.apply_chat_template(chat), "the cat\n", "the"]
    (first, *_) = lm.generate_until(asked("generate_until", *((p, long) for p in prompts)))
    stops = [first[2:4], "<|im_end|>"] if len(first) > 4 else ["e"]
    requests = asked(
        "generate_until",
        *((p, settings) for p in prompts for settings in (long, long | {"until": stops})),
    )
    found = lm.generate_until(requests)
    assert found == own.generate_until(requests, disable_tqdm=True)
    assert found[1] == first.partition(stops[0])[0] != found[0]


@pytest.mark.slow
def test_a_suite_from_the_command_to_the_card(harness, run, monkeypatch):
    monkeypatch.setattr(common.console, "width", 200)
    folder = run.path.parent
    tasks = write_tasks(folder / "tasks")
    text = folder / "text.txt"

    def eval_suite(names, *more):
        words = ["eval", "one", "--suite", names, "--task-folder", str(tasks), *more]
        return CliRunner().invoke(app, [*words, "--runs", str(folder)])

    done = eval_suite(f"cats_choice,forgetting:{text}")
    assert done.exit_code == 0, done.output
    assert "acc_norm" in done.output
    assert "of 10 (p = " in done.output
    assert "forgetting: text.txt" in done.output
    choice, forgot = read_suite(run.path)
    accuracy = choice["rows"][0]
    for role in ("reference", "policy"):
        bits = accuracy["outcomes"][role]
        assert len(bits) == 10
        assert accuracy[role]["value"] == bits.count("1") / 10
    pairs = [*zip(*accuracy["outcomes"].values(), strict=True)]
    changes = accuracy["changed"]
    assert changes == {"better": pairs.count(("0", "1")), "worse": pairs.count(("1", "0"))}
    assert forgot["rows"][0]["policy"]["value"] > forgot["rows"][0]["reference"]["value"] > 1

    # Again: only what is missing is asked; a group has its tasks' items.
    calls = []
    load = job.load_trained
    monkeypatch.setattr(job, "load_trained", lambda run: calls.append(run) or load(run))
    assert eval_suite(f"cats_choice,forgetting:{text}").exit_code == 0
    assert not calls
    ask = job.evaluate_task

    def counted(lm, manager, name, *rest):
        calls.append(name)
        return ask(lm, manager, name, *rest)

    monkeypatch.setattr(job, "evaluate_task", counted)
    more = eval_suite("cats_choice,cats_answer,cats")
    assert more.exit_code == 0, more.output
    assert calls[1:] == ["cats_answer", "cats"]
    by_name = {entry["suite"]: entry for entry in read_suite(run.path)}
    assert by_name["cats_answer"]["chat"]
    assert not by_name["cats_choice"]["chat"]
    group = next(row for row in by_name["cats"]["rows"] if row["task"] == "cats")
    assert (group["n"], group["outcomes"]) == (10, accuracy["outcomes"])

    # Shown, reported and published under the harness's names; no path of this machine.
    shown = CliRunner().invoke(app, ["runs", "show", "one", "--runs", str(folder)])
    assert "exact_match" in shown.output
    report = (run.path / "report.md").read_text()
    assert "| cats_choice | acc |" in report
    recipe = load_recipe(run.recipe_file)
    subject = Subject(run, recipe, run.adapter, "user/base", None, None, {"sets": {}})
    told = {(r.dataset_name, r.metric_type): r for r in metadata(subject, "user/x").eval_results}
    result = told["cats_choice", "acc"]
    assert result.metric_value == accuracy["policy"]["value"]
    assert result.metric_args["n"] == 10
    assert result.source_name == "lm-evaluation-harness"
    card = model_card(subject, "user/x")
    assert "| cats_choice | acc |" in card
    assert str(folder) not in card


def test_what_cannot_be_asked_is_one_sentence(harness, run, tmp_path):
    def refused(match, names, **options):
        with pytest.raises(UserError, match=match):
            job.evaluate_suite(run, names, job.Asked(**options), Console(quiet=True))

    tasks = write_tasks(tmp_path / "tasks")
    (tasks / "cats.jsonl").unlink()
    refused("cats_choice cannot be asked", ["cats_choice"], folder=str(tasks))
    refused("there is no folder", ["cats_choice"], folder=str(tmp_path / "none"))
    refused("there is no file", ["forgetting:none.txt"])


def test_a_bootstrap_of_the_harness_prints_nothing(harness, capsys):
    from lm_eval.api import metrics

    with _quiet():
        error = metrics.stderr_for_metric(metrics.median, bootstrap_iters=20)([1.0, 2.0, 7.0])
    assert error > 0
    assert capsys.readouterr() == ("", "")


def test_without_the_package_a_sentence_says_how_it_comes(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UserError, match="pip install"):
        job.evaluate_suite(run, ["arc_easy"], job.Asked(), Console(quiet=True))


def test_a_reward_model_is_refused():
    values = {"model": {"base": "builtin:myths"}, "data": {"train": "builtin:myths"}}
    with pytest.raises(UserError, match="answers nothing"):
        validate_recipe({**values, "task": "reward", "eval": {"suite": ["arc_easy"]}}, "r")
    for name in ("a/b.yaml", "../x", "forgetting:", "a b"):
        with pytest.raises(UserError, match=r"eval\.suite"):
            validate_recipe({**values, "eval": {"suite": [name]}}, "r")


@pytest.mark.slow
def test_at_the_end_of_a_training(tiny_base, tmp_path):
    """Told apart from the reference, reported; without a way to ask, told and left out."""
    text = tmp_path / "text.txt"
    text.write_text("The cat sat on the mat.\n\nThe dog ran.\n")
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    values = {
        "model": {"base": tiny_base},
        "data": {"train": str(tmp_path / "pairs.jsonl")},
        "train": {"max_steps": 2, "lr": 1e-3, "batch_size": 4},
        "eval": {"generate": 0, "suite": [f"forgetting:{text}"]},
        "run": {"folder": str(tmp_path / "runs")},
    }
    recipe = validate_recipe(values, "test")
    done = training.start(recipe, "suite", Console(quiet=True))
    (entry,) = read_suite(done.path)
    row = entry["rows"][0]
    assert row["policy"]["value"] != row["reference"]["value"]
    assert done.status()["state"] == "finished"
    assert "forgetting: text.txt" in (done.path / "report.md").read_text()
    published, _ = public_recipe(load_recipe(done.recipe_file), "user/base")
    assert "forgetting:text.txt" in published
    assert str(tmp_path) not in published

    text.unlink()
    said = Console(record=True, width=200, file=io.StringIO())
    job.suite_of_run(done, recipe, None, None, said)
    assert "there is no file" in said.export_text()
    again = validate_recipe(values, "test")
    with pytest.raises(UserError, match="there is no file"):  # before anything is trained
        training.start(again, "suite", Console(quiet=True))


def test_a_damaged_file_is_none(tmp_path):
    for text in ("", "[]", '{"entries": 3}', '{"entries": [{"suite": "a", "rows": [1]}]}'):
        (tmp_path / "suite.json").write_text(text)
        assert read_suite(tmp_path) == []
    assert markdown([]) == []
