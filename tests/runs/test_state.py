"""The small files of a run, damaged: what the others tell, and who is not stopped by them."""

import json
import os
import signal
import time

import pytest

from dpo_lite.cli import main
from dpo_lite.errors import UserError, in_words
from dpo_lite.files import read_json, write_json, write_text
from dpo_lite.recipe import load_recipe, to_yaml
from dpo_lite.runs import processes, system, whole
from dpo_lite.runs.checkpoints import STATE, copy_beside
from dpo_lite.runs.folder import create_run, list_runs, open_run
from dpo_lite.runs.state import read_results, sound_status
from dpo_lite.runs.watched import recorded
from dpo_lite.ui import publish_views, run_files, run_views
from dpo_lite.ui.curves import View

DAMAGED = {
    "empty": b"",
    "zeros": bytes(50),
    "cut": b'{"state": "runn',
    "a list": b"[1, 2]",
    "a text": b'"running"',
    "another shape": b'{"state": {"a": 1}, "sets": 3, "data": [1]}',
    "no text": b"\xff\xfe\x00",
}
TEXT = to_yaml(load_recipe("quickstart"))
MANIFEST = {"data": {"fingerprint": "f", "examples": 3}, "device": "cpu"}


def made(folder, name="one", steps=(2, 4), finished=False):
    """A run as it lies there after an update, without a model."""
    run = create_run(folder, name, "demo")
    write_text(run.recipe_file, TEXT.replace("name: null", f"name: {name}", 1))
    write_json(run.path / "manifest.json", MANIFEST)
    run.begin(step=5, max_steps=6)
    for step in range(1, 6):
        run.append("metrics.jsonl", {"step": step, "loss": 0.5})
    for step in steps:
        with whole.written_whole(run.checkpoints / f"checkpoint-{step}") as path:
            write_json(path / STATE, {"global_step": step, "max_steps": 6})
            copy_beside(path)
    if finished:
        write_json(run.path / "results.json", {"sets": {"test": {"loss": 0.5}}})
        write_text(run.path / "report.md", "# one\n")
    run.update_status(state="finished" if finished else "stopped", doing=None)
    return run


@pytest.mark.parametrize("how", [*DAMAGED, "missing", "a folder"])
def test_how_a_run_stands_is_told_from_its_other_files(tmp_path, how):
    for name, finished in (("done", True), ("part", False)):
        run = made(tmp_path, name, finished=finished)
        file = run.path / "status.json"
        file.unlink()
        if how == "a folder":
            file.mkdir()
        elif how != "missing":
            file.write_bytes(DAMAGED[how])
        status = run.status()
        assert status["state"] == ("finished" if finished else "interrupted")
        assert (status["step"], status["max_steps"]) == (5, 6)
        assert bool([w for w in run.damages() if w.startswith("status.json is damaged")]) == (
            how != "missing"
        )


def test_numbers_of_another_type_are_left_out(tmp_path):
    run = made(tmp_path)
    odd = {"state": "running", "pid": "x", "step": "3", "max_steps": 6, "loss": [], "pairs": True}
    write_json(run.path / "status.json", odd | {"launched": "now", "doing": None})
    assert run.status() == {"state": "interrupted", "doing": None}


@pytest.mark.parametrize("how", DAMAGED)
@pytest.mark.parametrize("file", ["status.json", "manifest.json", "results.json", "recipe.yaml"])
def test_one_damaged_run_stops_nobody(tmp_path, capsys, file, how):
    """The list in the terminal, the Runs tab, the Publish tab."""
    sound = made(tmp_path, "sound", finished=True)
    run = made(tmp_path, "broken", finished=True)
    (run.path / file).write_bytes(DAMAGED[how])
    (run.path / "metrics.jsonl").write_bytes(b"junk\n{}\n")
    (run.checkpoints / "checkpoint-best").mkdir()
    main_quietly(["runs", "--runs", str(tmp_path)])
    listed = capsys.readouterr().out
    assert "sound" in listed
    assert "broken" in listed
    statuses = run_files.statuses(tmp_path)
    for chosen in (["broken", "sound"], ["sound", "broken"]):
        for view in (run_views.run_table, run_views.recipe_difference):
            view(statuses if view is run_views.run_table else tmp_path, chosen)
        shown = run_views.detail(tmp_path, statuses, chosen)
        run_views.curve_grid(tmp_path, chosen, View())
        run_views.samples(tmp_path, chosen)
        run_views.log_tail(tmp_path, chosen)
        assert ("is damaged" in shown) == (chosen[0] == "broken" and file != "recipe.yaml")
    assert "sound" in publish_views.run_names(tmp_path)
    assert publish_views.checkpoints(run)[-2:] == ["4", "2"]
    assert {r.name for r in list_runs(tmp_path)} == {"sound", "broken"}
    assert sound.status()["state"] == "finished"


