"""A loss and a task that nobody thought of, each registered in one place, do all that others do.

What is made up here goes through check, train, report, comparing, the page's panels and the dry run
of a push. Where something elsewhere asked for a name, it would not.
"""

from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from dpo_lite.advice.rules import Advice
from dpo_lite.cli.results import print_results
from dpo_lite.compare.answers import compare_answers
from dpo_lite.compare.lockstep import Sampling
from dpo_lite.evaluate.judge import judge_recipe, load_judge
from dpo_lite.evaluate.scores import encode_rows, score_source
from dpo_lite.files import read_json
from dpo_lite.hub.staging import stage
from dpo_lite.jobs import train as job
from dpo_lite.jobs.forecast import forecast
from dpo_lite.objectives.losses import LOSSES, Loss
from dpo_lite.recipe import load_recipe, validate_recipe
from dpo_lite.report.advise import advise_run
from dpo_lite.tasks import TASKS, panels
from dpo_lite.tasks.card import Card
from dpo_lite.tasks.panels import Panel
from dpo_lite.tasks.spec import Task
from dpo_lite.training.sft import SFT as SFTMethod
from dpo_lite.training.sft import Demonstrated
from dpo_lite.ui import run_files, run_views
from dpo_lite.ui.curves import View
from dpo_lite.ui.form import fields
from tests.cats import write_cats


def squared_hinge(rewards, beta):
    """max(0, 1 - (r_w - r_l))^2, and beta beside it so that it is seen to arrive."""
    assert beta == 0.7
    return torch.relu(1 - (rewards[:, 0] - rewards[:, 1])) ** 2


def free_margin(rewards, lengths):
    """The likelihoods alone: softplus of minus the margin, per token."""
    per_token = rewards / lengths
    return torch.nn.functional.softplus(per_token[:, 1] - per_token[:, 0])


MADE_UP = Loss("squared_hinge", squared_hinge, "max(0, 1 − m)²", "nobody 2026, Eq. 1", beta=0.7)
FREE = Loss("free_margin", free_margin, "log(1 + e^−m)", "nobody 2026, Eq. 2", reference_free=True)


class HalfMethod(SFTMethod):
    """Demonstrations, whose loss counts half."""

    def score(self, model, examples, objective, references=None, backward_over=None):
        over = None if backward_over is None else 2 * backward_over
        whole = super().score(model, examples, objective, references, over)
        return HalfDemonstrated(whole.logps, whole.lengths)


class HalfDemonstrated(Demonstrated):
    @property
    def loss(self):
        return super().loss / 2

    def metrics(self):
        return super().metrics() | {"half": self.loss}


class HalfCard(Card):
    tags = ("half",)

    def how(self, recipe):
        return "half-heartedly"

    def objective_rows(self, facts):
        return [("objective", "half of the likelihood")]

    def measures(self, metrics):
        yield "half", "Half loss", metrics["half"]


class Half(Task):
    name = "half"
    description = "half of what sft is"
    method = HalfMethod
    unit = "lesson"
    examples = "lines"
    pairs = ("best",)
    panels = (Panel("half the loss", ("half",), "both"), panels.MEMORY)
    in_small = ("half",)
    columns = ("half",)
    early = 3
    card = HalfCard()

    def objective(self, recipe):
        return "half of the likelihood"

    def facts(self, recipe):
        return ["half-hearted"]

    def result_rows(self, metrics):
        return [("half loss", f"{metrics['half']:.3f}")]

    def well(self, curves):
        return Advice("good", f"Half of it is learned: {curves.end('half'):.3f}.")

    def next_steps(self, run):
        return [(f"dpo-lite half {run}", "the other half")]


@pytest.fixture
def cats(tmp_path):
    folder = tmp_path / "cats"
    folder.mkdir()
    write_cats(folder, train=range(24), test=range(24, 28))
    return str(folder)


def trained(base, cats, tmp_path, **keys):
    values = {
        "model": {"base": base},
        "data": {"train": cats},
        "train": {"lr": 1e-3, "batch_size": 8, "max_steps": 4} | keys.pop("train", {}),
        "eval": {"prompts": ["what did cat 1 do?"], "max_new_tokens": 4},
        "run": {"folder": str(tmp_path / "runs"), "name": "one"},
    } | keys
    recipe = validate_recipe(values, "test")
    assert forecast(recipe).plan.total > 0
    console = Console(quiet=True)
    _, report, _ = job.prepare_run(recipe, console)
    assert recipe.objective in "\n".join(report.lines())
    run = job.start(recipe, "one", console)
    assert run.status()["state"] == "finished"
    return run, report


