"""Steps that are recorded and played again: on a CPU by a recorder that does the step anew.

What it plays reads only what the recorded step was given, as a graph on a card does, so the cache
of fixed size, the copied inputs, the trial and the way back are the product's own.
"""

import logging
from functools import partial

import pytest
import torch
from transformers.modeling_outputs import CausalLMOutputWithPast

from dpo_lite.model import step_graph
from dpo_lite.model.generation import answer_ids
from dpo_lite.model.step_graph import fixed_cache
from tests.model.small_experts import small_mixture
from tests.model.small_models import HYBRID, RECURRENT, random_examples, small_model

NEW = 20


class Played:
    """In place of a CUDA graph; ``stale``: one that never sees a new token."""

    def __init__(self, step, stale=False):
        self.step, self.stale = step, stale
        self.made = CausalLMOutputWithPast(logits=torch.empty(0))
        self.plays, self.given_back = 0, False

    def replay(self):
        self.plays += 1
        if not self.stale or self.plays == 1:
            self.made["logits"] = self.step().logits


@pytest.fixture
def recorder(monkeypatch):
    """The graphs that were recorded; ``recorder.stale``: those to come are."""

    class Recorder(list):
        stale = False

    graphs = Recorder()

    def record(step):
        graphs.append(Played(step, graphs.stale))
        return graphs[-1], graphs[-1].made

    monkeypatch.setattr(step_graph, "_may", lambda lm, new: lm not in step_graph._refused)
    monkeypatch.setattr(step_graph, "without_waiting", lambda step: step())
    monkeypatch.setattr(step_graph, "record", record)
    monkeypatch.setattr(step_graph, "give_back", lambda graph: setattr(graph, "given_back", True))
    return graphs


def asked(model, **options):
    """Prompts of unequal lengths in one batch."""
    prompts = [example["prompt_ids"] for example in random_examples(4, 1)]
    return answer_ids(model, prompts, **{"max_new_tokens": NEW, "temperature": 0.0} | options)


def as_today(model, monkeypatch, **options):
    with monkeypatch.context() as patch:
        patch.setattr(step_graph, "_may", lambda lm, new: False)
        return asked(model, **options)


