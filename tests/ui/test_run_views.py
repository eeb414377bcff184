"""What the Runs tab says about the folders on disk."""

from types import SimpleNamespace

import pytest

from dpo_lite.files import write_json
from dpo_lite.recipe import load_recipe, to_yaml
from dpo_lite.runs.folder import create_run
from dpo_lite.ui import compare_question, run_files, tab_runs
from dpo_lite.ui import run_views as views
from dpo_lite.ui.curves import View
from dpo_lite.ui.run_csv import metrics_csv

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def folder(tmp_path):
    for name, beta in (("one", 0.1), ("two", 0.3)):
        run = create_run(tmp_path, name, "x")
        run.recipe_file.write_text(to_yaml(load_recipe("quickstart", [f"train.beta={beta}"])))
        run.update_status(state="finished", step=20, max_steps=20, loss=0.4, margin=1.0)
        for step in range(1, 21):
            run.append("metrics.jsonl", {"step": step, "loss": 0.7 - step / 50})
        run.append("samples.jsonl", {"when": "before", "prompt": EVIL, "answer": EVIL})
        run.append("samples.jsonl", {"when": "during", "step": 5, "prompt": EVIL, "answer": "x"})
        run.log(f"{EVIL} hf_abcdefghijklmnopqrstuvwxyz")
    return tmp_path


def test_what_models_and_logs_say_is_text(folder):
    found = run_files.statuses(folder)
    for html in (
        views.run_table(found, ["one"]),
        views.detail(folder, found, ["one"]),
        views.samples(folder, ["one"]),
        views.log_tail(folder, ["one"]),
    ):
        assert "<img" not in html
    assert "update 5" in views.samples(folder, ["one"])
    assert "<header>reference</header>" in views.samples(folder, ["one"])
    assert "hf_abc" not in views.log_tail(folder, ["one"])


def test_the_difference_of_recipes_and_nothing_else(folder):
    html = views.recipe_difference(folder, ["one", "two"])
    assert html.count("<tr>") == 2  # the head and train.beta
    assert "<td>train.beta</td><td>0.1</td><td>0.3</td>" in html
    assert "equal" in views.recipe_difference(folder, ["one", "one"])
    assert "Select two" in views.recipe_difference(folder, ["one"])


def test_the_signature_changes_with_what_is_shown(folder):
    run = views.Run(folder / "one")

    def sign():
        return run_files.signature(folder, run_files.statuses(folder), ["one"])

    before = sign()
    assert sign() == before
    run.append("metrics.jsonl", {"step": 21, "loss": 0.1})
    after = sign()
    assert after != before
    run.update_status(state="failed", error="x")
    assert sign() != after
    assert run_files.statuses(folder)["one"]["state"] == "failed"


def test_a_status_that_broke_does_not_break_the_table(folder):
    (folder / "two" / "status.json").unlink()
    write_json(folder / "one" / "status.json", {"state": "running", "pid": 2**22 + 1})
    html = views.run_table(run_files.statuses(folder), [])
    assert "interrupted" in html
    assert "created" in html


@pytest.mark.parametrize(
    ("selected", "name", "add", "after"),
    [
        ([], "a", False, ["a"]),
        (["a", "b"], "c", False, ["c"]),
        (["a"], "b", True, ["a", "b"]),
        (["a", "b"], "a", True, ["b"]),
        (list("abcdef"), "g", True, list("abcdef")),
    ],
)
def test_selecting(selected, name, add, after):
    assert tab_runs.select(selected, name, add) == after


def test_nothing_is_sent_twice(folder):
    import gradio as gr

    from dpo_lite.ui.shared import Page

    page = Page(folder, folder, worker=None)
    first = tab_runs.refresh(page, ["one"], View(), None, {})
    assert all(isinstance(value, str) for value in first[:6])
    again = tab_runs.refresh(page, ["one"], View(), None, first[-1])
    assert again == gr.skip()
    views.Run(folder / "two").update_status(state="stopped")
    third = tab_runs.refresh(page, ["one"], View(), None, first[-1])
    assert isinstance(third[0], str)  # the table
    assert third[2] == gr.skip()  # the curves of the other run did not change


def test_an_empty_folder_says_what_to_do(tmp_path):
    assert "press Launch" in views.run_table(run_files.statuses(tmp_path), [])
    assert views.curve_grid(tmp_path, [], View()) == ""


def test_a_reward_model_is_offered_nothing_that_it_cannot_do(tmp_path):
    run = create_run(tmp_path, "judge", "x")
    run.recipe_file.write_text(to_yaml(load_recipe("reward-quickstart")))
    run.update_status(state="finished", step=2, max_steps=2, loss=0.4, margin=1.0)
    run.append("metrics.jsonl", {"step": 1, "loss": 0.69, "rewards/margins": 0.0})
    found = run_files.statuses(tmp_path)
    assert "gives none" in views.samples(tmp_path, ["judge"])
    head = views.detail(tmp_path, found, ["judge"])
    assert "centering 0.01" in head
    assert "beta" not in head
    panels = views.curve_grid(tmp_path, ["judge"], View())
    assert "reward margin" in panels
    assert "log-prob" not in panels
    assert "sample_steps" not in panels
    page = SimpleNamespace(runs=tmp_path)
    values = tab_runs.refresh(page, ["judge"], View(), None, {})
    (compare,) = [v for v in values if getattr(v, "value", None) == "Compare"]
    assert not compare.interactive
    run.adapter.mkdir()
    write_json(run.adapter / "adapter_config.json", {"task_type": "SEQ_CLS"})
    assert compare_question.answering(tmp_path) == []


def test_metrics_as_a_table_of_all_runs():
    path = metrics_csv({"a": [{"step": 1, "loss": 0.1}], 'b"': [{"step": 1, "kl": 1e-7}]})
    assert path.read_text().splitlines() == ["run,step,loss,kl", "a,1,0.1,", '"b""",1,,1e-07']


def test_of_many_runs_the_newest_are_shown_and_those_that_matter(tmp_path):
    by_name = {
        f"r{number:03}": {"state": "running" if number == 240 else "finished"}
        for number in range(250)
    }
    html = views.run_table(by_name, ["r200"])
    assert html.count("data-run=") == 102
    assert 'data-run="r099"' in html
    assert 'data-run="r100"' not in html
    assert 'data-run="r200"' in html
    assert 'data-run="r240"' in html
    assert "148 older runs: show 100 more" in html
    assert "data-more" not in views.run_table(by_name, [], 250)


@pytest.mark.parametrize("view", ["detail", "curve_grid", "samples", "log_tail"])
def test_a_view_that_fails_leaves_the_others(folder, monkeypatch, view):
    """The browser keeps the selection, so it would fail at every look."""

    def fails(*anything):
        raise KeyError("step")

    monkeypatch.setattr(views, view, fails)
    texts = tab_runs.refresh(SimpleNamespace(runs=folder), ["one"], View(), None, {})[:6]
    assert ["(KeyError)" in text for text in texts].count(True) == 1
    assert 'data-run="two"' in texts[0]