def main_quietly(arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code in (0, None)


@pytest.mark.parametrize("how", [*DAMAGED, "missing"])
def test_manifest_and_recipe_come_back_from_a_checkpoint(tmp_path, how):
    """Under the name that the run has now, and at its place in the list."""
    run = made(tmp_path)
    renamed = run.path.rename(tmp_path / "two")
    run = open_run(renamed)
    older = run.recipe_file.stat().st_mtime - 1000
    for folder in run.checkpoints.iterdir():
        os.utime(folder / "recipe.yaml", (older, older))
    for file in ("recipe.yaml", "manifest.json"):
        (run.path / file).unlink()
        if how != "missing":
            (run.path / file).write_bytes(DAMAGED[how])
    words = open_run("two", tmp_path).take_up()
    assert len(words) == 2
    assert all(w.endswith("was damaged and is put back from checkpoint-4") for w in words)
    recipe = load_recipe(run.recipe_file)
    assert recipe.run.name == "two"
    recipe.run.name = None
    assert to_yaml(recipe) == TEXT
    assert run.recipe_file.stat().st_mtime == older
    assert run.manifest() == MANIFEST
    assert run.take_up() == []


def test_a_recipe_that_is_cut_where_it_still_reads_is_put_back(tmp_path):
    run = made(tmp_path)
    text = run.recipe_file.read_text()
    run.recipe_file.write_text(text[: text.index("ppo:")])
    assert run.take_up() == ["recipe.yaml was damaged and is put back from checkpoint-4"]
    assert run.recipe_file.read_text() == text


def test_a_recipe_that_nothing_can_put_back_is_one_sentence(tmp_path):
    run = made(tmp_path, steps=())
    run.recipe_file.write_text(TEXT[: TEXT.index("ppo:")])
    with pytest.raises(UserError, match=r"recipe\.yaml is cut short or no recipe, and no check"):
        run.take_up()
    assert run.status()["state"] == "stopped"


@pytest.mark.parametrize("file", ["status.json", "log.txt", "recipe.yaml", "metrics.jsonl"])
def test_a_folder_in_place_of_a_file_is_one_sentence(tmp_path, file, capsys):
    run = made(tmp_path)
    (run.path / file).unlink(missing_ok=True)
    (run.path / file).mkdir()
    words = f"{file} is a folder where the run has a file; move it away."
    for do in (run.take_up, lambda: processes.resume(run)):
        with pytest.raises(UserError, match=words):
            do()
    with pytest.raises(SystemExit):
        main(["train", "--resume", str(run.path)])
    said = capsys.readouterr().err
    assert "move it away" in " ".join(said.split())
    assert "Traceback" not in said
    assert not list(run.path.glob(".*"))


def test_what_a_killed_writer_left_is_swept(tmp_path):
    run = made(tmp_path)
    (run.path / ".status.json.4711").write_text("{")
    (run.checkpoints / ".checkpoint-6").mkdir()
    (run.path / ".keep").write_text("somebody's")
    run.take_up()
    assert [path.name for path in run.path.glob(".*")] == [".keep"]
    assert not list(run.checkpoints.glob(".*"))


def test_a_write_that_fails_is_a_sentence_and_leaves_nothing(tmp_path):
    run = made(tmp_path)
    (run.path / "results.json").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_json(run.path / "results.json", {})
    assert in_words(caught.value).startswith(f"{run.path / 'results.json'} cannot be written")
    assert not list(run.path.glob(".*"))


def test_seconds_are_those_of_all_sessions(tmp_path, monkeypatch):
    """Until the last update that was logged where a process was killed; pauses are not counted."""
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    run = create_run(tmp_path, "one", "demo")
    write_text(run.recipe_file, TEXT)

    def session(seconds, end):
        run.take_up()
        now[0] += 5  # a preflight
        run.begin()
        now[0] += seconds
        run.update_status(step=1, max_steps=2)
        now[0] += 3  # and no word any more
        if end:
            run.update_status(state=end)
        now[0] += 100_000

    session(10, "stopped")
    assert run.seconds() == 13
    session(20, None)
    assert run.seconds() == 33
    status = read_json(run.path / "status.json")
    write_json(run.path / "status.json", status | {"pid": 2**22, "pid_started": "1"})
    assert run.status()["state"] == "interrupted"
    run.update_status(state="queued")  # the page's button
    session(30, "finished")
    assert run.seconds() == 13 + 20 + 33


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no terminal goes away there")
def test_the_end_of_a_terminal_is_a_stop(tmp_path):
    """Told once or twice, by shell and system; who is to live on without it does."""
    kept = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        for number in (signal.SIGHUP, signal.SIGTERM):
            system.listen()
            run = create_run(tmp_path, None, "demo")

            def work(run=run, number=number):
                run.begin()
                os.kill(os.getpid(), number)
                time.sleep(5)

            recorded(run, work)
            assert run.status()["state"] == "stopped"
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert system.hangups() == []  # as under nohup
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def test_answers_keep_their_shape(tmp_path):
    run = made(tmp_path)
    run.append("samples.jsonl", {"when": "during", "step": 4, "prompt": "a", "answer": "b"})
    run.append("samples.jsonl", {"when": "during", "step": 5, "prompt": "a", "answer": "b"})
    run.forget_after(4)
    assert [r["step"] for r in run.records("metrics.jsonl")] == [1, 2, 3, 4]
    assert [r["step"] for r in run.records("samples.jsonl")] == [4]
    assert json.loads((run.path / "status.json").read_text())["state"] == "stopped"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("loss", 10**400),
        ("pairs", -(10**400)),
        ("step", 2**63),
        ("seconds_left", float("inf")),
        ("started", 10**400),
        ("started", float("nan")),
        ("margin", True),
        ("updated", 1e300),
        ("launched", None),
    ],
)
def test_a_number_that_cannot_be_shown_is_left_out(key, value):
    found = {"state": "running", "step": 1, "max_steps": 2, "loss": float("nan"), key: value}
    status = sound_status(found)
    assert key not in status
    assert status["state"] == "running"


