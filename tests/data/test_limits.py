"""How long an example may be, and what becomes of longer ones."""

from copy import deepcopy

import pytest

from dpo_lite.data.examples import Reason
from dpo_lite.data.limits import LEAST_WORDS
from dpo_lite.data.report import Drop
from dpo_lite.data.tokens import Encoder
from dpo_lite.errors import UserError
from tests.data.test_prepare import prepared, triples, write_rows


def of_lengths(first: int, end: int) -> list[dict]:
    return [{"prompt": "q" * n, "chosen": "good", "rejected": "bad"} for n in range(first, end)]


def test_max_length_auto_drops_nothing_of_short_data(tmp_path, chat_tokenizer):
    """200 rows, two of which are beyond the 99th percentile but short all the same."""
    data = prepared(write_rows(tmp_path / "a.jsonl", of_lengths(1, 201)), chat_tokenizer)
    assert Reason.TOO_LONG not in data.report.dropped
    assert data.max_length == 512


def test_max_length_auto_is_the_99th_percentile_up_to_the_models_limit(tmp_path, chat_tokenizer):
    path = write_rows(tmp_path / "a.jsonl", of_lengths(1, 30) + of_lengths(500, 671))
    data = prepared(path, chat_tokenizer)
    assert data.report.dropped[Reason.TOO_LONG].count in (1, 2)
    assert data.max_length == data.lengths.whole.max()
    limited = prepared(path, chat_tokenizer, model_limit=64)
    assert limited.max_length == 64
    assert limited.lengths.whole.max() <= 64
    with pytest.raises(UserError, match="over the base's limit of 64"):
        prepared(path, chat_tokenizer, max_length=65, model_limit=64)


def test_what_happens_to_the_long(tmp_path, chat_tokenizer):
    rows = [*triples(40), {"prompt": "dog " * 90 + "end", "chosen": "good", "rejected": "bad"}]
    rows.insert(3, {"prompt": "q", "chosen": "good " * 50, "rejected": "bad"})
    path = write_rows(tmp_path / "a.jsonl", rows)
    held_out = write_rows(tmp_path / "b.jsonl", triples(1))
    keys = {"max_length": 60, "eval": held_out}
    dropped = prepared(path, chat_tokenizer, **keys)
    assert dropped.report.dropped[Reason.TOO_LONG].rows == [3, 41]
    with pytest.raises(UserError, match=r"row 3 of .*over max_length 60 \(2 rows are\)"):
        prepared(path, chat_tokenizer, on_long="error", **keys)
    cut = prepared(path, chat_tokenizer, on_long="truncate_prompt_start", **keys)
    assert cut.report.dropped[Reason.TOO_LONG].rows == [3]  # a response is never cut
    assert cut.report.dropped[Reason.CUT].rows == [41]
    last = cut.train[len(cut.train) - 1]
    assert last["row"] == 41
    assert chat_tokenizer.decode(last["prompt_ids"]).endswith(
        "end<|im_end|>\n<|im_start|>assistant\n"
    )
    assert chat_tokenizer.decode(last["response_ids"][0]) == "good<|im_end|>"
    assert cut.lengths.whole.max() == 60
    assert cut.lengths.prompt[-1] == len(last["prompt_ids"])
    assert cut.train["row"] == sorted(cut.train["row"])
    assert cut.fingerprint != dropped.fingerprint


def test_a_cut_prompt_keeps_its_bos_and_some_of_its_words(tmp_path, chat_tokenizer):
    tokenizer = deepcopy(chat_tokenizer)
    tokenizer.bos_token = "<|pad|>"
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    rows = [*triples(20, "q")]
    rows.append({"prompt": "dog " * 90 + "end", "chosen": "good", "rejected": "bad"})
    path = write_rows(tmp_path / "a.jsonl", rows)
    held_out = write_rows(tmp_path / "b.jsonl", triples(1, "x"))
    keys = {"eval": held_out, "on_long": "truncate_prompt_start"}
    data = prepared(path, tokenizer, max_length=90, **keys)
    last = data.train[len(data.train) - 1]
    assert (last["row"], len(last["prompt_ids"]) + len(last["response_ids"][0])) == (20, 90)
    assert last["prompt_ids"][0] == tokenizer.bos_token_id
    assert tokenizer.decode(last["prompt_ids"]).count("dog") > 5
    whole = prepared(path, tokenizer, max_length=1000, **keys).train
    assert (
        last["prompt_ids"][1:]
        == whole[len(whole) - 1]["prompt_ids"][-len(last["prompt_ids"]) + 1 :]
    )
    # One token less, and too little of the user's words would be left.
    least = Encoder(tokenizer).opening + LEAST_WORDS + len(last["response_ids"][0])
    for most, lost in ((least, []), (least - 1, [20])):
        report = prepared(path, tokenizer, max_length=most, **keys).report
        assert [r for r in report.dropped.get(Reason.TOO_LONG, Drop()).rows if r == 20] == lost