def walk(run, tmp_path):
    """All that looks at a finished run; what they said of it."""
    said = {"report": (run.path / "report.md").read_text()}
    assert (run.path / "curves.png").stat().st_size > 5000
    screen = Console(record=True, width=200, file=StringIO())
    print_results(run, screen)
    said["screen"] = screen.export_text()
    said["advice"] = " ".join(advice.text for advice in advise_run(run))
    ((_, answers),) = compare_answers(
        run, ["reference", "policy"], ["what did cat 2 do?"], Sampling(max_new_tokens=3)
    )
    assert [answer.label for answer in answers] == ["reference", "one"]
    statuses = run_files.statuses(run.path.parent)
    said["page"] = "".join(
        [
            run_views.run_table(statuses, ["one"]),
            run_views.detail(run.path.parent, statuses, ["one"]),
            run_views.curve_grid(run.path.parent, ["one"], View(0.5)),
            run_views.samples(run.path.parent, ["one"]),
        ]
    )
    assert "what did cat 1 do?" in said["page"]
    staged = tmp_path / "staged"
    staged.mkdir()
    said["card"] = stage(run, staged, repo="me/made-up", base_id="someone/tiny").card
    assert (staged / "adapter_model.safetensors").is_file()
    return said


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    monkeypatch.setattr("dpo_lite.hub.card_metadata.base_licence", lambda base: {})


@pytest.mark.usefixtures("curves")
@pytest.mark.slow
def test_a_made_up_loss(tiny_base, cats, tmp_path, monkeypatch):
    monkeypatch.setitem(LOSSES, "squared_hinge", MADE_UP)
    run, report = trained(tiny_base, cats, tmp_path, train={"loss": "squared_hinge"})
    assert report.start_loss == pytest.approx(1.0)
    assert report.before == (
        "base, adapters off",
        "loss 1.0000, all rewards 0: policy equals reference",
    )
    said = walk(run, tmp_path)
    assert "squared_hinge, beta 0.7" in said["report"]
    assert "`squared_hinge`: max(0, 1 − m)² (nobody 2026, Eq. 1)" in said["card"]
    assert "β = 0.7" in said["card"]
    losses = next(field for field in fields() if field.key == "train.loss")
    assert ("squared_hinge", "squared_hinge") in losses.choices
    recipe, adapter = judge_recipe("one", str(Path(cats) / "test.jsonl"), (), run.path.parent)
    judge = load_judge(recipe, adapter)
    assert len(score_source(judge, encode_rows(recipe, judge.encoder, print)).rewards) == 4


@pytest.mark.usefixtures("curves")
@pytest.mark.slow
def test_a_made_up_loss_without_a_reference(tiny_base, cats, tmp_path, monkeypatch):
    monkeypatch.setitem(LOSSES, "free_margin", FREE)

    def not_asked(*args):
        pytest.fail("the reference was kept for a loss that needs none")

    monkeypatch.setattr("dpo_lite.training.reference_cache.cache_facts", not_asked)
    run, report = trained(tiny_base, cats, tmp_path, train={"loss": "free_margin"})
    assert report.reference == run.manifest()["reference"] == "none"
    assert report.before[0].startswith("none")
    said = walk(run, tmp_path)
    assert "reference π_ref" not in said["card"]
    assert "r = β · log π," in said["card"]


@pytest.mark.usefixtures("curves")
@pytest.mark.slow
def test_a_made_up_task(tiny_base, cats, tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "half", Half())
    run, report = trained(tiny_base, cats, tmp_path, task="half")
    assert any("4 lessons" in line for line in report.lines())
    assert load_recipe(run.recipe_file).data.pairs == "best"
    sets = read_json(run.path / "results.json")["sets"]
    assert sets["test"]["half"] == pytest.approx(sets["test"]["loss"])
    said = walk(run, tmp_path)
    assert "| set | measure | half |" in said["report"]
    assert "8 lines per lesson" in said["report"]
    assert "dpo-lite half" in said["screen"]
    assert said["advice"].startswith("Half of it is learned")
    assert "half the loss" in said["page"]
    assert "lesson 4 of 4" in said["page"]
    assert "half-hearted" in said["page"]
    assert "trained half-heartedly with dpo_lite" in said["card"]
    assert "half of the likelihood" in said["card"]
    assert "- half" in said["card"]  # its tag
    tasks = next(field for field in fields() if field.key == "task")
    assert ("half", "half") in tasks.choices


@pytest.mark.slow
def test_half_of_the_gradient_is_half(tiny_base, cats, tmp_path, monkeypatch):
    """The made-up method is what is trained by, and not its parent."""
    monkeypatch.setitem(TASKS, "half", Half())
    whole, _ = trained(tiny_base, cats, tmp_path / "a", task="sft")
    half, _ = trained(tiny_base, cats, tmp_path / "b", task="half")
    first = [run.steps()[0] for run in (whole, half)]
    assert first[1]["loss"] == pytest.approx(first[0]["loss"] / 2, rel=1e-4)
    assert first[1]["grad_norm"] == pytest.approx(first[0]["grad_norm"] / 2, rel=1e-3)


def test_an_unknown_name_is_refused_by_those_that_there_are():
    from dpo_lite.errors import UserError

    values = {"model": {"base": "x"}, "data": {"train": "y"}}
    with pytest.raises(UserError, match=r"task: must be 'dpo', 'sft', .* or 'rlhf', not 'dop'"):
        validate_recipe(values | {"task": "dop"}, "test")
    with pytest.raises(UserError, match=r"train.loss: must be 'sigmoid', .* or 'plackett_luce'"):
        validate_recipe(values | {"train": {"loss": "sigmoi"}}, "test")