def test_results_with_a_number_that_no_float_holds_are_damaged(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for value, sound in ((0.5, True), (10**400, False), ([1, {"n": -(10**400)}], False)):
        write_json(run / "results.json", {"sets": {"test": {"loss": value}}})
        assert (read_results(run) is not None) == sound


@pytest.mark.parametrize(
    "odd",
    [
        {"loss": "0.5"},
        {"generation": {"policy": []}},
        {"drawn": {"policy": 5}},
        {"counts": 3},
        {"calibration": {"pairs": 40, "error": None, "bins": []}},
        {"calibration": {"pairs": 40, "error": 0.1, "bins": [{"count": 40}]}},
    ],
)
def test_results_of_another_shape_are_damaged(tmp_path, odd):
    sound = {"loss": 0.5, "counts": {"generation": {"policy": {"successes": 1, "n": 2}}}}
    write_json(tmp_path / "results.json", {"sets": {"test": sound}, "memory": {}})
    assert read_results(tmp_path) is not None
    write_json(tmp_path / "results.json", {"sets": {"test": sound | odd}})
    assert read_results(tmp_path) is None
    write_json(tmp_path / "results.json", {"sets": {"test": sound}, "seconds": "9"})
    assert read_results(tmp_path) is None


def test_results_of_a_reward_model_are_sound(tmp_path):
    """Its mean is told with how many responses it is of."""
    results = {"sets": {}, "mean_reward": {"mean": -0.1, "responses": 448}, "seconds": 3.0}
    write_json(tmp_path / "results.json", results)
    assert read_results(tmp_path) == results
