"""An RLHF run: its steps' recipes, a small one from end to end, and how it goes on."""

import pytest
from rich.console import Console

from dpo_lite.cli.results import print_results
from dpo_lite.compare.columns import columns
from dpo_lite.errors import UserError
from dpo_lite.evaluate.judge import judge_recipe
from dpo_lite.export.run import merge_run
from dpo_lite.hub.push import preview
from dpo_lite.jobs import train as job
from dpo_lite.model.adapter_files import adapter_folder
from dpo_lite.recipe import load_recipe, to_yaml, validate_recipe
from dpo_lite.report.rlhf import cells, draw_frontier, read_points
from dpo_lite.runs import processes, rlhf_steps
from dpo_lite.runs.folder import Run, list_runs
from dpo_lite.runs.rlhf_steps import first_look, plan_steps, steps_of
from dpo_lite.studies import rlhf
from tests.cats import write_cats

CONSOLE = Console(quiet=True)


def rlhf_recipe(base="b", data="d", folder="runs", **rlhf):
    short = {"train": {"max_steps": 2, "batch_size": 8, "lr": 1e-3}}
    return validate_recipe(
        {
            "task": "rlhf",
            "model": {"base": base},
            "data": {"train": data},
            "train": {"batch_size": 4},
            "eval": {"limit": 4, "max_new_tokens": 4, "prompts": ["hello"]},
            "run": {"folder": str(folder)},
            "rlhf": {
                "sft": short,
                "reward": short,
                "ppo": {**short, "ppo": {"max_new_tokens": 6, "passes": 1}},
                "dpo": {},
                "ppo_betas": [0.1],
                "dpo_betas": [0.5],
            }
            | rlhf,
        },
        "test",
    )


def test_every_step_is_a_recipe_of_its_own():
    steps = plan_steps(rlhf_recipe(seeds=[1, 2], ppo_betas=[0.1, 1.0]), "r")
    assert [step.run.name for step in steps][:5] == [
        "r-sft-s1",
        "r-reward-s1",
        "r-ppo-b0.1-s1",
        "r-ppo-b1-s1",
        "r-dpo-b0.5-s1",
    ]
    assert len(steps) == 10
    sft, reward, ppo, _, dpo = (step.recipe for step in steps[:5])
    assert [r.task for r in (sft, reward, ppo, dpo)] == ["sft", "reward", "ppo", "dpo"]
    # The same start and the same reference for both.
    assert ppo.model.adapter == dpo.model.adapter == reward.model.adapter == "runs/r-sft-s1/adapter"
    assert ppo.reference == dpo.reference == "start"
    assert ppo.ppo.reward == "runs/r-reward-s1/adapter"
    assert (ppo.train.beta, dpo.train.beta) == (0.1, 0.5)
    assert [r.data.pairs for r in (sft, reward, ppo)] == ["best", "best_worst", "prompts"]
    # A step's own keys over the shared ones.
    assert (sft.train.batch_size, dpo.train.batch_size) == (8, 4)
    assert {step.recipe.train.seed for step in steps} == {1, 2}


def test_the_section_ppo_is_of_the_steps_of_ppo_alone():
    values = rlhf_recipe().model_dump(exclude_unset=True) | {"ppo": {"passes": 3, "clip": 0.3}}
    sft, _, ppo, dpo = (step.recipe for step in plan_steps(validate_recipe(values, "test"), "r"))
    assert (ppo.ppo.passes, ppo.ppo.clip) == (1, 0.3)  # the step's own keys over the shared ones
    assert sft.ppo == dpo.ppo


@pytest.mark.parametrize(
    ("rlhf", "words"),
    [
        ({"sft": {"train": {"lrr": 1}}}, r"rlhf\.sft.*train\.lrr"),
        ({"ppo": {"train": {"loss": "ipo"}}}, r"rlhf\.ppo.*loss of its own"),
    ],
)
def test_a_wrong_key_of_a_step_is_told_at_once(rlhf, words):
    with pytest.raises(UserError, match=words):
        plan_steps(rlhf_recipe(**rlhf), "r")


def test_the_section_is_for_that_task_alone():
    values = {"model": {"base": "b"}, "data": {"train": "d"}, "rlhf": {"seeds": [1]}}
    with pytest.raises(UserError, match="is for task: rlhf"):
        validate_recipe(values, "test")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"train": {"beta": 0.3}}, "does not take train.beta; see rlhf.ppo_betas"),
        ({"train": {"seed": 3}}, "see rlhf.seeds"),
        ({"ppo": {"reward": "x"}}, "does not take ppo.reward"),
        ({"hub": {"repo": "a/b", "push": "end"}}, "does not take hub.push"),
        ({"rlhf": {"seeds": []}}, "must have at least one entry"),
        ({"rlhf": {"ppo_betas": [0.1, 0.1]}}, "rlhf.ppo_betas has a value twice"),
    ],
)
def test_what_no_step_would_take(values, words):
    base = {"task": "rlhf", "model": {"base": "b"}, "data": {"train": "d"}}
    with pytest.raises(UserError) as error:
        validate_recipe(base | values, "test")
    assert words in str(error.value)


