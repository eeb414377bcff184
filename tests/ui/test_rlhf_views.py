"""A run of runs in the Runs tab: its steps, its table, its picture, and nothing of DPO."""

import base64

import pytest

from dpo_lite.recipe import load_recipe, to_yaml
from dpo_lite.runs.folder import Run, create_run
from dpo_lite.runs.rlhf_steps import plan_steps
from dpo_lite.ui import rlhf_views, run_files
from dpo_lite.ui import run_views as views
from dpo_lite.ui.curves import View

PNG = b"\x89PNG not really"


@pytest.fixture
def folder(tmp_path):
    """An RLHF run of which the SFT is done and the reward model trains, and a run of PPO."""
    run = create_run(tmp_path, "way", "x")
    betas = ["rlhf.ppo_betas=[0.1, 0.5]", "rlhf.dpo_betas=[0.3]"]
    recipe = load_recipe("rlhf-quickstart", [f"run.folder={tmp_path}", *betas])
    run.recipe_file.write_text(to_yaml(recipe))
    run.update_status(state="stopped", step=1, max_steps=10)
    for step, state in zip(plan_steps(recipe, "way"), ("finished", "stopped", None), strict=False):
        if state:
            step.run.path.mkdir()
            step.run.recipe_file.write_text(to_yaml(step.recipe))
            step.run.update_status(state=state, step=3, max_steps=12, loss=0.4)
    held_out = {"topics": {"truthful": 0.25, "reward": -1.0, "kl": 0.0}}
    point = {"run": "way-sft", "kind": "sft", "seed": 42, "beta": None, "sets": held_out}
    run.append("points.jsonl", point | {"seconds": 9.0, "memory": 2**30})
    return tmp_path


def test_its_runs_are_rows_that_open_them(folder):
    html = rlhf_views.overview(Run(folder / "way"))
    assert 'data-run="way-sft"' in html
    assert 'data-run="way-reward"' in html
    assert "3 / 12" in html
    assert 'data-run="way-ppo-b0.1"' not in html  # there is nothing to open yet
    assert "to come" in html
    assert "25%" in html
    assert "<img" not in html


def test_the_picture_is_part_of_the_page(folder):
    (folder / "way" / "frontier.png").write_bytes(PNG)
    html = rlhf_views.overview(Run(folder / "way"))
    assert f"data:image/png;base64,{base64.b64encode(PNG).decode()}" in html
    assert str(folder) not in html


def test_the_tab_speaks_of_its_runs(folder):
    found = run_files.statuses(folder)
    head = views.detail(folder, found, ["way"])
    assert "run 1 of 10" in head
    assert "PPO at beta 0.1, 0.5, DPO at beta 0.3" in head
    assert "update" not in head
    assert "--resume" in head
    shown = views.curve_grid(folder, ["way"], View(0.5))
    assert "Its runs" in shown
    assert "<figure" not in shown
    both = views.curve_grid(folder, ["way", "way-reward"], View(0.5))
    assert both.index("Its runs") < both.index("<figure")
    assert "Each of its runs" in views.samples(folder, ["way"])
    assert not run_files.can_answer(folder, "way")


def test_a_new_point_is_seen(folder):
    found = run_files.statuses(folder)
    before = run_files.signature(folder, found, ["way"])
    Run(folder / "way").append("points.jsonl", {})
    assert run_files.signature(folder, found, ["way"]) != before


def test_a_run_of_ppo_in_words(folder):
    recipe = load_recipe("ppo-quickstart", ["ppo.reward=runs/judge-1/adapter", "ppo.kl_target=4"])
    run = create_run(folder, "policy", "x")
    run.recipe_file.write_text(to_yaml(recipe))
    run.update_status(state="stopped", step=2, max_steps=9, loss=0.01, reward=1.5, kl=0.25)
    run.append("samples.jsonl", {"when": "during", "step": 2, "prompt": "Why?", "answer": "So."})
    found = run_files.statuses(folder)
    head = views.detail(folder, found, ["policy"])
    assert "rollout 2 of 9" in head
    assert "ppo on judge-1, beta" in head
    assert "steered to a KL of 4" in head
    assert "prompts per rollout" in head
    assert "rollout 2" in views.samples(folder, ["policy"])
    table = views.run_table(found, [])
    assert ">reward<" in table
    assert ">1.50<" in table
    assert ">0.010<" not in table
    assert run_files.can_answer(folder, "policy")
