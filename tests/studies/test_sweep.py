"""Sweeps: the grid and its names, runs in turn, going on, and the table and picture of it."""

import os
import signal

import pytest
from rich.console import Console

from dpo_lite.errors import UserError
from dpo_lite.files import read_json, write_json
from dpo_lite.rates import Rate
from dpo_lite.recipe import load_recipe, to_yaml, validate_recipe
from dpo_lite.report.sweep import cells, draw_measures, write_sweep
from dpo_lite.report.sweep_best import best, verdict
from dpo_lite.report.sweep_rows import SweepRow, read_sweep
from dpo_lite.runs.folder import list_runs
from dpo_lite.studies import sweep as sweeping
from dpo_lite.studies.sweep import plan_sweep, run_sweep, split_values
from dpo_lite.training.callbacks import RunRecorder
from tests.cats import write_cats


@pytest.fixture
def recipe(tiny_base, tmp_path):
    """A recipe of two updates, with markers in its held-out set."""
    write_cats(tmp_path, train=range(16), test=range(16, 20))
    values = {
        "model": {"base": tiny_base},
        "data": {"train": str(tmp_path)},
        "train": {"lr": 1e-3, "batch_size": 8, "max_steps": 2},
        "eval": {"prompts": ["hello"], "max_new_tokens": 3},
        "run": {"folder": str(tmp_path / "runs")},
    }
    file = tmp_path / "tiny.yaml"
    file.write_text(to_yaml(validate_recipe(values, "test")))
    return str(file)


def go(sweep, said=None):
    said = [] if said is None else said
    return run_sweep(sweep, said.append, lambda: Console(quiet=True))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.03,0.1", ["0.03", "0.1"]),
        ("[q_proj, v_proj],all-linear", ["[q_proj, v_proj]", "all-linear"]),
        ("'a,b', c", ["'a,b'", "c"]),
        ('{a: "x,]"}', ['{a: "x,]"}']),
        ("1", ["1"]),
        ("", [""]),
    ],
)
def test_values_are_split_at_their_commas(text, values):
    assert split_values(text) == values


def test_the_grid_and_its_names(recipe):
    sweep = plan_sweep(recipe, ["train.beta=0.03,0.1", "train.lr=1e-5,5e-6", "train.seed=3"])
    assert sweep.name == "tiny-beta-lr"
    assert [point.run.name for point in sweep.points] == [
        "tiny-beta-lr-beta0.03-lr1e-5",
        "tiny-beta-lr-beta0.03-lr5e-6",
        "tiny-beta-lr-beta0.1-lr1e-5",
        "tiny-beta-lr-beta0.1-lr5e-6",
    ]
    last = sweep.points[-1].recipe.train
    assert (last.beta, last.lr, last.seed) == (0.1, 5e-6, 3)


def test_names_that_do_not_do_are_numbers(recipe):
    long = plan_sweep(recipe, ["adapter.targets=[q_proj],[ q_proj]"], "s")
    assert [point.run.name for point in long.points] == ["s-01", "s-02"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.beta=0.1"], "several values"),
        (["train.beta=0.1,0.1"], "value twice"),
        (["train.beta=0.1,0"], "train.beta: must be above 0"),
        (["train.betta=0.1,1"], "did you mean train.beta"),
        (["run.name=a,b"], "named after their values"),
        (["train.beta=0.1,1", "run.name=x"], "by --name"),
    ],
)
def test_faults_before_anything_is_trained(recipe, overrides, message):
    with pytest.raises(UserError, match=message):
        plan_sweep(recipe, overrides)


@pytest.mark.slow
def test_a_sweep_trains_and_compares(recipe, tmp_path):
    """Ordinary runs, answers before asked once, a table, a picture; then all are passed over."""
    sweep = plan_sweep(recipe, ["train.lr=1e-4,1e-2"])
    assert go(sweep)
    runs = {run.name: run for run in list_runs(tmp_path / "runs")}
    assert set(runs) == {"tiny-lr-lr1e-4", "tiny-lr-lr1e-2"}
    assert {run.status()["state"] for run in runs.values()} == {"finished"}
    assert load_recipe(runs["tiny-lr-lr1e-2"].recipe_file).train.lr == 1e-2
    before = [
        [s for s in run.records("samples.jsonl") if s["when"] == "before"] for run in runs.values()
    ]
    assert before[0] == before[1] != []

    rows = write_sweep(sweep.path)
    results = read_json(runs["tiny-lr-lr1e-2"].path / "results.json")
    found = rows[1].sets["test"]
    assert found["margin"] == results["sets"]["test"]["rewards/margins"]
    assert found["accuracy"].n == 4
    assert found["drift"] == pytest.approx(results["sets"]["test"]["rewards/chosen"] / 0.1)
    assert rows[1].sets["test"]["margin"] > rows[0].sets["test"]["margin"]
    table = (sweep.path / "table.md").read_text()
    assert (
        "| lr | held-out set | n | accuracy | margin | generated | drift | loss | time |" in table
    )
    assert "| 1e-2 | test | 4 | " in table
    assert (sweep.path / "sweep.png").stat().st_size > 10_000

    said = []
    trained = [run.recipe_file.stat().st_mtime for run in runs.values()]
    assert go(plan_sweep(recipe, ["train.lr=1e-4,1e-2"]), said)
    assert all("finished before" in line for line in said)
    assert [run.recipe_file.stat().st_mtime for run in runs.values()] == trained
    with pytest.raises(UserError, match="another --name"):
        go(plan_sweep(recipe, ["train.lr=1e-4,1e-2", "train.beta=0.3"]))