class Child:
    """A step that runs in this process, for the time that a process of its own takes."""

    def __init__(self, run, anyway=False):
        self.run = run

    def wait(self):
        job.resume(self.run, Console(quiet=True))


@pytest.fixture
def cats(tmp_path):
    folder = tmp_path / "cats"
    folder.mkdir()
    write_cats(folder, train=range(16), test=range(16, 20))
    return str(folder)


@pytest.mark.slow
def test_an_rlhf_run_from_end_to_end(tiny_base, cats, tmp_path, monkeypatch, capsys):
    started = []
    monkeypatch.setattr(
        processes, "attached", lambda run, anyway: started.append(run.name) or Child(run)
    )
    recipe = rlhf_recipe(tiny_base, cats, tmp_path / "runs")
    run = rlhf.start(recipe, "way", CONSOLE)
    assert run.status() | {"step": 4, "max_steps": 4} == run.status()
    assert run.status()["state"] == "finished"
    names = ["way-1-sft", "way-1-reward", "way-1-ppo-b0.1", "way-1-dpo-b0.5"]
    assert started == names
    assert {r.name for r in list_runs(tmp_path / "runs")} == {"way-1", *names}
    rows = {row.kind: row for row in read_points(run)}
    assert rows["sft"].sets["test"]["kl"] == (0.0, None)  # it is what the others are held to
    assert abs(rows["ppo"].sets["test"]["kl"][0]) > 1e-6
    assert "accuracy" in rows["reward"].sets["test"]
    assert {row.counts["test"] for row in rows.values()} == {4}
    assert all(row.seconds > 0 and row.memory > 0 for row in rows.values())
    _, body = cells(read_points(run))
    assert [line[0] for line in body] == ["SFT", "reward model", "PPO, β 0.1", "DPO, β 0.5"]
    assert "frontier.png" in (run.path / "report.md").read_text()
    assert (run.path / "frontier.png").stat().st_size > 10_000
    print_results(run, Console(width=120))
    assert "PPO, β 0.1" in capsys.readouterr().out


def test_the_table_of_steps(tmp_path):
    """One seed has the interval of its share; of several seeds what they differ by is shown."""
    run = Run(tmp_path)
    measured = {"truthful": 0.75, "reward": 1.0, "kl": 2.0, "prompts": 20, "answers": 40}
    for seed, share in ((1, 0.75), (2, 0.65)):
        sets = {"topics": measured | {"truthful": share}}
        run.append("points.jsonl", point("dpo", sets, seed=seed, beta=0.5))
    run.append("points.jsonl", point("ppo", {"topics": measured}, beta=0.1))
    run.append("points.jsonl", point("reward", {"topics": {"accuracy": 1.0, "pairs": 20}}))
    old = {key: value for key, value in measured.items() if key not in ("prompts", "answers")}
    run.append("points.jsonl", point("sft", {"topics": old}))
    head, body = cells(read_points(run))
    assert head[:4] == ["step", "set", "n", "truthful"]
    assert [line[2:4] for line in body] == [
        ["–", "75%"],
        ["20", "accuracy 100% (84–100%)"],
        ["20", "75% (53–89%)"],
        ["20", "70% ± 7"],
    ]
    draw_frontier(read_points(run), tmp_path / "frontier.png")
    assert (tmp_path / "frontier.png").stat().st_size > 10_000


def point(kind, sets, seed=1, beta=None):
    cost = {"seconds": 1.0, "memory": 2**20}
    return {"run": kind, "kind": kind, "seed": seed, "beta": beta, "sets": sets} | cost


@pytest.mark.slow
def test_one_that_stopped_goes_on_where_it_was(tiny_base, cats, tmp_path, monkeypatch):
    started = []

    def stopping(run, anyway):
        started.append(run.name)
        if run.name.endswith("reward"):
            run.update_status(state="stopped")
            return type("Stopped", (), {"wait": lambda self: None})()
        return Child(run)

    monkeypatch.setattr(processes, "attached", stopping)
    run = rlhf.start(rlhf_recipe(tiny_base, cats, tmp_path / "runs"), "way", CONSOLE)
    assert run.status()["state"] == "stopped"
    assert started == ["way-1-sft", "way-1-reward"]
    monkeypatch.setattr(
        processes, "attached", lambda run, anyway: started.append(run.name) or Child(run)
    )
    rlhf.resume(run, CONSOLE)
    assert started[2:] == ["way-1-reward", "way-1-ppo-b0.1", "way-1-dpo-b0.5"]
    assert [point["kind"] for point in run.records("points.jsonl")] == [
        "sft",
        "reward",
        "ppo",
        "dpo",
    ]


