"""Every chat template and every kind of row: rendered whole, or dropped with the reason.

The oracle reads decoded ids and knows nothing of how the product checks itself (whole_rows.py).
"""

from functools import cache

import pytest

from dpo_lite.data.examples import Dropped, Reason
from dpo_lite.data.tokens import Encoder
from scripts.real_tokenizers import NAMES
from tests.data import whole_rows as whole
from tests.data.row_kinds import HARMLESS, KINDS, PLAIN, with_mark
from tests.data.tokenizers import TEMPLATES, tokenizer_for

SHIPPED = sorted(path.stem for path in TEMPLATES.glob("*.jinja"))
# One of each way: reasoning that stays, goes, is opened, has channels; few roles; parts; tools.
ONE_OF_EACH = {"deepseek_r1_distill", "gemma4_v5", "gptoss", "phi3", "qwen3", "smolvlm"}
HONEST = {Reason.TEMPLATE, Reason.UNSAID, Reason.SPECIAL, Reason.IDENTICAL}
MARKS = 12  # that are tried of a template


def tried(rows, encoder, tokenizer):
    """What became of the rows, after the oracle has looked at each."""
    numbered = list(rows.values())
    found = whole.encoded(numbered, encoder)
    twins = whole.encoded([whole.harmless(row) for row in numbered], encoder)
    plain = whole.encoded([PLAIN], encoder)[0]
    added = tokenizer.added_tokens_decoder
    marks = {i for i, token in added.items() if token.special}
    if not isinstance(plain, Dropped):
        between = [*plain.prompt_ids, *plain.response_ids[0]]
        marks |= {i for i in between if i in added and "<" in str(added[i])}
        marks -= {i for i in marks if "think>" in str(added[i])}  # where they go is the row's
    assert sorted(found) == list(range(len(numbered)))  # none vanished
    for number, (kind, row) in enumerate(rows.items()):
        check(kind, row, found[number], twins[number], tokenizer, marks)
    return dict(zip(rows, (found[number] for number in range(len(rows))), strict=True))


def check(kind, row, found, twin, tokenizer, marks):
    if isinstance(found, Dropped):
        assert found.reason in HONEST, kind
        assert found.detail, kind
        return
    assert found.response_ids[0] != found.response_ids[1], kind
    for place, key in enumerate(("chosen", "rejected")):
        answer, ids = row[key][0], [*found.prompt_ids, *found.response_ids[place]]
        text = whole.said(tokenizer, ids)
        thought = answer.get("reasoning_content", "")
        missing = whole.first_missing(
            text, row["prompt"], f"{thought} {answer['content']}", answer.get("tool_calls")
        )
        assert missing is None, f"{kind}: {missing} in {text!r}"
        contents = [turn["content"] for turn in [*row["prompt"], answer]]
        assert whole.rewritten(text, contents) is None, f"{kind}: {text!r}"
        assert whole.undescribed(text, row.get("tools", [])) is None, f"{kind}: {text!r}"
        if not isinstance(twin, Dropped):
            plain = [*twin.prompt_ids, *twin.response_ids[place]]
            same = whole.marks_in(ids, marks) == whole.marks_in(plain, marks)
            assert same, f"{kind}: {text!r}"


def whole_matrix(tokenizer):
    encoder = Encoder(tokenizer)
    became = tried({"plain": PLAIN, **KINDS}, encoder, tokenizer)
    if not isinstance(became["plain"], Dropped):
        lost = [kind for kind in HARMLESS if isinstance(became[kind], Dropped)]
        assert not lost
    marks = [str(token) for token in tokenizer.added_tokens_decoder.values()]
    written = [mark for mark in marks if mark.strip() and mark in tokenizer.chat_template]
    places = [(mark, with_mark(mark).items()) for mark in sorted(written, key=len)[-MARKS:]]
    rows = {f"{mark} in {place}": row for mark, some in places for place, row in some}
    tried(rows, encoder, tokenizer)
    return became


@cache
def small_tokenizer(name):
    return tokenizer_for(name)


def param(name):
    """All of them take half a minute, most of which transformers spends on reading templates."""
    return name if name in ONE_OF_EACH else pytest.param(name, marks=pytest.mark.long)


@pytest.mark.parametrize("name", [param(name) for name in SHIPPED])
def test_templates_that_trl_ships(name):
    became = whole_matrix(small_tokenizer(name))
    plain = became["plain"]
    assert not isinstance(plain, Dropped) or "reasoning" in plain.detail
    assert not isinstance(became["reasoning"], Dropped) or "reasoning" in became["reasoning"].detail


@pytest.mark.real
@pytest.mark.slow  # vocabularies of 100,000 to 260,000 words are read
@pytest.mark.parametrize("name", NAMES)
def test_published_tokenizers(real_tokenizer, name):
    became = whole_matrix(real_tokenizer(name))
    kept = {kind for kind, found in became.items() if not isinstance(found, Dropped)}
    assert {"plain", "system", "reasoning", "reasoning beside", "white space before"} <= kept
