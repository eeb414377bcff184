"""The tasks of the worker, in this process: what the page is told."""

import io
import json

import pytest

from dpo_lite.errors import UserError
from dpo_lite.worker.model_cache import ModelCache
from dpo_lite.worker.protocol import Cancelled, Channel, Replies
from dpo_lite.worker.tasks import TASKS
from tests.export.test_strength import untrained_run

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
def ask(tmp_path, ask_of):
    """Do a task; returns its result as JSON makes it, and what was said."""

    def do(task, **arguments):
        result, events = ask_of(ModelCache(tmp_path, lambda _: None), task, **arguments)
        return result, [event.get("text") for event in events]

    return do


@pytest.fixture
def ask_of():
    """Do a task with this model cache; returns its result as JSON makes it, and its events."""

    def do(cache, task, **arguments):
        said = io.StringIO()
        result = TASKS[task](Channel(Replies(said), 1), cache, **arguments)
        events = [json.loads(line) for line in said.getvalue().splitlines()]
        return json.loads(json.dumps(result)), events

    return do


def test_the_doctor(ask, pairs):
    report, said = ask("doctor", source=pairs)
    assert report["format"] == "triples"
    assert report["kept"] == 24 - sum(report["evals"].values())
    assert isinstance(report["notes"], list)
    assert said


@pytest.mark.slow
def test_a_plan(ask, pairs, tiny_base):
    text = RECIPE.replace("BASE", tiny_base).replace("PAIRS", pairs)
    found, said = ask("plan", recipe=text, gpu="12GB")
    assert found["fits"]
    assert sum(found["plan"]["parts"].values()) == found["plan"]["total"]
    assert "it fits" in found["lines"]
    assert any("without data" in text for text in said)


@pytest.mark.slow
def test_a_preflight(ask, pairs, tiny_base):
    recipe = {"model": {"base": tiny_base, "quantization": "none"}, "data": {"train": pairs}}
    found, said = ask("check", recipe=recipe)
    assert found["facts"]["start_loss"] == pytest.approx(0.693147, abs=1e-5)
    assert found["facts"]["scoring"]["way"] == "forest"
    assert found["data"]["format"] == "triples"
    assert found["lines"][0].startswith("device     ")
    assert any("policy equals reference" in line for line in found["lines"])
    assert any(text.startswith("loading") for text in said)


def test_faults_are_sentences(ask):
    with pytest.raises(UserError, match="holds no keys"):
        ask("plan", recipe="just text")
    with pytest.raises(UserError, match=r"the recipe: .*data\.train is missing"):
        ask("plan", recipe="model: {base: x}\ndata: {}")


@pytest.mark.slow
def test_generating_streams_and_keeps_the_base(tmp_path, ask_of):
    from tests.compare.test_lockstep import PROMPT, make_run

    make_run(tmp_path, "one", 0)
    make_run(tmp_path, "two", 1)
    cache = ModelCache(tmp_path, lambda state: states.append(state))
    states = []
    options = {"run": "one", "prompt": PROMPT, "sampling": {"max_new_tokens": 6}}
    said, events = ask_of(cache, "generate", columns=["reference", "policy", "two"], **options)
    assert [column["label"] for column in said] == ["reference", "one", "two"]
    streamed = [event["texts"] for event in events if event["event"] == "token"]
    assert [text.strip() for text in streamed[-1]] == [column["text"] for column in said]
    assert len(streamed) == 6
    for column in said:
        assert sum(reward for _, reward in column["tokens"]) == pytest.approx(column["reward"])
    assert states[-1] == {"loaded": "builtin:myths", "holds_device": True}
    base = cache.model
    ask_of(cache, "generate", columns=["policy"], **options)
    assert cache.model is base
    cache.free()
    assert states[-1] == {"loaded": None, "holds_device": False}


@pytest.mark.slow
def test_a_cancelled_generation_stops_at_its_next_token(tmp_path):
    from tests.compare.test_lockstep import PROMPT, make_run

    make_run(tmp_path, "one", 0)
    cache = ModelCache(tmp_path, lambda state: None)
    stream = io.StringIO()
    channel = Channel(Replies(stream), 1)
    real = channel.emit

    def emit(event, **fields):
        real(event, **fields)
        if event == "token":
            channel.cancelled.set()

    channel.emit = emit
    with pytest.raises(Cancelled):
        TASKS["generate"](channel, cache, "one", ["reference", "policy"], PROMPT, {})
    assert stream.getvalue().count('"token"') <= 2
    cache.free()


def test_gguf_as_the_command_writes_it(ask, pairs, tiny_base, tmp_path):
    run = untrained_run(tmp_path / "a", tiny_base, data={"train": pairs})
    done, said = ask(
        "gguf", run=run.name, out=str(tmp_path / "out"), quant="f16,q8_0", measure=False
    )
    assert done["files"] == ["a-F16.gguf", "a-Q8_0.gguf"]
    assert all((tmp_path / "out" / name).is_file() for name in done["files"])
    assert done["rows"] == []
    assert done["commands"][0].startswith("llama-cli -m")
    assert any("q8_0: " in text for text in said if text)
