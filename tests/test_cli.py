"""The command line as a user meets it: help, faults, exit codes."""

import os
import subprocess
import sys

import pytest

COMMANDS = ["recipes", "check", "train", "eval", "compare", "runs", "push"]


def run(*arguments, cwd=None):
    root = os.path.dirname(os.path.dirname(__file__))
    return subprocess.run(
        [sys.executable, "-m", "dpo_lite", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": root, "COLUMNS": "120", "NO_COLOR": "1"},
    )


@pytest.fixture
def cli(monkeypatch):
    """Commands in this process, for what needs no torch."""
    from typer.testing import CliRunner

    from dpo_lite.cli import app

    return lambda *arguments: CliRunner().invoke(app, arguments)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(cli, command):
    result = cli(command, "--help")
    assert result.exit_code == 0
    assert "Example" in result.output


def test_help_needs_no_torch():
    code = "import sys, dpo_lite.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_fault_is_one_sentence_without_a_traceback(tmp_path):
    result = run("train", "quickstart", "train.betta=1", cwd=tmp_path)
    assert result.returncode == 1
    assert "did you mean train.beta?" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in run("--debug", "train", "nothing", cwd=tmp_path).stderr


def test_recipes_are_listed_and_copied(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listed = cli("recipes").output
    assert "quickstart" in listed
    assert "zephyr-7b" in listed
    assert "train.beta" in cli("recipes", "keys").output
    assert cli("recipes", "cp", "quickstart", "mine.yaml").exit_code == 0
    assert "builtin:myths" in (tmp_path / "mine.yaml").read_text()
    assert "exists" in str(cli("recipes", "cp", "quickstart", "mine.yaml").exception)


def test_runs_of_an_empty_folder(cli, tmp_path):
    assert "no runs in" in cli("runs", str(tmp_path)).output


def test_missing_things(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "There is no run x" in str(cli("compare", "x").exception)
    assert "Which recipe" in str(cli("train").exception)
    assert "leave the recipe" in str(cli("train", "quickstart", "--resume", "x").exception)
