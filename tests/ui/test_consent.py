"""A page that others can reach runs no code that they name, unless it was started for that."""

from pathlib import Path

import pytest

from dpo_lite.errors import UserError
from dpo_lite.jobs.doctor import examine
from dpo_lite.runs import processes
from dpo_lite.runs.folder import Run
from dpo_lite.ui import recipe_actions, run_actions, server
from dpo_lite.ui.recipe_draft import Draft, browser_copy
from dpo_lite.ui.shared import Page

CODE = "model: {base: x, trust_remote_code: true}\ndata: {train: y}\n"


def page(folder, allow_code):
    return Page(runs=folder, recipes=folder, worker=None, allow_code=allow_code)


@pytest.mark.parametrize("allow_code", [False, True])
def test_a_launch(allow_code, tmp_path, monkeypatch):
    launched = []
    monkeypatch.setattr(
        recipe_actions, "launch", lambda *given: launched.append(given) or Run(tmp_path)
    )
    at_click = (browser_copy(Draft("x", CODE, tmp_path)), CODE, "{}")
    said, *_ = recipe_actions._launch(page(tmp_path, allow_code), at_click)
    assert bool(launched) is allow_code
    assert ("--allow-code" in said) is not allow_code


@pytest.mark.parametrize("allow_code", [False, True])
def test_a_resume(allow_code, tmp_path, monkeypatch):
    (tmp_path / "recipe.yaml").write_text(CODE)
    resumed = []
    monkeypatch.setattr(processes, "resume", resumed.append)
    if allow_code:
        run_actions._resume(page(tmp_path, True), Run(tmp_path))
    else:
        with pytest.raises(UserError, match="--allow-code"):
            run_actions._resume(page(tmp_path, False), Run(tmp_path))
    assert bool(resumed) is allow_code


def test_the_doctor(tmp_path):
    """Its keys are a recipe's, and its source may be one."""
    (tmp_path / "own.yaml").write_text(CODE)
    for source, keys in (
        ("y.jsonl", ["model.trust_remote_code=true"]),
        (tmp_path / "own.yaml", []),
    ):
        with pytest.raises(UserError, match="--allow-code"):
            examine(str(source), keys, "base", code=False)


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({}, True),
        ({"host": "0.0.0.0"}, False),
        ({"share": True}, False),
        ({"share": True, "allow_code": True}, True),
    ],
)
def test_what_a_page_allows(options, allowed, monkeypatch, tmp_path):
    made = []

    class Stop(Exception):
        pass

    def build(page):
        made.append(page)
        raise Stop

    monkeypatch.setenv(server.PASSWORD_VARIABLE, "correct horse")
    monkeypatch.setattr(server, "check_port", lambda *_: None)
    monkeypatch.setattr(server, "build", build)
    with pytest.raises(Stop):
        server.serve(runs=Path(tmp_path), recipes=tmp_path, **options)
    assert made[0].allow_code is allowed