@pytest.mark.slow
def test_a_stopped_sweep_goes_on_where_it_was(recipe, monkeypatch):
    stop = RunRecorder.on_step_end

    def stop_at_one(self, args, state, control, **kwargs):
        if state.global_step == 1 and self.run.name.endswith("lr1e-2"):
            os.kill(os.getpid(), signal.SIGINT)  # the user's Ctrl-C
        return stop(self, args, state, control, **kwargs)

    monkeypatch.setattr(RunRecorder, "on_step_end", stop_at_one)
    sweep = plan_sweep(recipe, ["train.lr=1e-2,1e-4"])
    assert not go(sweep)
    assert sweep.points[0].run.status()["state"] == "stopped"
    assert sweep.points[0].run.last_checkpoint() is not None
    assert not sweep.points[1].run.path.exists()
    assert [row.state for row in read_sweep(sweep.path)] == ["stopped", "to train"]
    monkeypatch.undo()
    assert go(sweep)
    assert [row.state for row in read_sweep(sweep.path)] == ["finished", "finished"]


@pytest.mark.slow
def test_a_failed_run_is_told_and_the_others_go_on(recipe):
    """The second value of the length drops every row; the third trains; a second try is made."""
    said = []
    sweep = plan_sweep(recipe, ["data.max_length=8,64"])
    assert go(sweep, said)
    assert any("failed: data.train: no row" in line for line in said)
    rows = write_sweep(sweep.path)
    assert [row.state for row in rows] == ["failed", "finished"]
    assert "failed: data.train: no row" in (sweep.path / "table.md").read_text()
    said.clear()
    go(sweep, said)
    assert any("failed:" in line for line in said)


def test_a_run_that_is_there_already_is_left_alone(recipe, tmp_path):
    sweep = plan_sweep(recipe, ["train.lr=1e-4,1e-2"])
    sweep.points[1].run.path.mkdir(parents=True)
    with pytest.raises(UserError, match="is not of this sweep"):
        go(sweep)


def made(beta, lr, generated, drift, accuracy=1.0, n=None):
    shares = {"accuracy": accuracy, "generated": generated}
    rates = {key: None if share is None else Rate(share, n) for key, share in shares.items()}
    measures = rates | {"margin": 1.0, "drift": drift}
    sets = {"a": measures | {"loss": 0.5}, "b": measures | {"loss": 0.5}}
    return SweepRow(
        f"r{beta}{lr}", {"train.beta": beta, "train.lr": lr}, "finished", None, sets, 2.0, 9
    )


def test_the_best_generates_most_and_moves_least():
    rows = [made("1", "1", 0.5, -9.0), made("1", "2", 0.9, -30.0), made("2", "1", 0.9, -3.0)]
    assert best(rows) is rows[2]
    rows = [made("1", "1", None, -9.0, 0.7), made("1", "2", None, -1.0, 0.6)]
    assert best(rows) is rows[0]
    failed = SweepRow("x", {"k": "1"}, "failed", "why", {}, None, None)
    assert best([failed]) is None
    assert verdict([failed]) is None
    assert verdict([failed, rows[0]]) is None  # one alone is not the best of any


def test_no_best_where_all_are_alike():
    equal = [made("1", "1", 1.0, -9.0), made("1", "2", 1.0, -30.0), made("2", "1", 1.0, -3.0)]
    assert best(equal) is None
    assert verdict(equal) == (
        "no difference is seen in generated between the 3 runs (100%); nearest to the reference: "
        "r21"
    )
    # Two sets of 20 each: 39 and 36 of 40 are not told apart, 39 and 20 are.
    near = [made("1", "1", 0.975, -9.0, n=20), made("1", "2", 0.9, -1.0, n=20)]
    assert best(near) is None
    assert "is seen in generated between the 2 runs (90% to 98% of 40)" in verdict(near)
    far = [*near, made("2", "1", 0.5, -1.0, n=20)]
    assert best(far) is far[0]
    assert verdict(far) == "best by generated: r11; not told apart from it: r12"
    many = [made("1", "1", 0.975, -9.0, n=2000), made("1", "2", 0.9, -1.0, n=2000)]
    assert verdict(many) == "best by generated: r11"


