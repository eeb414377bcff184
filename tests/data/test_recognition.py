"""Which format a sample of rows has: recognised or asked for, never guessed."""

import pytest

from dpo_lite.data.recognition import recognise
from dpo_lite.errors import UserError
from tests.data.rows_of_formats import ASK, BAD, FIXTURES, GOOD, Q

TRIPLE, PAIR = FIXTURES["triples"], {"chosen": GOOD, "rejected": BAD}
CHAT = FIXTURES["conversations"]


@pytest.mark.parametrize(
    ("sample", "wanted", "name"),
    [
        ([TRIPLE | {"prompt": None}, TRIPLE], "auto", "triples"),
        ([{"prompt": Q, "completion": None, "label": True}, FIXTURES["kto"]], "raw", "kto"),
        ([FIXTURES["sft-completion"] | {"label": 1}], "sft-completion", "sft-completion"),
        (
            [TRIPLE | {"question": Q, "instruction": Q, "input": Q, "status": "x"}],
            "auto",
            "triples",
        ),
        ([CHAT | {"question": Q, "instruction": Q}], "auto", "conversations"),
    ],
)
def test_the_format_that_fits_all_rows_that_fit_any(sample, wanted, name):
    assert recognise(sample, wanted).name == name


@pytest.mark.parametrize(
    ("sample", "wanted", "words"),
    [
        (
            [PAIR],
            "auto",
            "without a `prompt` column.* never guessed .* Give the file such a `prompt`",
        ),
        ([PAIR | {"ask": Q}], "auto", r"never guessed .* data\.columns='\{prompt: ask\}'"),
        ([PAIR | {"prompt": None}], "auto", r"never guessed .*`prompt` \(empty\)"),
        (
            [{"text": Q, "better": GOOD, "worse": [1]}],
            "auto",
            r"`text` \(text\), `better` \(text\), `worse` \(a list of numbers\)\. The simplest is "
            r"triples .*data\.columns='\{prompt: text\}'.*data\.format",
        ),
        (
            [TRIPLE | {"prompt": 3}],
            "auto",
            "nearest is triples .*`prompt` is a number, not text",
        ),
        ([{**FIXTURES["kto"], "label": "?"}], "auto", "kto .*`label` is text, not true or false"),
        (
            [{**FIXTURES["sft-messages"], "label": "?"}],
            "auto",
            "nearest is kto-messages .*`label` is text, not true or false",
        ),
        (
            [{"prompt": Q, "responses": [GOOD, BAD]}],
            "auto",
            "nearest is ranking .*`scores` .*missing",
        ),
        ([{"prompt": None, "chosen": None}], "auto", "`prompt`, `chosen` are empty in the rows"),
        ([{}], "auto", "no columns"),
        (
            [TRIPLE | {"response_j": GOOD, "response_k": BAD, "question": Q}],
            "auto",
            "fit triples and stack-exchange-paired alike; .*data.format=triples",
        ),
        (
            [{"a": 1}, TRIPLE, TRIPLE, CHAT],
            "auto",
            "mixed: row 1 is triples, row 3 is conversations .*data.train.*data.format",
        ),
        ([TRIPLE], "tripels", "no tripels; did you mean triples?"),
        ([TRIPLE], "zzz", "there are triples, conversational"),
        (
            [PAIR],
            "triples",
            "data.format=triples needs .* missing or empty: `prompt`.*data.columns",
        ),
        ([TRIPLE], "ranking", "missing or empty: `responses`, `scores` or `ranks`"),
        (  # whose first would be the worst under the other name
            [{"prompt": Q, "responses": [GOOD, BAD], "rank": [1, 2]}],
            "auto",
            r"data.columns='\{ranks: rank\}'.* with `ranks` 1 is best",
        ),
        ([{"prompt": Q, "responses": [GOOD, BAD], "ratings": [9, 2]}], "auto", r"\{scores: rat"),
        ([{"conversations": [ASK], **PAIR}], "auto", r"data.columns='\{prompt: conversations\}'"),
        ([{key: {"0": text, "1": text} for key, text in TRIPLE.items()}], "auto", "orient='rec"),
        ([{"0": TRIPLE, "1": TRIPLE}], "auto", "one table by its columns or its index .*lines=Tr"),
        ([{key: [text, text] for key, text in TRIPLE.items()}], "auto", "one table by its columns"),
        ([{"columns": [*TRIPLE], "data": [[*TRIPLE.values()]]}], "auto", "one table by its colu"),
    ],
)
def test_errors_say_what_is_there_and_what_settles_it(sample, wanted, words):
    with pytest.raises(UserError, match=f"^some/file.csv: .*{words}") as caught:
        recognise(sample, wanted, "some/file.csv")
    assert len(str(caught.value)) < 700
    assert "\n" not in str(caught.value)