def test_a_step_that_fails_is_named(tmp_path, monkeypatch):
    def failing(run, anyway):
        run.update_status(state="failed", error="no room")
        return type("Failed", (), {"wait": lambda self: None})()

    monkeypatch.setattr(processes, "attached", failing)
    with pytest.raises(UserError, match="way-1-sft failed: no room"):
        rlhf.start(rlhf_recipe(folder=tmp_path), "way", CONSOLE)
    assert Run(tmp_path / "way-1").status()["state"] == "failed"


def test_the_frozen_recipe_reads_back(tmp_path):
    recipe = rlhf_recipe(folder=tmp_path)
    (tmp_path / "frozen.yaml").write_text(to_yaml(recipe))
    again = load_recipe(tmp_path / "frozen.yaml")
    assert plan_steps(again, "r") == plan_steps(recipe, "r")
    assert rlhf_steps.Kind.__args__ == ("sft", "reward", "ppo", "dpo")


def test_a_preflight_is_of_the_first_step():
    looked_at, note = first_look(rlhf_recipe(), "way")
    assert (looked_at.task, looked_at.run.name) == ("sft", "way-sft")
    assert "4 runs" in note
    assert "way-sft" in note
    recipe = validate_recipe({"model": {"base": "b"}, "data": {"train": "d"}}, "test")
    assert first_look(recipe, "way") == (recipe, "")
    with pytest.raises(UserError, match=r"rlhf\.dpo.*train\.lrr"):
        first_look(rlhf_recipe(dpo={"train": {"lrr": 1}}), "way")


@pytest.fixture
def finished(tmp_path):
    """The folder of an RLHF run and of one of its runs, with nothing trained."""
    run = Run(tmp_path / "way")
    recipe = rlhf_recipe(folder=tmp_path)
    for folder, text in ((run, recipe), (plan_steps(recipe, "way")[0].run, None)):
        folder.path.mkdir()
        folder.recipe_file.write_text(to_yaml(text or plan_steps(recipe, "way")[0].recipe))
        folder.update_status(state="finished", step=4, max_steps=4)
    return run


@pytest.mark.parametrize(
    "wanting",
    [
        lambda run: columns(run, ["policy"]),
        lambda run: columns(Run(run.path.parent / "way-sft"), ["way"], run.path.parent),
        lambda run: judge_recipe("way", runs=run.path.parent),
        lambda run: preview(run, repo="me/way"),
        lambda run: merge_run(run, run.path / "out"),
        lambda run: job.evaluate_again(run, CONSOLE),
        lambda run: adapter_folder(str(run.adapter)),
    ],
    ids="compare beside score push merge eval start".split(),
)
def test_whoever_wants_its_adapter_is_told_its_runs(finished, wanting):
    with pytest.raises(
        UserError, match="no adapter of its own; name one of its runs: way-sft, way"
    ):
        wanting(finished)


def test_its_steps_with_their_states(finished):
    states = [(run.name, status["state"]) for run, status in steps_of(finished)]
    assert states[:2] == [("way-sft", "finished"), ("way-reward", "to come")]


def test_it_keeps_its_name_and_is_deleted_without_its_runs(finished):
    with pytest.raises(UserError, match="keeps its name"):
        processes.rename(finished, "other")
    assert "its runs stay" in processes.what_is_deleted(finished)
    processes.delete(finished)
    assert [run.name for run in list_runs(finished.path.parent)] == ["way-sft"]


def test_runs_of_another_rlhf_run_are_not_taken_for_its_own(finished, monkeypatch):
    """An RLHF run was deleted, and another one is started under its name."""
    finished.recipe_file.write_text(to_yaml(rlhf_recipe(folder=finished.path.parent, seeds=[7])))
    finished.update_status(state="stopped")
    monkeypatch.setattr(processes, "attached", lambda run, anyway: pytest.fail("nothing may start"))
    with pytest.raises(UserError, match="way-sft exists and was made from other keys"):
        rlhf.resume(finished, CONSOLE)


def test_stopping_twice_breaks_its_step_off(tmp_path, monkeypatch):
    asked = []

    class Slow:
        """A step that goes on until it was asked twice."""

        def __init__(self, run, anyway):
            self.run = run

        def wait(self):
            if len(asked) < 2:
                raise KeyboardInterrupt
            self.run.update_status(state="stopped")

    monkeypatch.setattr(processes, "attached", Slow)
    monkeypatch.setattr(processes, "stop", lambda run: asked.append(run.name))
    run = rlhf.start(rlhf_recipe(folder=tmp_path), "way", CONSOLE)
    assert asked == ["way-1-sft"] * 2
    assert run.status()["state"] == "stopped"
