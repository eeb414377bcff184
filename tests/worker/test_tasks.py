"""The tasks of the worker, in this process: what the page is told."""

import io
import json

import pytest

from dpo_lite.errors import UserError
from dpo_lite.worker.held import Held
from dpo_lite.worker.talk import Replies, Talk
from dpo_lite.worker.tasks import TASKS

RECIPE = """
model: {base: BASE, quantization: none}
data: {train: PAIRS}
"""


@pytest.fixture
def pairs(tmp_path):
    rows = [
        {"prompt": f"where is cat {i}", "chosen": "on the mat", "rejected": "in the hat"}
        for i in range(24)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def ask(tmp_path):
    """Do a task; returns its result as JSON makes it, and what was said."""

    def do(task, **arguments):
        said = io.StringIO()
        result = TASKS[task](Talk(Replies(said), 1), Held(tmp_path, lambda _: None), **arguments)
        events = [json.loads(line) for line in said.getvalue().splitlines()]
        return json.loads(json.dumps(result)), [event.get("text") for event in events]

    return do


def test_the_doctor(ask, pairs):
    report, said = ask("doctor", source=pairs)
    assert report["format"] == "triples"
    assert report["kept"] == 24 - sum(report["evals"].values())
    assert isinstance(report["notes"], list)
    assert said


def test_a_plan(ask, pairs, tiny_base):
    text = RECIPE.replace("BASE", tiny_base).replace("PAIRS", pairs)
    found, said = ask("plan", recipe=text, gpu="12GB")
    assert found["fits"]
    assert sum(found["plan"]["parts"].values()) == found["plan"]["total"]
    assert "it fits" in found["lines"]
    assert any("without data" in text for text in said)


def test_a_preflight(ask, pairs, tiny_base):
    recipe = {"model": {"base": tiny_base, "quantization": "none"}, "data": {"train": pairs}}
    found, said = ask("check", recipe=recipe)
    assert found["facts"]["start_loss"] == pytest.approx(0.693147, abs=1e-5)
    assert found["facts"]["scoring"]["way"] == "forest"
    assert found["data"]["format"] == "triples"
    assert any("policy equals reference" in line for line in found["lines"])
    assert any(text.startswith("loading") for text in said)


def test_faults_are_sentences(ask):
    with pytest.raises(UserError, match="holds no keys"):
        ask("plan", recipe="just text")
    with pytest.raises(UserError, match=r"the recipe: .*data\.train is missing"):
        ask("plan", recipe="model: {base: x}\ndata: {}")
