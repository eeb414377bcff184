"""Continuations share their context, and score as each does alone."""

import pytest
import torch

from dpo_lite.errors import UserError
from dpo_lite.evaluate.continuations import Scorer, grouped
from dpo_lite.evaluate.forgetting import paragraphs, windows
from dpo_lite.model.stop_strings import cut_behind, stop_behind

PAIRS = [([5, 6, 7], [8]), ([5, 6, 7], [9, 10, 11]), ([4], [8, 9]), ([5, 6, 7], [8])]


@pytest.fixture(scope="module")
def model(tiny_base):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32).eval()


def test_each_scores_as_it_does_alone(model):
    done = []
    found = Scorer(model)(PAIRS, done.append)
    assert sum(done) == len(PAIRS)
    for (context, text), (logp, greedy) in zip(PAIRS, found, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([[*context, *text]])).logits[0]
        logits = logits[len(context) - 1 : -1].log_softmax(-1)
        truth = logits.gather(-1, torch.tensor(text)[:, None]).sum().item()
        assert logp == pytest.approx(truth, abs=1e-4)
        assert greedy == (logits.argmax(-1).tolist() == text)
    # What the model itself says next is the likeliest.
    with torch.no_grad():
        best = model(torch.tensor([[5, 6, 7]])).logits[0, -1].argmax().item()
    assert Scorer(model)([([5, 6, 7], [best])])[0][1]


def test_where_memory_runs_out_less_is_done_at_once(model, monkeypatch):
    import dpo_lite.evaluate.continuations as place

    scorer, made, real = Scorer(model, budget=1024), [], place.likeliest

    def narrow(model, batch, way):
        made.append(batch.input_ids.numel())
        if made[-1] > 300:
            raise torch.OutOfMemoryError("too many")
        return real(model, batch, way)

    pairs = [([5], [8 + n % 90] * (40 + n)) for n in range(20)]
    expected = Scorer(model)(pairs)
    monkeypatch.setattr(place, "likeliest", narrow)
    found = scorer(pairs)
    assert [logp for logp, _ in found] == pytest.approx([logp for logp, _ in expected], abs=1e-3)
    assert scorer.budget == 256
    monkeypatch.setattr(
        place, "likeliest", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError())
    )
    with pytest.raises(UserError, match="no room to score one text"):
        scorer(pairs)


def test_a_tree_is_no_larger_than_a_row():
    assert grouped(PAIRS, [0, 1, 2, 3], 100) == [[0, 1, 3], [2]]
    assert grouped(PAIRS, [0, 1, 2, 3], 6) == [[0], [1], [2], [3]]
    assert grouped(PAIRS, [0, 1, 3], 7) == [[0, 1], [3]]
    assert grouped(PAIRS, [1], 2) == [[1]]  # too long alone


def test_windows_score_each_token_once():
    assert windows([1, 2, 3, 4, 5], 9, 2) == [([9], [1, 2]), ([2], [3, 4]), ([4], [5])]
    assert windows([], 9, 2) == []


def test_a_text_is_its_paragraphs(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes(b"one\r\nmore\r\n\r\n\r\ntwo\n\n \n\nthree\n")
    assert paragraphs(file) == ["one\nmore", "two", "three"]
    assert paragraphs(file, 2) == ["one\nmore", "two"]
    file.write_text("one")
    with pytest.raises(UserError, match="no two paragraphs"):
        paragraphs(file)
    file.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UserError, match="UTF-8"):
        paragraphs(file)


def test_a_stop_text_is_looked_for_behind_the_prompt(chat_tokenizer):
    """A line break that the prompt ends with is no half of an empty line in the answer."""
    ids = [chat_tokenizer.encode(text) for text in ("cat\n", "\nit", "\n\nit")]
    stop = stop_behind(chat_tokenizer, ["\n\n", "xyz"])(len(ids[0]))
    assert not stop(torch.tensor([ids[0] + ids[1]]), None).any()
    assert stop(torch.tensor([ids[0] + ids[2]]), None).all()
    assert cut_behind("a.b,c", [",", "", "."]) == "a"
    assert cut_behind("abc", ["."]) == "abc"