def test_mean_rewards_are_alike_within_their_errors():
    def rewarded(name, reward, error):
        measures = {"reward": reward, "KL": 1.0} | ({"reward_error": error} if error else {})
        return SweepRow(name, {"k": name}, "finished", None, {"a": measures}, None, 1)

    assert best([rewarded("a", 1.0, 0.2), rewarded("b", 1.4, 0.2)]) is None  # 0.4 < 1.96 * 0.28
    assert best([rewarded("a", 1.0, 0.1), rewarded("b", 1.4, 0.1)]).run == "b"
    assert best([rewarded("a", 1.0, None), rewarded("b", 1.1, None)]).run == "b"


def test_two_keys_are_heat_maps(tmp_path):
    """Also where a run is missing from the grid."""
    rows = [made("1", "1", 0.5, -9.0), made("1", "2", 0.9, -30.0), made("2", "1", 0.9, -3.0)]
    draw_measures(rows, tmp_path / "heat.png", "two keys")
    assert (tmp_path / "heat.png").stat().st_size > 10_000
    head, body = cells(rows)
    assert head[:4] == ["beta", "lr", "held-out set", "n"]
    assert "KL" in head
    assert len(body) == 6
    assert body[1][:4] == ["", "", "b", "–"]
    counted = [made("1", "1", 0.5, -9.0, n=148)]
    assert cells(counted)[1][0][3:5] == ["148", "100% (97–100%)"]
    counted[0].sets["b"]["accuracy"] = Rate(1.0, 147)
    assert cells(counted)[1][1][3] == "147, 148"


def test_an_rlhf_run_is_not_swept(recipe):
    with pytest.raises(UserError, match=r"rlhf\.ppo_betas"):
        plan_sweep(recipe, ["task=rlhf", "train.lr=1e-4,1e-3"])


def test_what_is_measured_of_ppo(recipe, tmp_path):
    """Reward, KL and truthfulness of drawn answers; the KL of single rollouts is not shown."""
    overrides = ["task=ppo", "ppo.reward=someone/judge", "train.beta=0.1,1"]
    sweep = plan_sweep(recipe, overrides)
    names = [point.run.name for point in sweep.points]
    sweep.path.mkdir(parents=True)
    write_json(sweep.path / "sweep.json", {"runs": {p.run.name: p.values for p in sweep.points}})
    for point, (reward, kl) in zip(sweep.points, [(2.0, 3.0), (1.0, 0.5)], strict=True):
        point.run.path.mkdir()
        point.run.recipe_file.write_text(to_yaml(point.recipe))
        point.run.append("metrics.jsonl", {"step": 1, "loss": 0.0, "kl": 9.0})
        drawn = {"policy": {"reward": reward, "kl": kl, "truthful": 0.5}}
        write_json(point.run.path / "results.json", {"sets": {"test": {"drawn": drawn}}})
    rows = write_sweep(sweep.path)
    head, body = cells(rows)
    assert head == ["beta", "held-out set", "n", "truthful", "reward", "KL", "time"]
    assert body[0] == ["0.1", "test", "–", "50%", "+2.00", "3.00", "–"]
    table = (sweep.path / "table.md").read_text()
    assert f"Best by reward: {names[0]}." in table
    assert best(rows).run == names[0]


@pytest.mark.parametrize(
    "damaged", ["", "{", "[1]", '{"runs": 3}', '{"given": {}, "runs": {"a": 1}}']
)
def test_a_damaged_list_of_runs_is_written_anew(recipe, damaged):
    """A run says itself what it was made from; one of other values is not taken for its own."""
    sweep = plan_sweep(recipe, ["train.beta=0.1,0.2"])
    for point in sweep.points:
        run = point.run
        run.path.mkdir(parents=True)
        run.recipe_file.write_text(to_yaml(point.recipe))
        run.update_status(state="finished")
    sweep.path.mkdir()
    (sweep.path / "sweep.json").write_text(damaged)
    said = []
    assert go(sweep, said)
    assert "was damaged and is written anew" in said[0]
    assert [row.run for row in read_sweep(sweep.path)] == [point.run.name for point in sweep.points]
    (sweep.path / "sweep.json").write_text(damaged)
    run = sweep.points[0].run
    run.recipe_file.write_text(run.recipe_file.read_text().replace("lr: 0.001", "lr: 0.1"))
    with pytest.raises(UserError, match="made from other keys"):
        go(sweep)


def test_a_run_that_was_killed_before_it_had_its_recipe_is_made(recipe, monkeypatch):
    sweep = plan_sweep(recipe, ["train.beta=0.1,0.2"])
    trained = []

    def finished(run, console):
        trained.append(run.name)
        assert run.recipe_file.is_file()
        run.update_status(state="finished")

    monkeypatch.setattr(sweeping, "_train", finished)
    assert go(sweep)
    run = sweep.points[1].run
    for path in list(run.path.iterdir()):
        path.unlink()
    run.update_status(state="queued")  # as far as it came
    assert go(sweep)
    assert trained == [point.run.name for point in sweep.points] + [run.name]