def is_as_today(model, recorder, monkeypatch):
    """Token by token, with an end that one row comes to before the others."""
    model.generation_config.eos_token_id = None
    said = as_today(model, monkeypatch)
    end = said[0][NEW // 3]
    expected = as_today(model, monkeypatch, ends=[end])
    assert len({len(answer) for answer in expected}) > 1
    assert asked(model) == said
    assert asked(model, ends=[end]) == expected
    assert [graph.plays for graph in recorder] == [NEW - 1, max(map(len, expected)) - 1]
    assert all(graph.given_back for graph in recorder)
    assert model not in step_graph._refused
    assert "forward" not in vars(model)


# A window of 5 is shorter than a row, and so are chunks of 5; OPT's positions are learned.
@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma2", "llama4_text", "opt"])
def test_answers_are_those_of_today(kind, recorder, monkeypatch):
    is_as_today(small_model(kind).eval(), recorder, monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize(
    "kind", ["qwen2", "qwen3", "gemma3_text", "gemma3n_text", "phi3", "smollm3", "bloom"]
)
def test_answers_of_others_are_those_of_today(kind, recorder, monkeypatch):
    is_as_today(small_model(kind).eval(), recorder, monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["gpt_oss", "qwen3_moe", "deepseek_v3"])
def test_answers_of_mixtures_are_those_of_today(kind, recorder, monkeypatch):
    is_as_today(small_mixture(kind).eval(), recorder, monkeypatch)


@pytest.mark.parametrize("kind", ["lfm2", "falcon_h1", "mamba2", "rwkv"])
def test_a_state_has_no_cache_of_fixed_size(kind):
    assert kind in (*HYBRID, *RECURRENT)
    assert fixed_cache(small_model(kind), 32) is None


def test_draws_are_those_of_today(recorder, monkeypatch):
    model = small_model("llama").eval()
    torch.manual_seed(5)
    expected = as_today(model, monkeypatch, temperature=1.0)
    torch.manual_seed(5)
    assert asked(model, temperature=1.0) == expected
    assert recorder[0].plays == NEW - 1


@pytest.mark.parametrize("fault", ["stale", "raises", "waits"])
def test_where_it_goes_wrong_answers_are_those_of_today(fault, recorder, monkeypatch, caplog):
    """A graph that never sees a new token, a recording that fails, a step that waits half-way."""
    model = small_model("mistral").eval()
    expected = as_today(model, monkeypatch)

    def refuse(step):
        raise RuntimeError("operation not permitted\nmore of it")

    def half_way(step):
        head, model.lm_head.forward = model.lm_head.forward, refuse
        try:
            return step()
        finally:
            model.lm_head.forward = head

    recorder.stale = fault == "stale"
    if fault == "raises":
        monkeypatch.setattr(step_graph, "record", refuse)
    if fault == "waits":
        monkeypatch.setattr(step_graph, "without_waiting", half_way)
    with caplog.at_level(logging.WARNING):
        assert asked(model) == expected
        assert asked(model) == expected
    (line,) = [record.getMessage() for record in caplog.records]
    why = "its numbers came out otherwise" if fault == "stale" else "operation not permitted"
    assert line.endswith(why)
    assert all(graph.given_back for graph in recorder)
    assert len(recorder) == (fault == "stale")


def test_a_step_of_another_form_is_not_played(recorder):
    """As of a mask that grows: nothing of it would be in the recorded step."""
    model = small_model("llama").eval()
    ids, cache = torch.tensor([[5, 6, 7]]), fixed_cache(model, 16)
    steps = step_graph.Steps(model, cache)
    with torch.no_grad():
        steps(input_ids=ids, past_key_values=cache)
        for at in range(2):
            steps(input_ids=ids[:, at : at + 1], past_key_values=cache)
        given = {"input_ids": ids[:, :1], "past_key_values": cache, "logits_to_keep": 1}
        steps(**given)
    assert recorder[0].plays == 2
    assert not steps.on


def test_a_card_that_runs_out_of_memory_is_asked_again(recorder, monkeypatch):
    model = small_model("llama").eval()
    expected = as_today(model, monkeypatch)
    record, full = step_graph.record, [True]

    def fills(step):
        if full.pop() if full else False:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return record(step)

    monkeypatch.setattr(step_graph, "record", fills)
    assert asked(model) == asked(model) == expected
    assert len(recorder) == 1
    assert model not in step_graph._refused


def test_a_model_is_left_as_it_was(recorder):
    """Also where answering fails, and where somebody else had hooked it."""
    model = small_model("llama").eval()
    own = model.forward
    model.forward = own

    def fails():
        with step_graph.steps_recorded(model, 8, NEW) as steps:
            raise KeyError(*steps)

    with pytest.raises(KeyError, match="past_key_values"):
        fails()
    assert vars(model)["forward"] is own


def test_few_tokens_and_a_cpu_are_not_worth_it():
    model = small_model("llama")
    with step_graph.steps_recorded(model, 8, 1000) as steps:
        assert steps == {}
    assert "forward" not in vars(model)


class Card:
    """What ``record`` asks of a card, for a recording that CUDA ends before its end."""

    def __init__(self, monkeypatch, ended):
        self.told, self.ended = [], ended
        say = self.told.append
        for name, answer in {
            "current_device": lambda: 0,
            "current_stream": lambda: "own stream",
            "set_stream": say,
            "graph_pool_handle": lambda: (0, 1),
            "CUDAGraph": lambda: self,
            "graph": lambda *given, **options: self,
            "default_generators": [self],
        }.items():
            monkeypatch.setattr(torch.cuda, name, answer)
        monkeypatch.setattr(step_graph, "_beside", lambda device: "other stream")
        monkeypatch.setattr(step_graph, "_broken", [])
        for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
            end = partial(lambda name, *where: say((name, *where)), name)
            monkeypatch.setattr(torch._C, name, end, raising=False)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if not self.ended:
            raise RuntimeError("capture was invalidated")

    def pool(self):
        if not self.ended:
            raise RuntimeError("Called CUDAGraph::pool() without a preceding successful capture.")

    def clone_state(self):
        return "state in no recording"

    graphsafe_set_state = property(lambda self: self.told.append)


def fails():
    raise RuntimeError("operation not permitted when stream is capturing")


def test_a_recording_that_broke_off_leaves_nothing_behind(monkeypatch):
    """Neither memory nor, with torch 2.11, a generator that draws no more."""
    card = Card(monkeypatch, ended=False)
    with pytest.raises(RuntimeError, match="invalidated"):
        step_graph.record(fails)
    assert card.told == [
        "own stream",
        ("_cuda_endAllocateToPool", 0, (0, 1)),
        ("_cuda_releasePool", 0, (0, 1)),
        "state in no recording",
    ]


def test_a_recording_that_came_to_its_end_is_left_to_its_graph(monkeypatch):
    """Whose memory would be given back twice, which ends the process."""
    card = Card(monkeypatch, ended=True)
    with pytest.raises(RuntimeError, match="not permitted"):
        step_graph.record(fails)
    assert card.told == ["own stream"]
